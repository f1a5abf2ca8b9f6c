"""A network with its preprocessing inside."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

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


class Operations(TorchDispatchMode):
    """Notes the name of every operation of torch that runs in the block."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


def test_no_tensor_is_made_from_python_numbers_on_the_way_which_a_cuda_graph_could_not_record() -> None:
    network, card = made_student()
    with_frames, frames = FrameNetwork(network, card.pixels), torch.zeros((1, PIXELS, PIXELS, 3), dtype=torch.uint8)
    with torch.inference_mode(), Operations() as bare:
        to_model_input(frames)
    with torch.inference_mode(), Operations() as whole:
        with_frames(frames)
    made_from_data = "aten.lift_fresh.default"  # what torch.tensor ends with
    assert made_from_data in bare.names
    assert "aten.conv2d.default" in whole.names
    assert made_from_data not in whole.names


def test_a_copy_on_another_device_has_all_its_numbers_there() -> None:
    network, card = made_student()
    on_meta = FrameNetwork(network, card.pixels).to("meta")
    frames = torch.empty((2, PIXELS, PIXELS, 3), dtype=torch.uint8, device="meta")
    assert on_meta(frames).device.type == "meta"  # mixed devices are an error


def test_its_files_hold_nothing_but_the_networks_weights() -> None:
    network, card = made_student()
    assert all(name.startswith("network.") for name in FrameNetwork(network, card.pixels).state_dict())
