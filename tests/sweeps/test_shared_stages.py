"""Equal inputs, one folder, made once."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sweeps.journal import Made, Stage
from sweeps.shared_stages import SharedStage, shared_numbers, shared_stages


def no_work(*_: object) -> dict[str, Any]:
    return {}


def stages(seed: int = 0, backbone: str = "small", sentence: str = "a pole") -> list[Stage]:
    return [
        Stage("collect", "frames", {"task": "cartpole", "seed": seed}, no_work),
        Stage("label", "labels", {"teacher": "clip"}, no_work, (sentence,)),
        Stage("fit", "student", {"backbone": backbone}, no_work),
        Stage("train", "agent", {"gamma": 0.9}, no_work),
    ]


def names(root: Path, *some: Stage) -> dict[str, str]:
    return {stage: shared.name for stage, shared in shared_stages(root, root / "trial", some).items()}


def writer(folder: Path, calls: list[str]) -> Callable[[], dict[str, Any]]:
    def work() -> dict[str, Any]:
        calls.append("made")
        (folder / "file").write_text("made")
        return {"frames": 400}

    return work


def test_equal_inputs_mean_one_folder_and_what_differs_is_made_anew(tmp_path: Path) -> None:
    first = names(tmp_path, *stages())
    assert set(first) == {"collect", "label", "fit"}
    assert names(tmp_path, *stages()) == first
    assert names(tmp_path, *stages(sentence="another")) == first
    other = names(tmp_path, *stages(backbone="large"))
    assert {stage for stage in first if first[stage] != other[stage]} == {"fit"}
    later = names(tmp_path, *stages(seed=1))  # other frames mean other labels and another student
    assert {stage for stage in first if first[stage] != later[stage]} == {"collect", "label", "fit"}


def test_nothing_is_shared_without_a_place_or_where_a_trial_has_its_own(tmp_path: Path) -> None:
    assert shared_stages(None, tmp_path / "trial", stages()) == {}
    (tmp_path / "trial/frames").mkdir(parents=True)
    assert set(names(tmp_path, *stages())) == {"label", "fit"}


def test_the_second_trial_takes_what_the_first_made(tmp_path: Path) -> None:
    collect, calls = stages()[0], []
    for trial in (tmp_path / "trials/one", tmp_path / "trials/two"):
        shared = shared_stages(tmp_path / "shared", trial, [collect])["collect"]
        made = shared.make(collect, trial, writer(trial / "frames", calls), pytest.fail)
        assert (made.figures, made.shared) == ({"frames": 400}, shared.name)
        assert (trial / "frames/file").read_text() == "made"
        assert not (trial / "frames").readlink().is_absolute()
    assert calls == ["made"]


def test_sentences_that_are_missing_are_added_once(tmp_path: Path) -> None:
    calls: list[str] = []
    for trial, sentence in (("one", "a pole"), ("two", "a cart"), ("three", "a cart"), ("four", "a pole")):
        label = stages(sentence=sentence)[1]
        shared = SharedStage(tmp_path / "shared", "labels-0")
        shared.make(label, tmp_path / trial, writer(tmp_path / trial / "labels", calls), pytest.fail)
    assert calls == ["made", "made"]


def test_a_trial_waits_for_the_one_that_makes_it_and_takes_over_where_that_fails(tmp_path: Path) -> None:
    collect, shared = stages()[0], SharedStage(tmp_path / "shared", "frames-0")
    begun, waited, calls = threading.Event(), threading.Event(), list[str]()
    outcome: list[Made] = []

    def fail() -> dict[str, Any]:
        begun.set()
        assert waited.wait(20)
        raise RuntimeError("killed")

    def second() -> None:
        outcome.append(shared.make(collect, tmp_path / "two", writer(tmp_path / "two/frames", calls), waited.set))

    thread = threading.Thread(target=lambda: (begun.wait(20), second()))
    thread.start()
    with pytest.raises(RuntimeError, match="killed"):
        shared.make(collect, tmp_path / "one", fail, pytest.fail)
    thread.join(20)
    assert calls == ["made"]
    assert outcome[0].figures == {"frames": 400}


def test_a_folder_that_was_emptied_is_made_again(tmp_path: Path) -> None:
    collect, shared, calls = stages()[0], SharedStage(tmp_path / "shared", "frames-0"), []
    work = writer(tmp_path / "one/frames", calls)
    shared.make(collect, tmp_path / "one", work, pytest.fail)
    (tmp_path / "shared/frames-0/file").unlink()
    shared.make(collect, tmp_path / "one", work, pytest.fail)
    assert calls == ["made", "made"]


def test_numbers_are_made_once_for_equal_inputs(tmp_path: Path) -> None:
    made: list[int] = []

    def make() -> list[float]:
        made.append(1)
        return [1.5, float(len(made))]

    def numbers(root: Path | None, seed: int) -> list[float]:
        return shared_numbers(root, "random", {"seed": seed}, make, lambda: None)

    assert [numbers(tmp_path / "shared", seed) for seed in (0, 0, 1, 0)] == [[1.5, 1], [1.5, 1], [1.5, 2], [1.5, 1]]
    assert [numbers(None, 0), numbers(None, 0)] == [[1.5, 3], [1.5, 4]]
