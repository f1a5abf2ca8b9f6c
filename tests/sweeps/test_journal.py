"""What a trial remembers of its finished stages."""

import json
from pathlib import Path
from typing import Any

import pytest

from datamodules.errors import DataError
from sweeps.journal import Journal, Stage


def no_work(*_: object) -> dict[str, Any]:
    return {}


def stages(gamma: float = 0.99) -> list[Stage]:
    return [
        Stage("collect", "frames", {"task": {"name": "cartpole"}, "seed": 0}, no_work),
        Stage("train", "agent", {"sac": {"gamma": gamma, "hidden": (64, 64)}}, no_work),
        Stage("evaluate", "evaluation", {"episodes": 10}, no_work),
    ]


def finish(trial: Path, *finished: Stage) -> None:
    journal = Journal(trial)
    for stage in finished:
        (trial / stage.folder).mkdir(parents=True)
        journal.begin(stage)
        journal.finish(stage, {"made": stage.name}, 1.5)


def names(unfinished: list[Stage]) -> list[str]:
    return [stage.name for stage in unfinished]


def test_a_new_trial_has_everything_to_do(tmp_path: Path) -> None:
    assert names(Journal(tmp_path).unfinished(stages())) == ["collect", "train", "evaluate"]
    assert list(tmp_path.iterdir()) == []


def test_finished_stages_are_remembered_by_another_process(tmp_path: Path) -> None:
    finish(tmp_path, *stages()[:2])
    journal = Journal(tmp_path)
    assert names(journal.unfinished(stages())) == ["evaluate"]
    assert journal.figures("train") == {"made": "train"}
    assert journal.figures("evaluate") == {}
    assert journal.seconds() == {"collect": 1.5, "train": 1.5}


def test_a_stage_that_was_begun_twice_says_so(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.begin(stages()[0])
    Journal(tmp_path).begin(stages()[0])
    assert Journal(tmp_path).attempts() == {"collect": 2}


def test_other_settings_are_refused_and_named_with_the_folders_to_remove(tmp_path: Path) -> None:
    finish(tmp_path, *stages())
    with pytest.raises(
        DataError, match=r"'train' made otherwise: there sac\.gamma is 0\.99, here it is 0\.9"
    ) as failure:
        Journal(tmp_path).unfinished(stages(gamma=0.9))
    assert f"remove {tmp_path}/agent and {tmp_path}/evaluation" in str(failure.value)
    assert "frames" not in str(failure.value)


def test_a_removed_folder_makes_its_stage_unfinished(tmp_path: Path) -> None:
    finish(tmp_path, *stages())
    (tmp_path / "evaluation").rmdir()
    assert names(Journal(tmp_path).unfinished(stages())) == ["evaluate"]


def test_what_was_made_from_a_removed_stage_is_not_taken_for_finished(tmp_path: Path) -> None:
    finish(tmp_path, *stages())
    (tmp_path / "agent").rmdir()
    with pytest.raises(DataError, match=f"lacks the stage 'train'.*remove {tmp_path}/evaluation"):
        Journal(tmp_path).unfinished(stages())


def test_a_stage_that_is_done_again_and_stopped_is_unfinished(tmp_path: Path) -> None:
    finish(tmp_path, *stages())
    (tmp_path / "evaluation").rmdir()
    Journal(tmp_path).begin(stages()[2])
    (tmp_path / "evaluation").mkdir()  # what the stopped attempt left
    assert names(Journal(tmp_path).unfinished(stages())) == ["evaluate"]


def test_the_mlflow_run_is_remembered(tmp_path: Path) -> None:
    assert Journal(tmp_path).run_id is None
    Journal(tmp_path).run_id = "abc"
    assert Journal(tmp_path).run_id == "abc"
    assert json.loads((tmp_path / "trial.json").read_text())["run_id"] == "abc"
