"""Means of episode returns with bootstrap intervals: numbers only, the generator always passed in.

What pins down one agent, by its episodes. Many training runs, by task, are compared in run_statistics.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datamodules.errors import DataError

LEVEL = 0.95
RESAMPLES = 10_000


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
