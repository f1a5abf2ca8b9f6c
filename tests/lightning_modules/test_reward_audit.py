"""A reward's figures against scipy and values by hand."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from datamodules.errors import DataError
from lightning_modules.reward_audit import TOP, Truth, audited_rewards, auroc, measure_reward
from lightning_modules.rewards import goal_baseline_reward

Values = NDArray[np.float64]


def truth_of(reward: Values, episodes: int = 20, success_reward: float | None = 1.0, seed: int = 0) -> Truth:
    episode = np.arange(reward.size) % episodes  # interleaved: nothing may rely on neighbours
    return Truth(reward, episode, success_reward, np.random.default_rng(seed))


def related(size: int = 400) -> tuple[Values, Values]:
    """A reward and a true reward that agree in part, with ties in both."""
    generator = np.random.default_rng(1)
    true = generator.normal(size=size)
    return (true + 0.8 * generator.normal(size=size)).round(1), true.round(1)


def test_correlations_are_those_of_scipy() -> None:
    reward, true = related()
    truth = truth_of(true)
    figures = measure_reward(reward, truth)
    assert figures.pearson == pytest.approx(stats.pearsonr(reward, true).statistic)
    assert figures.spearman == pytest.approx(stats.spearmanr(reward, true).statistic)
    inside = [(reward[truth.episode == e], true[truth.episode == e]) for e in range(20)]
    assert figures.pearson_within_episode == pytest.approx(
        np.mean([stats.pearsonr(*each).statistic for each in inside])
    )
    assert figures.spearman_within_episode == pytest.approx(
        np.mean([stats.spearmanr(*each).statistic for each in inside])
    )
    assert figures.epic == pytest.approx(np.sqrt((1 - figures.pearson) / 2))


def test_histogram_mean_and_ends_are_those_of_numpy() -> None:
    reward, true = related()
    figures = measure_reward(reward, truth_of(true))
    assert sum(figures.histogram.counts) == reward.size
    assert (figures.histogram.low, figures.histogram.high) == (reward.min(), reward.max())
    assert (figures.mean, figures.std) == pytest.approx((np.mean(reward), np.std(reward)))


def test_auroc_is_the_u_statistic_and_counts_ties_half() -> None:
    reward, true = related()
    success = true >= 1.0
    u = stats.mannwhitneyu(reward[success], reward[~success]).statistic
    assert measure_reward(reward, truth_of(true)).auroc == pytest.approx(u / (success.sum() * (~success).sum()))
    # by hand: successes 2 and 3 against 1, 2 and 3: won 1 + 2, tied 1 + 1, of 6 pairs
    by_hand = auroc(np.array([2.0, 3, 1, 2, 3]), np.array([True, True, False, False, False]))
    assert by_hand == pytest.approx((3 + 2 / 2) / 6)


def test_intervals_are_percentiles_over_whole_episodes() -> None:
    reward, true = related()
    truth = truth_of(true)
    figures = measure_reward(reward, truth)
    rows = [np.flatnonzero(truth.episode == name) for name in range(20)]
    areas, orders = [], []
    for counts in truth.drawn:  # the same draws, frames repeated as often as their episode was drawn
        drawn = np.concatenate([np.repeat(rows[name], count) for name, count in enumerate(counts)])
        areas.append(auroc(reward[drawn], true[drawn] >= 1.0))
        scores = [stats.spearmanr(reward[rows[name]], true[rows[name]]).statistic for name in np.flatnonzero(counts)]
        orders.append(np.average(scores, weights=counts[counts > 0]))
    assert figures.auroc_bounds is not None
    assert (figures.auroc_bounds.low, figures.auroc_bounds.high) == pytest.approx(np.quantile(areas, [0.025, 0.975]))
    assert (figures.spearman_bounds.low, figures.spearman_bounds.high) == pytest.approx(
        np.quantile(orders, [0.025, 0.975])
    )


def test_the_generator_decides_the_intervals() -> None:
    reward, true = related()
    first, again, other = (measure_reward(reward, truth_of(true, seed=seed)) for seed in (0, 0, 1))
    assert first == again
    assert first.spearman_bounds != other.spearman_bounds


def test_top_counts_successes_among_the_highest_rewards() -> None:
    true = np.zeros(3000)
    true[:1500] = 1.0
    reward = np.arange(3000, dtype=np.float64)
    reward[:30] += 10_000  # thirty successes stand above everything, the other 70 of the top are no successes
    figures = measure_reward(reward, truth_of(true))
    assert figures.top_successes == 30
    assert figures.highest[:2] == (29, 28)
    assert figures.lowest[:2] == (30, 31)


def test_ties_of_the_true_reward_bound_what_a_reward_can_reach() -> None:
    true = np.array([0.0, 0, 0, 1, 0, 0, 0, 0])  # two episodes of four: one with a single 1, one without any
    truth = Truth(true, np.repeat([5, 9], 4), 1.0, np.random.default_rng(0))
    most = stats.spearmanr([1, 2, 3, 4], [0, 0, 0, 1]).statistic
    assert truth.attainable == pytest.approx(most)
    assert most == pytest.approx(np.sqrt(1 - (27 - 3) / (64 - 4)))
    assert truth.judged_episodes == 1
    assert measure_reward(true + np.arange(8) / 100, truth).spearman_within_episode == pytest.approx(most)


def test_a_true_reward_kept_as_float32_reaches_its_mark() -> None:
    true = np.array([1.8, 1.0], np.float32)  # 1.8 in float32 is a little less than 1.8
    assert Truth(true, [0, 0], 1.8, np.random.default_rng(0)).successes == 1


@pytest.mark.parametrize("level", [None, 5.0, -5.0])
def test_without_both_kinds_there_is_no_auroc(level: float | None) -> None:
    reward, true = related()
    truth = truth_of(true, success_reward=level)
    figures = measure_reward(reward, truth)
    assert (figures.auroc, figures.auroc_bounds, figures.top_successes) == (None, None, None)
    assert truth.successes == {None: None, 5.0: 0, -5.0: reward.size}[level]


def test_a_constant_reward_is_worth_nothing() -> None:
    _, true = related()
    figures = measure_reward(np.full(true.size, 0.7), truth_of(true))
    assert (figures.spearman, figures.spearman_within_episode, figures.pearson, figures.std) == (0, 0, 0, 0)
    assert figures.auroc == 0.5


def test_of_few_frames_the_highest_tenth_is_the_top() -> None:
    true = np.arange(40, dtype=np.float64)
    truth = truth_of(true, episodes=2, success_reward=37.0)
    assert truth.top == 4 < TOP
    assert truth.reachable_top == pytest.approx(3 / 4)
    assert measure_reward(true, truth).top_successes == 3


@pytest.mark.parametrize("wrong", [np.zeros(3), np.full(400, np.nan)])
def test_other_lengths_and_nan_are_refused(wrong: Values) -> None:
    with pytest.raises(DataError, match="one finite value"):
        measure_reward(wrong, truth_of(related()[1]))


def test_an_audit_needs_two_frames() -> None:
    with pytest.raises(DataError, match="at least 2"):
        Truth([1.0], [0], None, np.random.default_rng(0))


def unit(generator: np.random.Generator, count: int, dim: int) -> NDArray[np.float32]:
    vectors = generator.normal(size=(count, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_reward_of_one_clip_is_the_raw_one_of_several_the_standardised_mean(alpha: float) -> None:
    generator = np.random.default_rng(0)
    one, two = ([unit(generator, count, dim) for count in (50, 2, 1)] for dim in (4, 6))
    alone = audited_rewards(*one, alpha, (4,))
    np.testing.assert_array_equal(alone, goal_baseline_reward(*one, alpha))
    both = audited_rewards(*(np.concatenate(pair, axis=1) for pair in zip(one, two, strict=True)), alpha, (4, 6))
    expected = np.mean(
        [stats.zscore(goal_baseline_reward(*part, alpha).astype(np.float64)) for part in (one, two)], axis=0
    )
    np.testing.assert_allclose(both, expected, atol=1e-4)
