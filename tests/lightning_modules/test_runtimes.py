"""Every runtime gives eager torch's numbers, for frames in any form, or says why it cannot."""

import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from datamodules.errors import DataError, MissingDependencyError, UnknownNameError
from datamodules.pixels import to_model_input
from lightning_modules.frame_network import FrameNetwork
from lightning_modules.onnx_export import export_onnx
from lightning_modules.runtimes import RUNTIMES, TOLERANCE, RuntimeName, available_runtimes, open_runtime
from lightning_modules.student_files import load_student

ROOT = Path(__file__).parents[2]
STUDENT, CARD = load_student(ROOT / "conf/student/cartpole_swingup")
PIXELS = CARD.pixels
FRAMES = np.kron(  # flat colours, as scenes have them
    np.random.default_rng(1).integers(0, 256, (17, 7, 7, 3), dtype=np.uint8),
    np.ones((1, PIXELS // 7, PIXELS // 7, 1), np.uint8),
)
NETWORK = FrameNetwork(STUDENT, PIXELS)
QUICK = [name for name in available_runtimes() if name != "cuda"]
with torch.inference_mode():
    EXPECTED = STUDENT(to_model_input(FRAMES)).numpy()


@cache
def onnx() -> bytes:
    return export_onnx(NETWORK)


def test_this_environment_has_the_runtimes_that_it_tests() -> None:
    assert {"torch", "onnx", "openvino"} <= set(QUICK)


@pytest.mark.parametrize("name", QUICK)
def test_numbers_are_those_of_eager_torch(name: RuntimeName) -> None:
    rewards = open_runtime(name, NETWORK, onnx)(FRAMES)
    assert (rewards.dtype, rewards.shape) == (np.float32, (17, 1))
    np.testing.assert_allclose(rewards, EXPECTED, rtol=0, atol=max(TOLERANCE[name], 1e-5))
    assert EXPECTED.std() > 4 * max(TOLERANCE.values())  # or the tolerance would say little


@pytest.mark.parametrize("name", QUICK)
def test_frames_may_lie_in_memory_as_they_like(name: RuntimeName) -> None:
    score = open_runtime(name, NETWORK, onnx)
    read_only = FRAMES[:4].copy()
    read_only.setflags(write=False)
    expected = score(FRAMES[:4])
    for frames in (
        read_only,
        np.asfortranarray(FRAMES[:4]),
        FRAMES[3::-1][::-1],
        np.repeat(FRAMES[:4], 2, axis=0)[::2],
    ):
        np.testing.assert_allclose(score(frames), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", QUICK)
def test_rewards_belong_to_the_caller(name: RuntimeName) -> None:
    score = open_runtime(name, NETWORK, onnx)
    first = score(FRAMES[:2])
    kept = first.copy()
    score(FRAMES[2:4])
    np.testing.assert_array_equal(first, kept)
    first += 1.0
    np.testing.assert_array_equal(score(FRAMES[:2]), kept)


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.parametrize("count", [0, 1, 3, 16])
def test_frames_keep_their_order_on_several_threads(name: RuntimeName, count: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        rewards = open_runtime(name, NETWORK, onnx)(FRAMES[:count])
    finally:
        torch.set_num_threads(before)
    np.testing.assert_allclose(rewards, EXPECTED[:count], rtol=0, atol=max(TOLERANCE[name], 1e-5))


class Embedding(nn.Module):
    """Three numbers a frame."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.mean((2, 3))


@pytest.mark.parametrize("name", QUICK)
def test_networks_may_give_embeddings(name: RuntimeName) -> None:
    network = FrameNetwork(Embedding().eval(), PIXELS)
    scores = open_runtime(name, network, lambda: export_onnx(network))(FRAMES)
    expected = (FRAMES.mean((1, 2)) / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(scores, expected, rtol=0, atol=max(TOLERANCE[name], 1e-5))


def test_unknown_runtime_offers_the_closest_name() -> None:
    with pytest.raises(UnknownNameError, match="unknown runtime 'openvini': did you mean 'openvino'"):
        open_runtime("openvini", NETWORK, onnx)


@pytest.mark.parametrize(("name", "package"), [("onnx", "onnxruntime"), ("openvino", "openvino")])
def test_missing_package_is_named_with_its_remedy(name: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        MissingDependencyError, match=rf"'{package}' is not installed: pip install onnx onnxruntime openvino"
    ):
        open_runtime(name, NETWORK, onnx)


def test_without_the_extra_torch_alone_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("onnxruntime", "openvino"):
        monkeypatch.setitem(sys.modules, package, None)
    assert [name for name in available_runtimes() if name != "cuda"] == ["torch"]


def test_other_numbers_than_torchs_are_refused() -> None:
    other = FrameNetwork(CARD.network().eval(), PIXELS)
    with pytest.raises(DataError, match=r"runtime 'onnx' is .* away from what torch gives.*0\.001 is allowed"):
        open_runtime("onnx", NETWORK, lambda: export_onnx(other))


@pytest.mark.parametrize("name", [name for name in QUICK if name != "torch"])
def test_what_a_runtime_cannot_read_is_our_error(name: str) -> None:
    with pytest.raises(DataError, match=f"runtime '{name}' cannot run this student .*: use runtime 'torch'"):
        open_runtime(name, NETWORK, lambda: b"no graph")


class NotANumber(nn.Module):
    """What a network with broken weights gives."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.mean((1, 2, 3)) * torch.nan


def test_students_that_give_nan_are_left_to_whoever_uses_them() -> None:
    network = FrameNetwork(NotANumber().eval(), PIXELS)
    assert np.isnan(open_runtime("torch", network, onnx)(FRAMES[:2])).all()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_without_a_gpu_is_refused() -> None:
    with pytest.raises(MissingDependencyError, match=r"runtime 'cuda' needs an NVIDIA GPU .*: use runtime 'auto'"):
        open_runtime("cuda", NETWORK, onnx)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_cuda_graphs_give_torchs_numbers() -> None:
    score = open_runtime("cuda", NETWORK, onnx)
    for count in (1, 5, 17):
        np.testing.assert_allclose(score(FRAMES[:count]), EXPECTED[:count], rtol=0, atol=TOLERANCE["cuda"])


def test_every_runtime_has_a_tolerance() -> None:
    assert TOLERANCE.keys() == set(RUNTIMES) == set(get_args(RuntimeName))


@pytest.mark.slow
def test_compiling_after_a_frame_was_drawn_does_not_crash(tmp_path: Path) -> None:
    """Mesa and Triton each bring an LLVM; and the numbers are those of torch for every batch size."""
    code = (
        "import numpy as np\n"
        "from datamodules.tasks import Prompts, Task\n"
        "from rllib_envs.simulators import make_simulator\n"
        "simulator = make_simulator(Task('pole', 'dm_control', 'cartpole-balance', Prompts(goal=('anything',))))\n"
        "simulator.reset(seed=0)\n"
        "simulator.render(32)\n"
        "from tests.lightning_modules.test_runtimes import EXPECTED, FRAMES, NETWORK, onnx, open_runtime\n"
        "score = open_runtime('compile', NETWORK, onnx)\n"
        "for count in (1, 4, 17):\n"
        "    np.testing.assert_allclose(score(FRAMES[:count]), EXPECTED[:count], atol=1e-4)\n"
        "simulator.render(32)\n"
        "print('alive')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False, timeout=240
    )
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr
