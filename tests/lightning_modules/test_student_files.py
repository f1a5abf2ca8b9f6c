"""A student goes to disk and back; whatever is wrong with its files is said plainly."""

import json
import pickle
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from datamodules.errors import DataError, SettingsError, UnknownNameError
from lightning_modules.student_files import CARD, WEIGHTS, load_student, read_card, save_student
from tests.lightning_modules.students import FIDELITY, PIXELS, made_student


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_student(tmp_path, *made_student())
    return tmp_path


def edit(folder: Path, **changes: Any) -> None:
    content = json.loads((folder / CARD).read_text())
    content.update(changes)
    (folder / CARD).write_text(json.dumps(content))


def target(**changes: Any) -> dict[str, Any]:
    """A change of the card's only target."""
    (own,) = json.loads(json.dumps(asdict(made_student()[1])))["targets"]
    return {"targets": [{**own, **changes}]}


@pytest.mark.parametrize("kind", [{}, {"head": "embedding"}, {"members": 3}, {"members": 2, "shared_backbone": True}])
def test_student_comes_back_as_it_was(tmp_path: Path, kind: dict[str, Any]) -> None:
    folder = tmp_path
    network, card = made_student(**kind)
    save_student(folder, network, card)
    loaded, loaded_card = load_student(folder)
    assert loaded_card == card
    frames = torch.randn(4, 3, PIXELS, PIXELS)
    torch.testing.assert_close(loaded(frames), network(frames))


def test_files_are_json_and_safetensors_alone(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {CARD, WEIGHTS}
    assert json.loads((folder / CARD).read_text())["schema_version"] == 3
    assert load_file(folder / WEIGHTS).keys() == made_student()[0].state_dict().keys()


def test_saving_again_replaces_both_files(folder: Path) -> None:
    network, card = made_student(seed=1)
    save_student(folder, network, card)
    frames = torch.randn(2, 3, PIXELS, PIXELS)
    torch.testing.assert_close(load_student(folder)[0](frames), network(frames))


def test_one_of_several_tasks_must_be_named() -> None:
    _, card = made_student()
    two = replace(card, targets=(*card.targets, replace(card.targets[0], task="walk")))
    assert card.target_of() == card.target_of("cartpole_swingup") == two.target_of("cartpole_swingup")
    assert two.target_of("walk").task == "walk"
    with pytest.raises(SettingsError, match="several tasks: name one of cartpole_swingup, walk"):
        two.target_of()
    with pytest.raises(UnknownNameError, match="unknown task of a student 'run'"):
        two.target_of("run")


def test_folder_without_student_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no student \(student.json is missing\).*scripts.fit_student"):
        load_student(tmp_path)


def test_missing_weights_are_named(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    with pytest.raises(DataError, match=r"student\.safetensors is missing"):
        load_student(folder)


def test_truncated_weights_are_refused(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-100])
    with pytest.raises(DataError, match=r"student\.safetensors is damaged"):
        load_student(folder)


def test_pickled_weights_are_refused_and_never_run(folder: Path, tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "ran",)

    (folder / WEIGHTS).write_bytes(pickle.dumps(Harmful()))
    with pytest.raises(DataError, match=r"student\.safetensors is damaged"):
        load_student(folder)
    assert not (tmp_path / "ran").exists()


def test_weights_that_are_no_file_are_refused(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).mkdir()
    with pytest.raises(DataError, match=r"student\.safetensors is damaged"):
        load_student(folder)


def test_weights_that_are_not_finite_are_named(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    tensors["heads.0.2.bias"][0] = torch.nan
    save_file(tensors, folder / WEIGHTS)
    with pytest.raises(DataError, match=r"holds NaN or infinity in heads\.0\.2\.bias: fit it again"):
        load_student(folder)


def test_weights_of_another_shape_are_listed(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    tensors["heads.0.0.bias"] = torch.zeros(5)
    del tensors["heads.0.2.bias"]
    tensors["extra"] = torch.zeros(1, dtype=torch.int64)
    save_file(tensors, folder / WEIGHTS)
    with pytest.raises(DataError, match="in 3 tensors") as caught:
        load_student(folder)
    for line in (
        "heads.0.0.bias: float32 (5,) instead of float32 (8,)",
        "heads.0.2.bias: nothing instead of float32 (1,)",
        "extra: int64 (1,) instead of nothing",
    ):
        assert line in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema_version": 1}, "schema version 1, this code reads 3"),
        ({"wings": 2}, "wings: unexpected keyword argument"),
        (target(scales=[{"mean": 0.0}]), r"targets\.0\.scales\.0\.std: field required"),
        (target(scales=[{"mean": 0.0, "std": 0.0}]), "std above 0"),
        (target(scales=[{"mean": "a", "std": 1.0}]), r"targets\.0\.scales\.0\.mean: .* number, not 'a'"),
        (target(scales=[]), "has 0 scales and its teacher 1 CLIPs"),
        ({"targets": []}, "the number of targets is 0"),
        ({"fidelity": None}, "fidelity: "),
        (target(prompts={"goal": [], "baseline": [], "alpha": 0.0}), "prompts.goal is empty"),
        ({"pixels": "84"}, "pixels: input should be a valid integer, not '84'"),
        ({"pixels": 100_000}, "pixels is 100000, it must lie between 16 and 512"),
        ({"head_width": 0}, "head_width is 0, it must lie between 1"),
        ({"members": 33}, "members is 33, it must lie between 1 and 32"),
        ({"head": "tail"}, "head: input should be 'reward' or 'embedding', not 'tail'"),
        (target(prompts={"goal": "a", "baseline": [], "alpha": 0.0}), r"prompts\.goal: .* array, not 'a'"),
        (target(prompts={"goal": ["a"], "baseline": [1], "alpha": 0.0}), r"prompts\.baseline\.0: .* string, not 1"),
        (target(prompts={"goal": ["a"], "baseline": [], "alpha": 2.0}), "alpha is 2.0"),
        ({"fidelity": {**asdict(FIDELITY), "epic": "low"}}, r"fidelity\.epic: .* number, not 'low'"),
    ],
)
def test_wrong_cards_are_refused(folder: Path, changes: dict[str, Any], message: str) -> None:
    edit(folder, **changes)
    with pytest.raises(DataError, match=message):
        read_card(folder)


def test_card_that_is_no_json_is_refused(folder: Path) -> None:
    (folder / CARD).write_text("{")
    with pytest.raises(DataError, match=r"student\.json is not readable"):
        read_card(folder)


@pytest.mark.parametrize("backbone", ["test_efficientne", "hf_hub:somebody/something"])
def test_backbone_that_timm_does_not_have_is_named(folder: Path, backbone: str) -> None:
    edit(folder, backbone=backbone)
    with pytest.raises(UnknownNameError, match=f"unknown backbone '{backbone}'"):
        load_student(folder)
