"""Conf files read from Python."""

from pathlib import Path

import pytest

from datamodules.conf import read_conf
from datamodules.errors import DataError, SettingsError
from datamodules.tasks import Task

TASK = """
name: pole
family: dm_control
simulator: cartpole-swingup
frames_per_step: 8
prompts: {goal: [an upright pole]}
"""


def written(folder: Path, content: str) -> Path:
    path = folder / "task.yaml"
    path.write_text(content)
    return path


def test_file_becomes_the_settings_it_holds(tmp_path: Path) -> None:
    task = read_conf(Task, written(tmp_path, TASK))
    assert (task.name, task.frames_per_step, task.prompts.goal) == ("pole", 8, ("an upright pole",))


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no file '.*nothing\.yaml'"):
        read_conf(Task, tmp_path / "nothing.yaml")


def test_unknown_field_is_named_with_its_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"task\.yaml does not hold a Task: .*frames_a_step"):
        read_conf(Task, written(tmp_path, TASK + "frames_a_step: 3\n"))


def test_value_out_of_range_is_refused_by_its_own_rule(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"episode_frames \(1001\) must be a multiple of frames_per_step \(8\)"):
        read_conf(Task, written(tmp_path, TASK + "episode_frames: 1001\n"))
