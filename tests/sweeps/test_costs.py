"""Costs in words and as metrics, of new results and of those that knew less."""

from pathlib import Path

from datamodules.results import read_json, write_json
from sweeps.costs import cost_metrics, cost_rows
from sweeps.report import write_report
from sweeps.trial_files import read_trial

NEW = ("cost_shares", "reward_latency", "peak_memory_gib", "peak_gpu_memory_gib")


def test_latency_and_memory_are_on_the_page(trial: Path) -> None:
    rows = {name: (figure, meaning) for name, figure, meaning in cost_rows(read_trial(trial))}
    assert rows["Reward, a call"] == (
        "2.10 ms",
        "median of 1,500; 8 frames a call; 95 % stay below 4.80 ms, 99 % below 15.2 ms",
    )
    assert rows["Peak memory"][0] == "1.23 GiB"
    assert "Peak GPU memory" not in rows


def test_every_cost_is_a_metric(trial: Path) -> None:
    metrics = cost_metrics(read_json(trial / "agent" / "result.json"))
    assert sum(value for name, value in metrics.items() if name.endswith("_share")) == 1.0
    assert metrics["cost/render_share"] == 42.0 / 218.25
    assert (metrics["cost/reward_p50_seconds"], metrics["cost/reward_p99_seconds"]) == (0.0021, 0.0152)
    assert metrics["cost/peak_memory_gib"] == 1.234
    assert "cost/peak_gpu_memory_gib" not in metrics


def test_results_of_before_are_shown_without_what_they_do_not_know(trial: Path) -> None:
    path = trial / "agent" / "result.json"
    write_json(path, {name: value for name, value in read_json(path).items() if name not in NEW})
    assert cost_metrics(read_json(path)) == {}
    names = [name for name, _, _ in cost_rows(read_trial(trial))]
    assert names == ["Teacher queries", "Agent steps", "Queries saved", "Speed"]
    assert "Speed" in write_report(trial).read_text()
