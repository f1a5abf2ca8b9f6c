"""`auto` times the runtimes once, remembers, and never takes one that gives other numbers."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lightning_modules import runtime_choice
from lightning_modules.frame_network import FrameNetwork
from lightning_modules.onnx_export import export_onnx
from lightning_modules.runtime_choice import cache_folder, machine_and_network, open_fastest
from lightning_modules.runtimes import available_runtimes
from lightning_modules.student_network import StudentNetwork
from tests.lightning_modules.students import PIXELS, made_student

NETWORK = FrameNetwork(made_student()[0], PIXELS)
FRAMES = np.random.default_rng(0).integers(0, 256, (3, PIXELS, PIXELS, 3), dtype=np.uint8)


def onnx() -> bytes:
    return export_onnx(NETWORK)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, and few rounds."""
    monkeypatch.setattr(runtime_choice, "ROUNDS", 3)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return cache_folder()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the runtimes that are opened, in order."""
    names: list[str] = []
    real = runtime_choice.open_runtime

    def recording(name: str, *arguments: Any) -> Any:
        names.append(name)
        return real(name, *arguments)

    monkeypatch.setattr(runtime_choice, "open_runtime", recording)
    return names


def remembered(folder: Path) -> tuple[Path, dict[str, Any]]:
    (path,) = folder.glob("*.json")
    return path, json.loads(path.read_text())


def pretend(folder: Path, **milliseconds: float) -> None:
    """Change what is remembered."""
    path, content = remembered(folder)
    content["milliseconds"] = {name: [value, value] for name, value in milliseconds.items()}
    path.write_text(json.dumps(content))


def test_all_that_is_installed_is_timed_at_the_sizes_that_matter(folder: Path) -> None:
    open_fastest(NETWORK, onnx)
    _, content = remembered(folder)
    assert content["batch_sizes"] == [1, 16]
    assert content["milliseconds"].keys() == set(available_runtimes())
    for one, sixteen in content["milliseconds"].values():
        assert min(one, sixteen) > 0


def test_outcome_is_remembered_and_only_the_fastest_is_opened(folder: Path, opened: list[str]) -> None:
    open_fastest(NETWORK, onnx)
    for name in ("torch", "onnx", "openvino"):
        pretend(folder, **{"torch": 2.0, "onnx": 2.0, "openvino": 2.0, name: 1.0})
        opened.clear()
        open_fastest(NETWORK, onnx)
        assert opened == [name]


def test_fastest_is_the_smallest_product_of_both_sizes(folder: Path, opened: list[str]) -> None:
    open_fastest(NETWORK, onnx)
    path, content = remembered(folder)
    path.write_text(json.dumps(content | {"milliseconds": {"torch": [1.0, 9.0], "onnx": [2.0, 4.0]}}))
    opened.clear()
    open_fastest(NETWORK, onnx)
    assert opened == ["onnx"]


def test_students_of_one_shape_share_what_is_remembered(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_fastest(NETWORK, onnx)
    monkeypatch.setattr(runtime_choice, "time_runtimes", None)  # would fail if it were called
    other = FrameNetwork(made_student(seed=1)[0], PIXELS)
    score = open_fastest(other, lambda: export_onnx(other))
    with torch.inference_mode():
        np.testing.assert_allclose(score(FRAMES), other(torch.from_numpy(FRAMES)).numpy(), atol=0.05)


def test_remembered_runtime_that_gives_other_numbers_is_passed_over(folder: Path, opened: list[str]) -> None:
    open_fastest(NETWORK, onnx)
    pretend(folder, torch=3.0, onnx=1.0, openvino=2.0)
    other = FrameNetwork(StudentNetwork("test_efficientnet", PIXELS, 8).eval(), PIXELS)
    opened.clear()
    score = open_fastest(NETWORK, lambda: export_onnx(other))
    assert opened == ["onnx", "openvino", "torch"]
    with torch.inference_mode():
        np.testing.assert_array_equal(score(FRAMES), NETWORK(torch.from_numpy(FRAMES)).numpy())


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        "{}",
        '{"milliseconds": {}}',
        '{"milliseconds": {"torch": [1.0, 2.0], "magic": [0.1, 0.1]}}',
        '{"milliseconds": {"torch": [1.0]}}',
        '{"milliseconds": {"torch": 1.0}}',
        '{"milliseconds": {"torch": ["fast", -1]}}',
    ],
)
def test_damaged_memory_is_made_anew(folder: Path, content: str) -> None:
    open_fastest(NETWORK, onnx)
    path, _ = remembered(folder)
    path.write_text(content)
    open_fastest(NETWORK, onnx)
    assert remembered(folder)[1]["milliseconds"].keys() == set(available_runtimes())


def test_machine_without_a_cache_folder_times_each_time(folder: Path) -> None:
    folder.parent.write_text("a file where the folder would be")
    assert open_fastest(NETWORK, onnx)(FRAMES).shape == (3, 1)


def test_torch_alone_is_not_timed(folder: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("onnxruntime", "openvino"):
        monkeypatch.setitem(sys.modules, package, None)
    open_fastest(NETWORK, onnx)
    assert opened == ["torch"]
    assert not folder.exists()


def test_network_that_onnx_does_not_have_is_run_by_torch(folder: Path) -> None:
    class Unknown(torch.nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return torch.special.i1(inputs).mean((1, 2, 3))

    network = FrameNetwork(Unknown().eval(), PIXELS)
    assert open_fastest(network, lambda: export_onnx(network))(FRAMES).shape == (3,)
    assert remembered(folder)[1]["milliseconds"].keys() == {"torch"}


def test_choice_depends_on_threads_size_and_layers_but_not_on_weights() -> None:
    mine = machine_and_network(NETWORK)
    assert machine_and_network(FrameNetwork(made_student(seed=1)[0], PIXELS)) == mine
    assert machine_and_network(FrameNetwork(made_student()[0], PIXELS + 2)) != mine
    assert machine_and_network(FrameNetwork(StudentNetwork("test_efficientnet", PIXELS, 9).eval(), PIXELS)) != mine
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        assert machine_and_network(NETWORK) != mine
    finally:
        torch.set_num_threads(before)
