"""The refinement benchmark: its arithmetic by hand, and one that is measured for real, small."""

import pytest

from sweeps.benchmarks import refinement


def test_the_plans_share_follows_from_one_look_and_the_replay_half_way() -> None:
    figures = refinement.figures_of(look=4.0, training=50.0, kept=20.0, drawn=90.0)
    # 100,000 decisions take 20 times 50 s; the plan's one look, at 50,000, takes 4 s and half a replay's 20 s
    assert figures["medians"]["training_100k_seconds"] == 1000.0
    assert figures["ratios"] == {"refinement_over_planned_training": pytest.approx(0.014)}


@pytest.mark.slow
def test_a_small_one_measures_all_it_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"STEPS": 1_200, "LOOK_AT": 600, "KEPT": 600, "DRAWN": 100, "DISTINCT": 300}.items():
        monkeypatch.setattr(refinement, name, value)
    figures = refinement.measure()
    assert all(seconds > 0 for seconds in figures["medians"].values())
    medians, (ratio,) = figures["medians"], figures["ratios"].values()
    assert ratio == pytest.approx(
        (medians["look_seconds"] + medians["relabel_100k_kept_seconds"] / 2) / medians["training_100k_seconds"]
    )
