"""Progress where there is no terminal: lines on stderr."""

import re
import time

import pytest

from datamodules.progress import ProgressDisplay, progress_bar


def test_the_end_of_a_bar_is_always_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("label", "frames") as report:
        report(1, 1500, "")
        report(1500, 1500, "all shards")
    lines = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"label: 1,500/1,500 frames, [\d,.]+/s, 0 s passed, 0 s left all shards", lines[0])
    assert lines[1] == "label: done in 0 s"


def test_work_that_goes_on_counts_its_rate_from_where_it_stood(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("train", "steps") as report:
        report(9_900, 10_000, "")
        time.sleep(0.2)
        report(10_000, 10_000, "")
    rate = re.search(r"([\d,.]+)/s", capsys.readouterr().err)
    assert rate
    # 100 steps in at least .2 s; counted from 0 it would be near 50,000
    assert float(rate[1].replace(",", "")) <= 500


def test_stages_finished_before_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressDisplay({"collect": "frames", "label": "frames"}) as display:
        display.done_before("collect", "done before, in 12 s")
        with display.running("label") as report:
            report(1, 1, "")
    assert capsys.readouterr().err.splitlines()[0] == "collect: done before, in 12 s"


def test_an_error_leaves_the_bar_unfinished(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match="stopped"), progress_bar("fit", "batches"):
        raise RuntimeError("stopped")
    assert "done" not in capsys.readouterr().err
