"""Matrix products inside the block are float32's, and outside everything is as it was."""

import torch

from rllib_envs.fast_products import FLOAT32_ERROR, fast_products


def test_products_keep_float32s_accuracy_in_all_the_shapes_of_an_update() -> None:
    generator = torch.Generator().manual_seed(1)
    for inputs, outputs in ((6, 256), (256, 256), (256, 1), (64, 12)):
        left = torch.randn(2, 256, inputs, generator=generator)
        right = torch.randn(2, inputs, outputs, generator=generator)
        bias = torch.randn(2, 1, outputs, generator=generator)
        with fast_products():
            product, gradient = torch.baddbmm(bias, left, right), torch.bmm(left.mT, torch.baddbmm(bias, left, right))
        exact = left.double() @ right.double() + bias.double()
        assert (product - exact).abs().max() < FLOAT32_ERROR
        torch.testing.assert_close(gradient, (left.mT.double() @ exact).float(), rtol=1e-4, atol=2e-2)


def test_the_setting_ends_with_the_block() -> None:
    products = torch.backends.mkldnn.matmul
    before = products.fp32_precision
    with fast_products():
        inside = products.fp32_precision
    assert products.fp32_precision == before
    assert inside in (before, "bf16")
