"""A network with its preprocessing inside."""

import numpy as np
import torch

from datamodules.pixels import to_model_input
from lightning_modules.frame_network import FrameNetwork
from tests.lightning_modules.students import PIXELS, made_student


def test_frames_go_the_way_that_training_frames_went() -> None:
    network, card = made_student()
    frames = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, PIXELS, PIXELS, 3), dtype=np.uint8))
    with torch.inference_mode():
        expected = network(to_model_input(frames))
        torch.testing.assert_close(FrameNetwork(network, card.pixels)(frames), expected, rtol=1e-4, atol=1e-5)


def test_its_batch_normalisation_never_learns_though_an_export_restores_the_mode_it_found() -> None:
    network, card = made_student()
    with_frames = FrameNetwork(network, card.pixels)
    assert [name for name, module in with_frames.named_modules() if module.training] == []
