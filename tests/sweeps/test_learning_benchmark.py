"""The learning benchmark: its arithmetic by hand, and real short trainings that go on where they stopped."""

from pathlib import Path

import pytest

from rllib_envs.evaluations import Evaluation
from sweeps.benchmarks import learning


def curve(*returns: float) -> learning.Curve:
    return tuple(Evaluation(1_000 * number, (value, value), ()) for number, value in enumerate(returns))


def test_scores_and_areas_follow_from_the_curves() -> None:
    curves = {
        ("sb3", "reacher_easy", 0): curve(0, 0, 400),
        ("sb3", "reacher_easy", 1): curve(0, 200, 400),
        ("ours", "reacher_easy", 0): curve(0, 400, 800),
        ("ours", "reacher_easy", 1): curve(0, 0, 200),
    }
    figures = learning.figures_of(curves)
    # trapezoids over two intervals, as shares of 1,000: (0 + 2 b + c) / 4
    assert [run["area"] for run in figures["runs"]] == pytest.approx([0.1, 0.2, 0.4, 0.05])
    assert [run["final_score"] for run in figures["runs"]] == pytest.approx([0.4, 0.4, 0.8, 0.2])
    assert figures["ratios"] == {"ours_over_sb3_area": pytest.approx(0.45 / 0.3)}
    # of the four pairs ours wins two
    assert figures["probability_that_area_is_above_sb3"]["ours"]["value"] == 0.5
    assert figures["final_score_iqm"]["ours"]["value"] == pytest.approx(0.5)


@pytest.mark.slow
def test_runs_that_are_finished_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"TOTAL_STEPS": 32, "EVALUATION_EVERY_STEPS": 32, "EVALUATION_EPISODES": 2, "LEARNING_STARTS": 16}
    for name, value in {**small, "BATCH": 8, "HIDDEN": (8,), "SEEDS": (0,), "TASKS": ("cartpole_swingup",)}.items():
        monkeypatch.setattr(learning, name, value)
    figures = learning.measure(tmp_path)
    assert [run["peer"] for run in figures["runs"]] == ["sb3", "ours", "ours_8_envs"]
    for run in figures["runs"]:
        assert run["steps"][0] == 0
        assert run["steps"][-1] >= 32
    # before any training the policies differ by their networks alone: ours do not differ from each other
    _, ours, ours_8_envs = (run["true_returns"][0] for run in figures["runs"])
    assert ours == ours_8_envs
    written = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/evaluations.jsonl")}
    assert len(written) == 3
    assert learning.measure(tmp_path) == figures
    assert {path: path.stat().st_mtime_ns for path in written} == written
