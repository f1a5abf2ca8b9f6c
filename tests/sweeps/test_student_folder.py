"""A student's folder as its page reads it."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datamodules.errors import DataError
from lightning_modules.student_scores import EPISODES
from sweeps.student_folder import read_student


def test_everything_that_the_fit_left_is_read(pair: Path) -> None:
    student = read_student(pair)
    assert (student.card.head, student.card.members) == ("embedding", 2)
    assert student.held_out.spread.max() > 0
    assert [epoch["epoch"] for epoch in student.result["curves"]] == [1, 2, 3]
    assert student.data_sets == 1
    assert student.episode_name(int(student.held_out.episode[0])) == f"episode {student.held_out.episode[0]}"


def test_episodes_of_several_tasks_are_called_by_their_task(both: Path) -> None:
    student = read_student(both)
    assert student.data_sets == 2
    names = {student.episode_name(number) for number in np.unique(student.held_out.episode).tolist()}
    of_walkers = {name for name in names if name.startswith("walker_walk ")}
    assert len(of_walkers) == 1  # one episode in ten is for testing
    assert len({name for name in names if name.startswith("cartpole_swingup ")}) == 2


def test_episodes_of_several_data_sets_of_one_task_are_told_apart(both: Path) -> None:
    student = read_student(both)
    student = replace(student, card=replace(student.card, targets=student.card.targets[:1]))
    assert student.episode_name(EPISODES + 7) == "episode 7 of data set 2"


@pytest.mark.parametrize("name", ["student.json", "held_out.npz", "result.json"])
def test_a_file_that_is_missing_is_named(single: Path, tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(single, tmp_path / "student"))
    (folder / name).unlink()
    with pytest.raises(DataError, match=name):
        read_student(folder)
