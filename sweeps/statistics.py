"""Means of episode returns with bootstrap intervals: numbers only, the generator always passed in.

What pins down one agent, by its episodes. Many training runs, by task, are compared in run_statistics.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.errors import DataError
from lightning_modules.fidelity import spearman, spearman_by_episode

LEVEL = 0.95
RESAMPLES = 10_000
RANK_RESAMPLES = 1_000
"""fewer, because each ranks all frames anew"""
FRAMES_AT_ONCE = 1_000_000
"""frames of resamples that are ranked together, which bounds memory to some tens of MB"""


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % interval, in the unit of the values it came from."""

    mean: float
    """the plain mean of the values"""
    low: float
    """2.5th percentile of the resampled means"""
    high: float
    """97.5th percentile of the resampled means"""


def mean_with_interval(values: Sequence[float] | NDArray[np.float64], generator: np.random.Generator) -> Interval:
    """Mean of values (N,) with its percentile bootstrap interval (Efron 1979), one value an episode.

    It tells how well these episodes pin down this one agent's mean; it knows nothing of other training seeds. A single
    value gives an interval of width 0. Raises DataError where there is no value, or one that is not finite.
    """
    sample = _checked(values)
    means = _resampled_means(sample, generator)
    return _interval(float(sample.mean()), means)


def mean_difference_interval(
    first: Sequence[float] | NDArray[np.float64],
    second: Sequence[float] | NDArray[np.float64],
    generator: np.random.Generator,
) -> Interval:
    """Mean of `first` (N,) minus mean of `second` (M,), both resampled: percentile bootstrap of two free samples."""
    one, other = _checked(first), _checked(second)
    differences = _resampled_means(one, generator) - _resampled_means(other, generator)
    return _interval(float(one.mean() - other.mean()), differences)


def spearman_interval(
    first: NDArray[np.float64], second: NDArray[np.float64], episode: NDArray[Any], generator: np.random.Generator
) -> Interval:
    """Rank correlation of two rewards (N,) of the same frames, over all of them, and its interval over whole episodes.

    A percentile bootstrap that draws episodes, not frames, because frames of one episode look alike; every resample is
    ranked anew. `episode` (N,) groups the frames. One episode gives an interval of width 0.
    """
    names, group = np.unique(episode, return_inverse=True)
    drawn = generator.multinomial(names.size, np.full(names.size, 1 / names.size), RANK_RESAMPLES).astype(np.float64)
    orders = [_Ties(side) for side in (first, second)]
    rows = max(1, FRAMES_AT_ONCE // group.size)
    scores = [_weighted_spearman(orders, part[:, group]) for part in np.array_split(drawn, -(-len(drawn) // rows))]
    return _interval(spearman(first, second), np.concatenate(scores))


def within_episode_interval(
    first: NDArray[np.float64], second: NDArray[np.float64], episode: NDArray[Any], generator: np.random.Generator
) -> Interval:
    """Rank correlation of `first` with `second` (N,) inside an episode, mean over episodes, and its interval over them.

    Episodes where `second` is constant have no order and are left out; 0 with an interval of width 0 without any other.
    """
    scores = spearman_by_episode(first, second, episode)
    scores = scores[np.isfinite(scores)]
    return mean_with_interval(scores, generator) if scores.size else Interval(0.0, 0.0, 0.0)


class _Ties:
    """The order of values (N,), to rank any number of weightings of them without sorting again."""

    def __init__(self, values: NDArray[np.float64]) -> None:
        self._order = np.argsort(values, kind="stable")
        _, self._place, counts = np.unique(values, return_inverse=True, return_counts=True)
        self._starts = np.cumsum(counts) - counts

    def ranks(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Ranks (R, N), less a constant, in samples that hold value i as often as weights (R, N) say; ties share."""
        mass = np.add.reduceat(weights[:, self._order], self._starts, axis=1)
        middle = np.cumsum(mass, axis=1) - mass / 2
        return np.asarray(middle[:, self._place], np.float64)


def _weighted_spearman(orders: Sequence[_Ties], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """(R,): Pearson's correlation of the ranks in each weighted sample; 0 where a side is constant."""
    total = weights.sum(axis=1, keepdims=True)
    ranks = (order.ranks(weights) for order in orders)
    one, other = (side - (weights * side).sum(axis=1, keepdims=True) / total for side in ranks)
    product = (weights * one * other).sum(axis=1)
    scale = np.sqrt((weights * one**2).sum(axis=1) * (weights * other**2).sum(axis=1))
    return np.asarray(np.divide(product, scale, out=np.zeros_like(product), where=scale > 1e-9), np.float64)


def _checked(values: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or sample.size == 0:
        raise DataError(f"returns have shape {sample.shape}: an interval needs a list of at least one episode's return")
    if not np.isfinite(sample).all():
        raise DataError("returns hold a value that is not finite: the simulator diverged, look at the episode's video")
    return sample


def _resampled_means(sample: NDArray[np.float64], generator: np.random.Generator) -> NDArray[np.float64]:
    chosen = generator.integers(0, sample.size, size=(RESAMPLES, sample.size))
    means: NDArray[np.float64] = sample[chosen].mean(axis=1)
    return means


def _interval(mean: float, resampled: NDArray[np.float64]) -> Interval:
    low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(mean, float(low), float(high))
