"""A learning curve read from its file."""

from pathlib import Path

import pytest

from datamodules.errors import DataError
from rllib_envs.evaluations import Evaluation, read_evaluations


def test_lines_come_in_order_of_steps_with_what_each_has(tmp_path: Path) -> None:
    path = tmp_path / "evaluations.jsonl"
    path.write_text(
        '{"steps": 10, "true_returns": [1.5, 2], "learned_returns": [0.5, 1], "teacher_returns": [3, 4]}\n'
        '\n{"steps": 0, "true_returns": [1.0]}\n'
    )
    assert read_evaluations(path) == (
        Evaluation(0, (1.0,), ()),
        Evaluation(10, (1.5, 2.0), (0.5, 1.0), (3.0, 4.0)),
    )


def test_no_file_is_no_curve(tmp_path: Path) -> None:
    assert read_evaluations(tmp_path / "evaluations.jsonl") == ()


@pytest.mark.parametrize("line", ['{"steps": 0, "true_ret', '{"steps": 0}'])
def test_a_damaged_line_is_named(line: str, tmp_path: Path) -> None:
    (tmp_path / "evaluations.jsonl").write_text(line)
    with pytest.raises(DataError, match=r"evaluations\.jsonl cannot be read"):
        read_evaluations(tmp_path / "evaluations.jsonl")
