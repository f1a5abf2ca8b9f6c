"""Tasks that cannot be meant are refused, and ranges of scores survive JSON."""

import json
from dataclasses import asdict, replace

import pytest

from datamodules.errors import SettingsError
from datamodules.tasks import task_from_dict
from tests.data_sets import TASK


@pytest.mark.parametrize("ends", [(475.0, 22.0), (1.0, 1.0)])
def test_a_range_of_scores_rises(ends: tuple[float, float]) -> None:
    with pytest.raises(SettingsError, match=r"score_range is .* a higher one that scores 1"):
        replace(TASK, score_range=ends)


@pytest.mark.parametrize("ends", [None, (22.2, 475.0)])
def test_a_task_survives_json(ends: tuple[float, float] | None) -> None:
    task = replace(TASK, score_range=ends)
    assert task_from_dict(json.loads(json.dumps(asdict(task)))) == task


def test_a_task_written_before_there_were_scores_can_be_read() -> None:
    content = asdict(TASK)
    del content["score_range"]
    assert task_from_dict(content) == TASK
