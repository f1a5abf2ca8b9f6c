"""Statistics over runs against scipy, against values by hand and against what a known distribution must give."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from datamodules.errors import DataError
from sweeps.run_statistics import (
    chance_of_as_high,
    interquartile_mean,
    optimality_gap,
    over_runs,
    performance_profile,
    probability_of_improvement,
    ratio_of,
)

SCORES = {"walk": [0.1, 0.9, 0.4, 0.8, 0.5], "stand": [0.95, 1.0, 0.2, 0.97, 0.99]}
OTHERS = {"walk": [0.3, 0.2, 0.4, 0.6], "stand": [0.96, 0.5, 0.99, 0.7]}


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_interquartile_mean_leaves_out_the_outer_quarters() -> None:
    # by hand: of eight values two go at each end, and the mean of 2, 3, 4, 5 is 3.5
    assert interquartile_mean(np.array([1000.0, 1, 2, 3, 4, 5, 6, -50])) == 3.5
    # of ten values scipy and rliable leave out two (2.5 rounded down) at each end
    values = np.random.default_rng(1).normal(size=10)
    assert interquartile_mean(values) == pytest.approx(np.sort(values)[2:8].mean())


def test_interquartile_mean_pools_the_runs_of_all_tasks() -> None:
    found = over_runs(SCORES, interquartile_mean, generator())

    # rliable: scipy.stats.trim_mean(scores, proportiontocut=0.25, axis=None)
    assert found.value == pytest.approx(stats.trim_mean(np.array(list(SCORES.values())), 0.25, axis=None))
    assert found.low <= found.value <= found.high


def test_a_ratio_is_that_of_both_statistics_and_its_interval_that_of_both_sides() -> None:
    one, other = {"a": [2.0, 2.0], "b": [4.0]}, {"a": [4.0, 8.0], "b": [6.0]}
    found = ratio_of(one, other, lambda scores: scores.mean(axis=-1), generator())
    assert found is not None
    assert found.value == pytest.approx((8 / 3) / 6)
    # by hand: task a's mean over the other side's is 4 to 8, so the sum of its three runs is 14 to 22
    assert (found.low, found.high) == (pytest.approx(8 / 22), pytest.approx(8 / 14))
    assert ratio_of(one, {"a": [-1.0, 0.0], "b": [0.0]}, lambda scores: scores.mean(axis=-1), generator()) is None


def test_optimality_gap_ignores_what_lies_above_the_goal() -> None:
    # by hand: (0.5 + 0 + 0 + 1) / 4
    assert optimality_gap(np.array([0.5, 1.0, 7.0, 0.0])) == pytest.approx(0.375)
    assert optimality_gap(np.array([50.0, 200.0]), goal=100.0) == pytest.approx(25.0)


def test_interval_of_a_mean_has_the_spread_of_runs_within_tasks_only() -> None:
    """Resampled means of tasks kept apart vary with sqrt(sum of n times variance) / N, however far apart the tasks."""
    runs = {"low": generator(1).normal(0, 1, 40), "high": generator(2).normal(1000, 3, 60)}

    found = over_runs(runs, lambda scores: scores.mean(axis=-1), generator(3))

    spread = np.sqrt(40 * runs["low"].var() + 60 * runs["high"].var()) / 100
    assert found.low == pytest.approx(found.value - 1.96 * spread, abs=0.02)
    assert found.high == pytest.approx(found.value + 1.96 * spread, abs=0.02)


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    """Half of a normal distribution's middle lies around its mean, so the true interquartile mean is known."""
    draws, covered = generator(4), 0
    for _ in range(150):
        runs = {task: draws.normal(middle, 0.1, 10) for task, middle in (("a", 0.5), ("b", 0.5), ("c", 0.5))}
        found = over_runs(runs, interquartile_mean, draws)
        covered += found.low <= 0.5 <= found.high
    # 30 runs: a percentile interval falls a little short of 95 %; 150 trials have a standard error of 2 points
    assert 0.88 <= covered / 150 <= 0.99


def test_profile_is_the_share_above_each_threshold() -> None:
    found = performance_profile(SCORES, [0.0, 0.5, 0.95, 1.0], generator())

    # by hand, strictly above: all ten; 0.9 0.8 and 0.95 1 0.97 0.99; 1 0.97 0.99; none
    assert found.share.tolist() == [1.0, 0.6, 0.3, 0.0]
    assert (found.low <= found.share).all()
    assert (found.share <= found.high).all()
    assert (found.low[0], found.high[0], found.low[3], found.high[3]) == (1, 1, 0, 0)


def test_profile_interval_is_binomial_where_there_is_one_task() -> None:
    runs = np.repeat([0.0, 1.0], [30, 70])

    found = performance_profile({"task": runs}, [0.5], generator())

    low, high = stats.binom.ppf([0.025, 0.975], 100, 0.7) / 100
    assert found.low[0] == pytest.approx(low, abs=0.011)
    assert found.high[0] == pytest.approx(high, abs=0.011)


def test_probability_of_improvement_is_mann_and_whitneys_statistic_averaged_over_tasks() -> None:
    found = probability_of_improvement(SCORES, OTHERS, generator())

    shares = [stats.mannwhitneyu(SCORES[task], OTHERS[task]).statistic / (5 * 4) for task in SCORES]
    assert found.value == pytest.approx(np.mean(shares))
    # and by counting pairs, ties a half
    pairs = list(product(SCORES["walk"], OTHERS["walk"]))
    assert shares[0] == sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs) / len(pairs)


def test_probability_of_improvement_of_equal_sides_is_a_half_and_of_clear_ones_is_certain() -> None:
    tied = probability_of_improvement({"t": [1.0, 1.0]}, {"t": [1.0, 1.0, 1.0]}, generator())
    assert (tied.value, tied.low, tied.high) == (0.5, 0.5, 0.5)
    clear = probability_of_improvement({"t": [2.0, 3.0]}, {"t": [1.0, 0.0]}, generator())
    assert (clear.value, clear.low, clear.high) == (1.0, 1.0, 1.0)
    mirrored = probability_of_improvement(OTHERS, SCORES, generator())
    assert mirrored.value == pytest.approx(1 - probability_of_improvement(SCORES, OTHERS, generator()).value)


def test_chance_of_as_many_wins_is_the_exact_test_of_mann_and_whitney_on_one_task() -> None:
    pairs = ([4.0, 5, 6], [1.0, 2, 3]), ([3.0, 5, 6], [1.0, 2, 4]), (SCORES["walk"], [0.3, 0.2, 0.45, 0.6])
    for first, second in pairs:
        expected = stats.mannwhitneyu(first, second, alternative="greater", method="exact").pvalue
        assert chance_of_as_high({"t": first}, {"t": second}, generator()) == pytest.approx(expected)


def test_chance_multiplies_over_tasks_and_counts_ties() -> None:
    first, second = {"a": [2.0, 3], "b": [2.0, 3]}, {"a": [0.0, 1], "b": [0.0, 1]}
    assert chance_of_as_high(first, second, generator()) == 1 / 36  # 1 way in 6 on each
    assert chance_of_as_high({"t": [1.0, 1]}, {"t": [1.0, 1, 1]}, generator()) == 1.0


def test_chance_of_many_runs_is_drawn() -> None:
    first, second = np.arange(10.0) + 3.5, np.arange(10.0)
    expected = stats.mannwhitneyu(first, second, alternative="greater", method="exact").pvalue
    assert chance_of_as_high({"t": first}, {"t": second}, generator()) == pytest.approx(expected, abs=0.004)


def test_interval_of_improvement_resamples_both_sides() -> None:
    first, second = generator(5).normal(0.3, 1, 30), generator(6).normal(0, 1, 40)

    found = probability_of_improvement({"t": first}, {"t": second}, generator(7))

    scipys = stats.bootstrap(
        (first, second),
        lambda one, other, axis: stats.mannwhitneyu(one, other, axis=axis).statistic / (30 * 40),
        n_resamples=2000,
        method="percentile",
        rng=np.random.default_rng(8),
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((scipys.low, scipys.high), abs=0.015)


def test_only_the_generator_decides_the_interval() -> None:
    first = over_runs(SCORES, interquartile_mean, generator(1))
    assert first == over_runs(SCORES, interquartile_mean, generator(1))
    assert first != over_runs(SCORES, interquartile_mean, generator(2))


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ({}, "no scores"),
        ({"walk": []}, "'walk' have shape"),
        ({"walk": [[1.0]]}, "'walk' have shape"),
        ({"walk": [1.0, float("nan")]}, "must not be left out"),
    ],
)
def test_scores_that_say_nothing_are_refused(scores: dict[str, list[float]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        over_runs(scores, interquartile_mean, generator())


def test_sides_with_other_tasks_cannot_be_compared() -> None:
    with pytest.raises(DataError, match="compare runs of the same tasks"):
        probability_of_improvement(SCORES, {"walk": [1.0]}, generator())
