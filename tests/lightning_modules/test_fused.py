"""Folding batch normalisation changes nothing but the number of layers."""

from typing import Any

import pytest
import torch
from torch import nn

from lightning_modules.fused import fuse_batch_norm
from lightning_modules.student_network import StudentNetwork


def trained_like(backbone: str, **kind: Any) -> StudentNetwork:
    """A network whose normalisation statistics are not those of a fresh one."""
    torch.manual_seed(0)
    network = StudentNetwork(backbone, 32, 8, **kind)
    for _ in range(3):
        network(2 + torch.randn(8, 3, 32, 32))
    return network.eval()


def count(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@pytest.mark.parametrize("backbone", ["test_efficientnet", "test_resnet", "mobilenetv3_small_050", "resnet18"])
def test_outputs_stay_the_same_without_batch_norm(backbone: str) -> None:
    network = trained_like(backbone)
    frames = torch.randn(4, 3, 32, 32)
    expected = network(frames)
    fused = fuse_batch_norm(network)
    assert count(network) > 0
    assert count(fused) == 0
    torch.testing.assert_close(fused(frames), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(network(frames), expected)  # the original is as it was


@pytest.mark.parametrize("kind", [{"dims": (5, 3)}, {"members": 2}, {"members": 2, "shared_backbone": True}])
def test_embedding_heads_and_ensembles_are_folded_too(kind: dict[str, Any]) -> None:
    network = trained_like("test_efficientnet", **kind)
    frames = torch.randn(4, 3, 32, 32)
    fused = fuse_batch_norm(network)
    assert count(fused) == 0
    torch.testing.assert_close(fused(frames), network(frames), rtol=1e-4, atol=1e-5)


def test_network_without_batch_norm_is_left_alone() -> None:
    network = trained_like("test_vit")
    frames = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(fuse_batch_norm(network)(frames), network(frames))


class TwoUses(nn.Module):
    """A convolution with and without normalisation after it: folding it would change the second use."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        normed: torch.Tensor = self.norm(self.conv(inputs))
        return normed + self.conv(inputs)


def test_convolution_used_twice_is_not_folded() -> None:
    torch.manual_seed(0)
    network = TwoUses()
    network(2 + torch.randn(8, 3, 4, 4))
    frames = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(fuse_batch_norm(network.eval())(frames), network(frames))


class Undecided(nn.Module):
    """A network whose path depends on its input."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs if inputs.sum() > 0 else -inputs


def test_network_that_cannot_be_traced_is_returned_itself() -> None:
    network = Undecided().eval()
    assert fuse_batch_norm(network) is network
