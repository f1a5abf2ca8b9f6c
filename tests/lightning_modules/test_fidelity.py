"""Measures of fidelity against scipy, brute force and values by hand."""

from itertools import combinations, pairwise

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from datamodules.errors import DataError
from lightning_modules import fidelity
from lightning_modules.fidelity import (
    epic_distance,
    measure_fidelity,
    order_accuracy_by_margin,
    pairwise_order_accuracy,
    pearson_by_episode,
    ranks_by_episode,
    spearman_by_episode,
    spearman_within_episode,
)

Values = NDArray[np.float64]


def related_rewards(size: int = 60, decimals: int = 1) -> tuple[Values, Values, NDArray[np.int64]]:
    """Correlated rewards, rounded so that both have ties, in episodes of 10."""
    generator = np.random.default_rng(0)
    teacher = generator.normal(size=size)
    student = teacher + 0.5 * generator.normal(size=size)
    return student.round(decimals), teacher.round(decimals), np.repeat(np.arange(size // 10), 10)


def test_correlations_are_those_of_scipy() -> None:
    student, teacher, episode = related_rewards()
    fidelity = measure_fidelity(student, teacher, episode)
    assert fidelity.pearson == pytest.approx(stats.pearsonr(student, teacher).statistic)
    assert fidelity.spearman_pooled == pytest.approx(stats.spearmanr(student, teacher).statistic)
    inside = [stats.spearmanr(student[episode == e], teacher[episode == e]).statistic for e in range(6)]
    assert fidelity.spearman_within_episode == pytest.approx(np.mean(inside))


def test_epic_is_the_distance_of_gleave() -> None:
    student, teacher, episode = related_rewards()
    rho = np.corrcoef(student, teacher)[0, 1]
    assert measure_fidelity(student, teacher, episode).epic == pytest.approx(np.sqrt((1 - rho) / 2))
    line = np.array([0.0, 1.0, 2.0])
    assert epic_distance(line, 3 * line + 7) == pytest.approx(0.0, abs=1e-7)  # scale and shift do not matter
    assert epic_distance(line, -line) == pytest.approx(1.0)


def test_mse_and_samples_by_hand() -> None:
    fidelity = measure_fidelity([0.0, 1.0, 2.0, 4.0], [0.0, 1.0, 4.0, 1.0], [0, 0, 0, 0])
    assert fidelity.mse == pytest.approx((0 + 0 + 4 + 9) / 4)
    assert fidelity.samples == 4


@pytest.mark.parametrize("decimals", [0, 1, 8])
def test_order_accuracy_is_that_of_counting_every_pair(decimals: int) -> None:
    student, teacher, _ = related_rewards(decimals=decimals)
    points = [
        0.5 if student[i] == student[j] else float((student[i] > student[j]) == (teacher[i] > teacher[j]))
        for i, j in combinations(range(len(teacher)), 2)
        if teacher[i] != teacher[j]
    ]
    assert pairwise_order_accuracy(student, teacher) == pytest.approx(np.mean(points))


def test_pooled_correlation_is_inflated_by_differences_between_episodes() -> None:
    teacher = np.array([0.0, 1.0, 2.0, 10.0, 11.0, 12.0])
    student = np.array([2.0, 1.0, 0.0, 12.0, 11.0, 10.0])  # each episode is upside down
    fidelity = measure_fidelity(student, teacher, [0, 0, 0, 1, 1, 1])
    assert fidelity.spearman_within_episode == pytest.approx(-1.0)
    assert fidelity.spearman_pooled > 0.5


def test_episodes_without_teacher_order_are_left_out() -> None:
    student, teacher = np.array([0.0, 1.0, 5.0, 3.0]), np.array([0.0, 1.0, 2.0, 2.0])
    assert spearman_within_episode(student, teacher, np.array([0, 0, 1, 1])) == pytest.approx(1.0)


def test_constant_student_counts_as_uninformative() -> None:
    fidelity = measure_fidelity([0.1] * 5, [0.0, 1.0, 2.0, 3.0, 4.0], [0] * 5)
    assert (fidelity.pearson, fidelity.spearman_pooled, fidelity.spearman_within_episode) == (0.0, 0.0, 0.0)
    assert fidelity.pairwise_order_accuracy == 0.5
    assert fidelity.epic == pytest.approx(np.sqrt(0.5))


def test_rewards_that_are_not_finite_are_refused() -> None:
    with pytest.raises(DataError, match="1 of 3 student rewards are not finite"):
        measure_fidelity([0.0, np.nan, 1.0], [0.0, 1.0, 2.0], [0, 0, 0])


@pytest.mark.parametrize("lengths", [(3, 2, 3), (3, 3, 2), (1, 1, 1)])
def test_lengths_that_do_not_match_are_refused(lengths: tuple[int, int, int]) -> None:
    with pytest.raises(DataError, match="one value a frame"):
        measure_fidelity(*(np.arange(length, dtype=float) for length in lengths))


def test_correlations_by_episode_are_those_of_scipy_in_any_order_of_frames() -> None:
    student, teacher, episode = related_rewards()
    shuffled = np.random.default_rng(2).permutation(student.size)
    student, teacher, episode = student[shuffled], teacher[shuffled], episode[shuffled]
    expected = [stats.spearmanr(student[episode == e], teacher[episode == e]).statistic for e in range(6)]
    np.testing.assert_allclose(spearman_by_episode(student, teacher, episode), expected)
    linear = [stats.pearsonr(student[episode == e], teacher[episode == e]).statistic for e in range(6)]
    np.testing.assert_allclose(pearson_by_episode(student, teacher, episode), linear)


def test_ranks_by_episode_are_those_of_scipy() -> None:
    student, _, episode = related_rewards()
    expected = np.concatenate([stats.rankdata(student[episode == e]) for e in range(6)])
    np.testing.assert_array_equal(ranks_by_episode(student, episode), expected)


def test_constant_sides_of_an_episode() -> None:
    episode = np.repeat([4, 7], 3)
    constant = np.full(6, 0.1)  # 0.1 * 3 / 3 is not 0.1
    varied = np.array([1.0, 2, 3, 3, 2, 1])
    np.testing.assert_array_equal(pearson_by_episode(constant, varied, episode), [0.0, 0.0])
    assert np.isnan(pearson_by_episode(varied, constant, episode)).all()


def test_order_accuracy_by_margin_is_that_of_counting_every_pair() -> None:
    student, teacher, _ = related_rewards(decimals=2)
    scale = teacher.std()
    margins = [0.0, 0.1, 0.25, 0.5, 1.0, 2.0, np.inf]
    points: list[list[float]] = [[] for _ in margins[:-1]]
    for i, j in combinations(range(len(teacher)), 2):
        for number, (low, high) in enumerate(pairwise(margins)):
            if low < abs(teacher[i] - teacher[j]) / scale <= high:
                right = (student[i] > student[j]) == (teacher[i] > teacher[j])
                points[number].append(0.5 if student[i] == student[j] else float(right))
    found = order_accuracy_by_margin(student, teacher)
    assert [(each.low, each.high, each.pairs) for each in found] == [
        (low, high if high < np.inf else None, len(own))
        for (low, high), own in zip(pairwise(margins), points, strict=True)
    ]
    given = [each.accuracy for each in found if each.pairs]
    assert given == pytest.approx([np.mean(own) for own in points if own])
    whole = sum(each.accuracy * each.pairs for each in found if each.accuracy is not None)
    assert whole / sum(each.pairs for each in found) == pytest.approx(pairwise_order_accuracy(student, teacher))


def test_drawn_pairs_tell_nearly_the_same_as_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    student, teacher, _ = related_rewards(size=1000, decimals=8)
    exact = order_accuracy_by_margin(student, teacher)
    assert sum(each.pairs for each in exact) == 1000 * 999 // 2
    monkeypatch.setattr(fidelity, "MOST_PAIRS", 200_000)
    monkeypatch.setattr(fidelity, "PAIRS_AT_ONCE", 30_000)
    drawn = order_accuracy_by_margin(student, teacher, seed=1)
    assert sum(each.pairs for each in drawn) == 200_000
    for one, other in zip(exact, drawn, strict=True):
        # five standard errors of a share, at most
        assert one.accuracy == pytest.approx(other.accuracy, abs=5 * 0.5 / np.sqrt(other.pairs))
    assert order_accuracy_by_margin(student, teacher, seed=1) == drawn


def test_a_teacher_without_differences_has_no_pairs_to_order() -> None:
    found = order_accuracy_by_margin(np.arange(4.0), np.ones(4))
    assert {(each.accuracy, each.pairs) for each in found} == {(None, 0)}
