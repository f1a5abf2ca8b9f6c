"""Reading a trial's folder: what is there, what is not, and what is damaged."""

from pathlib import Path

import numpy as np
import pytest

from datamodules.errors import DataError
from sweeps.trial_files import read_trial


def test_a_finished_trial_is_read_whole(trial: Path) -> None:
    files = read_trial(trial)

    assert files.held_out is not None
    assert files.held_out.teacher.shape == files.held_out.step.shape == (300,)
    assert files.held_out.top_frames.shape == files.held_out.bottom_frames.shape == (8, 84, 84, 3)
    assert files.held_out.teacher[files.held_out.top[0]] == files.held_out.teacher.max()
    assert files.held_out.teacher[files.held_out.bottom[0]] == files.held_out.teacher.min()
    assert [evaluation.steps for evaluation in files.evaluations] == list(range(0, 12_001, 1_500))
    assert files.reward == "student"
    assert files.video is not None


def test_a_folder_without_a_trial_names_the_command_to_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no result\.json.*scripts\.run_trial"):
        read_trial(tmp_path)


@pytest.mark.parametrize(
    "name", ["result.json", "student/student.json", "student/held_out.npz", "agent/evaluations.jsonl"]
)
def test_a_damaged_file_is_named(trial: Path, name: str) -> None:
    content = (trial / name).read_bytes()
    (trial / name).write_bytes(content[: len(content) // 2 - 1])

    with pytest.raises(DataError, match=name.rsplit("/", maxsplit=1)[-1]):
        read_trial(trial)


def test_arrays_that_would_run_code_are_refused(trial: Path) -> None:
    np.savez(trial / "student" / "held_out.npz", student=np.array([{"a": 1}], dtype=object))

    with pytest.raises(DataError, match=r"held_out\.npz"):
        read_trial(trial)
