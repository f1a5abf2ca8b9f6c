"""Over-optimisation is found where it was built in, and how often it is seen where there is none."""

import numpy as np
import pytest
from numpy.typing import NDArray

from datamodules.errors import DataError
from rllib_envs.evaluations import Evaluation
from rllib_envs.overoptimisation import LEAST_EVALUATIONS, find_overoptimisation, overoptimisation_of

Curve = NDArray[np.float64]


def share_flagged(proxies: Curve, golds: Curve) -> float:
    """Of trainings (N, T), the share that is flagged."""
    steps = np.arange(golds.shape[1]) * 1000
    return float(
        np.mean([find_overoptimisation(steps, *pair) is not None for pair in zip(proxies, golds, strict=True)])
    )


def noise(seed: int, shape: tuple[int, int]) -> Curve:
    return np.random.default_rng(seed).standard_normal(shape)


def gao(distance: Curve) -> Curve:
    """Gao et al. 2023, best of n: d (alpha - beta d), here with its peak of 20 at half of the way."""
    return distance * (80 - 80 * distance)


@pytest.mark.parametrize("evaluations", [6, 11, 21, 41])
def test_noise_alone_is_hardly_ever_flagged(evaluations: int) -> None:
    shape = (600, evaluations)
    assert share_flagged(noise(1, shape), noise(2, shape)) <= 0.015  # 0.002 to 0.008, standard error 0.003


@pytest.mark.parametrize("evaluations", [6, 11, 21, 41])
def test_a_level_gold_return_is_flagged_as_often_as_stated(evaluations: int) -> None:
    shape = (600, evaluations)
    rising = np.linspace(0, 50, evaluations) + noise(3, shape)
    assert 0.03 <= share_flagged(rising, noise(4, shape)) <= 0.075  # 5 %, standard error 0.009


@pytest.mark.parametrize("evaluations", [11, 21])
def test_two_curves_that_rise_and_level_out_are_not_flagged(evaluations: int) -> None:
    shape, time = (300, evaluations), np.linspace(0, 1, evaluations)
    rising, levelling = 30 * time, 20 * (1 - np.exp(-6 * time))
    assert share_flagged(rising + noise(5, shape), rising + noise(6, shape)) == 0
    assert share_flagged(rising + noise(5, shape), levelling + noise(6, shape)) <= 0.01


def test_both_falling_is_another_trouble() -> None:
    shape, time = (100, 21), np.linspace(0, 1, 21)
    assert share_flagged(gao(time) + noise(7, shape), gao(time) + noise(8, shape)) == 0


@pytest.mark.parametrize("evaluations", [11, 21, 41])
def test_the_published_shape_is_found_through_noise(evaluations: int) -> None:
    shape, time = (200, evaluations), np.linspace(0, 0.9, evaluations)
    assert share_flagged(40 * time + noise(9, shape), gao(time) + noise(10, shape)) >= 0.95


def test_peak_and_bottom_are_named_with_their_means() -> None:
    steps = np.arange(10) * 100
    gold = [0, 10, 50, 100, 101, 102, 60, 20, 21, 22]
    proxy = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]

    found = find_overoptimisation(steps, proxy, gold)

    assert found is not None
    # by hand: the highest mean of three in a row is that of 100, 101, 102; the lowest after it that of 20, 21, 22
    assert (found.peak_steps, found.fallen_steps) == (500, 900)
    assert (found.gold_peak, found.gold_fallen) == (101, 21)
    assert (found.proxy_peak, found.proxy_fallen) == (4, 8)


def test_a_rise_that_a_new_reward_brings_is_none() -> None:
    gold = [0, 10, 50, 100, 101, 102, 60, 20, 21, 22]
    same = find_overoptimisation(range(10), range(10), gold, [1] * 10)
    assert same == find_overoptimisation(range(10), range(10), gold)
    assert same is not None
    # another student from the seventh evaluation on: peak and bottom are told by different ones
    assert find_overoptimisation(range(10), range(10), gold, [0] * 6 + [1] * 4) is None
    # from the second one on: the peak's three evaluations, the bottom's and all between them have the same
    assert find_overoptimisation(range(10), range(10), gold, [0] + [1] * 9) == same


def test_a_dip_of_one_evaluation_is_not_a_fall_that_lasts() -> None:
    proxy = np.arange(21.0)
    gold = 100 - 60 * (np.arange(21) == 12) + noise(11, (1, 21))[0]
    assert find_overoptimisation(np.arange(21), proxy, gold) is None


def test_units_do_not_matter() -> None:
    time = np.linspace(0, 0.9, 21)
    proxy, gold = 40 * time + noise(12, (1, 21))[0], gao(time) + noise(13, (1, 21))[0]
    found = find_overoptimisation(np.arange(21), proxy, gold)
    scaled = find_overoptimisation(np.arange(21), 1000 * proxy - 7, 0.01 * gold + 3)
    assert found is not None
    assert scaled is not None
    assert (scaled.peak_steps, scaled.fallen_steps) == (found.peak_steps, found.fallen_steps)


def test_a_short_curve_says_nothing_and_a_broken_one_is_refused() -> None:
    short = LEAST_EVALUATIONS - 1
    assert find_overoptimisation(np.arange(short), np.arange(short), -np.arange(short)) is None
    assert find_overoptimisation(range(6), np.zeros(6), np.zeros(6)) is None
    with pytest.raises(DataError, match="one value of each"):
        find_overoptimisation([0, 1], [0.0], [0.0, 1.0])
    with pytest.raises(DataError, match="not finite"):
        find_overoptimisation([0, 1], [0.0, 1.0], [0.0, float("nan")])


def test_every_gold_return_of_a_learning_curve_is_watched() -> None:
    gold = [0.0, 10, 50, 100, 101, 102, 60, 20, 21, 22]
    curve = [Evaluation(100 * at, (value, value), (at, at + 1.0)) for at, value in enumerate(gold)]
    found = overoptimisation_of(curve)
    assert found.keys() == {"true"}
    assert found["true"] == find_overoptimisation(np.arange(10) * 100, np.arange(10) + 0.5, gold)
    asked = [Evaluation(each.steps, each.true_returns, each.learned_returns, each.learned_returns) for each in curve]
    assert overoptimisation_of(asked) == {"true": found["true"], "teacher": None}
    assert overoptimisation_of(curve[: LEAST_EVALUATIONS - 1]) == {}
    assert overoptimisation_of([Evaluation(each.steps, each.true_returns, ()) for each in curve]) == {}
