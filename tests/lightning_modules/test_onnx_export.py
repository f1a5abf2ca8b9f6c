"""A student as ONNX: every backbone goes through, and the file never belongs to other weights."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from datamodules.errors import MissingDependencyError, SettingsError
from lightning_modules.frame_network import FrameNetwork
from lightning_modules.onnx_export import export_onnx, recorded_digest, student_digest, student_onnx
from lightning_modules.runtimes import largest_difference, open_runtime
from lightning_modules.student_files import ONNX, load_student, save_student
from lightning_modules.student_network import StudentNetwork
from tests.lightning_modules.students import made_student

onnxruntime = pytest.importorskip("onnxruntime")


def with_frames(folder: Path) -> FrameNetwork:
    network, card = load_student(folder)
    return FrameNetwork(network, card.pixels)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_student(tmp_path, *made_student())
    return tmp_path


def test_file_is_written_beside_the_student_and_read_again(folder: Path) -> None:
    content = student_onnx(folder, with_frames(folder))
    assert (folder / ONNX).read_bytes() == content
    assert recorded_digest(content) == student_digest(folder)
    written = (folder / ONNX).stat().st_mtime_ns
    assert student_onnx(folder, with_frames(folder)) == content
    assert (folder / ONNX).stat().st_mtime_ns == written


def test_file_of_other_weights_is_replaced(folder: Path) -> None:
    old = student_onnx(folder, with_frames(folder))
    save_student(folder, *made_student(seed=1))
    assert not (folder / ONNX).exists()
    (folder / ONNX).write_bytes(old)  # as if it had been copied there
    new = student_onnx(folder, with_frames(folder))
    assert recorded_digest(new) == student_digest(folder) != recorded_digest(old)
    open_runtime("onnx", with_frames(folder), lambda: new)  # which refuses other numbers than the student's


@pytest.mark.parametrize("kept_bytes", [0, 1000, -200])
def test_truncated_file_is_replaced(folder: Path, kept_bytes: int) -> None:
    content = student_onnx(folder, with_frames(folder))
    (folder / ONNX).write_bytes(content[:kept_bytes])
    assert student_onnx(folder, with_frames(folder)) == content
    assert (folder / ONNX).read_bytes() == content


def test_folder_that_cannot_be_written_is_good_enough(folder: Path) -> None:
    (folder / ONNX).mkdir()  # nothing can be written there, not even by root
    assert recorded_digest(student_onnx(folder, with_frames(folder))) == student_digest(folder)


def test_graph_takes_frames_of_any_batch_size() -> None:
    network, card = made_student()
    session = onnxruntime.InferenceSession(export_onnx(FrameNetwork(network, card.pixels)))
    (frames,), (outputs,) = session.get_inputs(), session.get_outputs()
    assert (frames.name, frames.type, frames.shape) == (
        "frames",
        "tensor(uint8)",
        ["batch", card.pixels, card.pixels, 3],
    )
    assert (outputs.name, outputs.type, outputs.shape) == ("outputs", "tensor(float)", ["batch", 1])


class Embedding(nn.Module):
    """A head of several numbers a frame."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.mean((2, 3))


def test_networks_may_give_embeddings() -> None:
    network = FrameNetwork(Embedding().eval(), 8)
    content = export_onnx(network)
    scores = open_runtime("onnx", network, lambda: content)(np.full((5, 8, 8, 3), 255, np.uint8))
    # white, in units of ImageNet's deviation from its mean
    np.testing.assert_allclose(
        scores, np.tile((1 - np.array([0.485, 0.456, 0.406])) / [0.229, 0.224, 0.225], (5, 1)), rtol=1e-5
    )


class Attention(nn.Module):
    """torch's own attention, which takes a fused operation in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(12, 2, batch_first=True)

    def forward(self, inputs: Tensor) -> Tensor:
        tokens = inputs.reshape(inputs.shape[0], 16, 12)
        return self.attention(tokens, tokens, tokens, need_weights=False)[0].mean((1, 2))


def test_attention_is_exported_whether_or_not_gradients_are_on() -> None:
    torch.manual_seed(0)
    network = FrameNetwork(Attention().eval().requires_grad_(False), 8)
    with torch.no_grad():
        content = export_onnx(network)
    assert torch.backends.mha.get_fastpath_enabled()
    assert largest_difference(open_runtime("onnx", network, lambda: content), network) < 1e-4


class Unknown(nn.Module):
    """Uses an operation that ONNX does not have."""

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.special.i1(inputs).mean((1, 2, 3))


def test_operation_that_onnx_lacks_is_named() -> None:
    with pytest.raises(SettingsError, match=r"cannot be exported to ONNX \(.*special_i1.*\): use runtime 'torch'"):
        export_onnx(FrameNetwork(Unknown().eval(), 8))


def test_without_onnx_the_message_says_how_to_get_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingDependencyError, match=r"'onnx' is not installed: pip install onnx onnxruntime openvino"):
        student_onnx(folder, with_frames(folder))


BACKBONES = (
    "efficientnet_b0",
    "mobilenetv3_large_100",
    "mobilenetv3_small_100",
    "mobilenetv3_small_050",
    "mobilenetv4_conv_small",
    "mobilenetv4_conv_small_035",
    "resnet18",
    "vit_tiny_patch16_224",
    "test_efficientnet",
)


@pytest.mark.slow
@pytest.mark.parametrize("backbone", BACKBONES)
def test_backbone_gives_the_same_numbers_as_a_graph(backbone: str) -> None:
    torch.manual_seed(0)
    network = StudentNetwork(backbone, 84)
    network.heads[0][2].weight.data *= 100  # differences would vanish in the small outputs of an unfitted head
    with_84 = FrameNetwork(network.eval(), 84)
    content = export_onnx(with_84)
    for runtime in ("onnx", "openvino"):
        open_runtime(runtime, with_84, lambda: content)  # which refuses other numbers than torch's
