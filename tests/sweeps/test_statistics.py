"""Intervals against scipy's bootstrap and against cases that can be worked out by hand."""

import numpy as np
import pytest
from scipy import stats

from datamodules.errors import DataError
from sweeps import statistics
from sweeps.statistics import (
    RANK_RESAMPLES,
    RESAMPLES,
    Interval,
    mean_difference_interval,
    mean_with_interval,
    spearman_interval,
    within_episode_interval,
)

RETURNS = [512.0, 480.5, 530.0, 12.0, 498.0, 505.0, 471.0, 520.0, 515.0, 490.0]
RANDOM = [31.0, 12.5, 44.0, 8.0, 60.0, 27.0]


def test_interval_equals_scipys_percentile_bootstrap() -> None:
    ours = mean_with_interval(RETURNS, np.random.default_rng(7))

    scipys = stats.bootstrap(
        (np.array(RETURNS),), np.mean, n_resamples=RESAMPLES, method="percentile", rng=np.random.default_rng(7)
    ).confidence_interval
    assert ours.mean == pytest.approx(453.35)
    assert (ours.low, ours.high) == pytest.approx((scipys.low, scipys.high))


def test_difference_equals_scipys_two_sample_bootstrap() -> None:
    ours = mean_difference_interval(RETURNS, RANDOM, np.random.default_rng(3))

    def difference(first: np.ndarray, second: np.ndarray, axis: int) -> np.ndarray:
        return np.mean(first, axis=axis) - np.mean(second, axis=axis)

    scipys = stats.bootstrap(
        (np.array(RETURNS), np.array(RANDOM)),
        difference,
        n_resamples=RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(3),
    ).confidence_interval
    assert ours.mean == pytest.approx(453.35 - 182.5 / 6)
    assert (ours.low, ours.high) == pytest.approx((scipys.low, scipys.high))


def test_two_values_resample_to_the_four_pairs() -> None:
    """Means of (0,0), (0,1), (1,0), (1,1): 0 and 1 each come a quarter of the time, so the interval spans both."""
    found = mean_with_interval([0.0, 1.0], np.random.default_rng(0))

    assert (found.mean, found.low, found.high) == (0.5, 0.0, 1.0)


def test_interval_of_many_normal_values_is_the_textbook_one() -> None:
    values = np.random.default_rng(1).normal(100.0, 10.0, size=400)

    found = mean_with_interval(values, np.random.default_rng(2))

    half_width = 1.96 * values.std(ddof=1) / np.sqrt(400)
    assert found.low == pytest.approx(values.mean() - half_width, abs=0.1)
    assert found.high == pytest.approx(values.mean() + half_width, abs=0.1)


def test_same_generator_state_gives_same_interval_and_another_does_not() -> None:
    assert mean_with_interval(RETURNS, np.random.default_rng(5)) == mean_with_interval(
        RETURNS, np.random.default_rng(5)
    )
    assert mean_with_interval(RETURNS, np.random.default_rng(5)) != mean_with_interval(
        RETURNS, np.random.default_rng(6)
    )


def test_one_value_has_an_interval_of_width_zero() -> None:
    found = mean_with_interval([42.0], np.random.default_rng(0))

    assert (found.mean, found.low, found.high) == (42.0, 42.0, 42.0)


@pytest.mark.parametrize(
    ("values", "message"),
    [([], "at least one episode"), ([[1.0, 2.0]], "shape"), ([1.0, float("nan")], "not finite")],
)
def test_values_that_have_no_mean_are_refused(values: list[float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        mean_with_interval(values, np.random.default_rng(0))


def rewards_in_episodes(decimals: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two related rewards, rounded so that both have ties, of 8 episodes that also differ in their level."""
    generator = np.random.default_rng(5)
    episode = np.repeat(np.arange(8) * 3, 12)
    teacher = generator.normal(size=8)[episode // 3] + generator.normal(size=96)
    return (teacher + generator.normal(size=96)).round(decimals), teacher.round(decimals), episode


@pytest.mark.parametrize("decimals", [0, 8])
def test_rank_interval_is_that_of_ranking_every_resample_of_episodes(decimals: int) -> None:
    student, teacher, episode = rewards_in_episodes(decimals)
    ours = spearman_interval(student, teacher, episode, np.random.default_rng(2))

    drawn = np.random.default_rng(2).multinomial(8, np.full(8, 1 / 8), RANK_RESAMPLES)
    frames = [np.repeat(np.arange(96), np.repeat(counts, 12)) for counts in drawn]
    scores = [stats.spearmanr(student[rows], teacher[rows]).statistic for rows in frames]
    assert ours.mean == pytest.approx(stats.spearmanr(student, teacher).statistic)
    assert (ours.low, ours.high) == pytest.approx(np.quantile(scores, [0.025, 0.975]))


def test_rank_interval_is_the_same_however_many_resamples_are_ranked_together(monkeypatch: pytest.MonkeyPatch) -> None:
    given = rewards_in_episodes(1)
    whole = spearman_interval(*given, np.random.default_rng(2))
    monkeypatch.setattr(statistics, "FRAMES_AT_ONCE", 1000)
    assert spearman_interval(*given, np.random.default_rng(2)) == whole


def test_rank_interval_of_one_episode_or_a_constant_reward_has_no_width() -> None:
    student, teacher, _ = rewards_in_episodes(8)
    one = spearman_interval(student, teacher, np.zeros(96), np.random.default_rng(0))
    assert (one.low, one.high) == pytest.approx((one.mean, one.mean))
    constant = spearman_interval(np.full(96, 0.1), teacher, np.arange(96) // 12, np.random.default_rng(0))
    assert constant == Interval(0.0, 0.0, 0.0)


def test_interval_within_episodes_is_that_of_the_mean_over_those_with_an_order() -> None:
    student, teacher, episode = rewards_in_episodes(8)
    teacher[episode == 21] = 4.0
    scores = [stats.spearmanr(student[episode == e], teacher[episode == e]).statistic for e in range(0, 21, 3)]
    ours = within_episode_interval(student, teacher, episode, np.random.default_rng(4))
    expected = mean_with_interval(scores, np.random.default_rng(4))
    assert (ours.mean, ours.low, ours.high) == pytest.approx((expected.mean, expected.low, expected.high))
    none = within_episode_interval(student, np.zeros(96), episode, np.random.default_rng(4))
    assert none == Interval(0.0, 0.0, 0.0)
