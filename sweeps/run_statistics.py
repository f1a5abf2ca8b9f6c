"""Training runs compared over tasks, as Agarwal et al. 2021 do ("Deep RL at the Edge of the Statistical Precipice").

Scores are one number a run, by task: {task: (runs,)}, usually the normalised score of the final agent, and every seed
that was started belongs in it. All intervals are 95 % percentile intervals of the stratified bootstrap: runs are drawn
with replacement within each task, tasks are kept. Definitions are those of rliable; its functions draw from a generator
of their own, these from the one passed in.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations
from math import comb, prod

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from datamodules.errors import DataError
from sweeps.statistics import LEVEL, RESAMPLES

Values = NDArray[np.float64]
Scores = Mapping[str, ArrayLike]
"""{task: (runs,)}; the numbers of runs may differ, and a task with more runs then weighs more"""
Statistic = Callable[[Values], Values]
"""pooled runs of all tasks (..., N) -> (...)"""
DEALINGS = 10_000
ROUNDING = 1e-9
TAILS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)


@dataclass(frozen=True)
class Estimate:
    """A figure over runs and its 95 % interval, in the unit of the scores or as a share."""

    value: float
    """the figure of the runs themselves"""
    low: float
    """2.5th percentile of the resampled figures"""
    high: float
    """97.5th percentile of the resampled figures"""


@dataclass(frozen=True)
class Profile:
    """A performance profile: which share of runs scores above each threshold, with pointwise 95 % intervals."""

    thresholds: Values
    """(K,) in the unit of the scores"""
    share: Values
    """(K,) 0 to 1, never rising"""
    low: Values
    """(K,)"""
    high: Values
    """(K,)"""


def interquartile_mean(scores: Values) -> Values:
    """The mean of scores (..., N) without their lowest and their highest quarter, each rounded down to whole runs."""
    return np.asarray(stats.trim_mean(scores, 0.25, axis=-1), dtype=np.float64)


def optimality_gap(scores: Values, goal: float = 1.0) -> Values:
    """How far scores (..., N) stay below `goal` on average, where what lies above it does not make up for others."""
    return np.asarray(goal - np.minimum(scores, goal).mean(axis=-1), dtype=np.float64)


def over_runs(scores: Scores, statistic: Statistic, generator: np.random.Generator) -> Estimate:
    """A statistic of all runs of all tasks together with its interval, as `over_runs(scores, interquartile_mean, g)`.

    Raises:
        DataError: there is no task, a task has no run, or a score is not finite.
    """
    strata = _checked(scores)
    pooled = np.concatenate(list(strata.values()))
    return _estimate(float(statistic(pooled)), statistic(_resampled(strata, generator)))


def ratio_of(first: Scores, second: Scores, statistic: Statistic, generator: np.random.Generator) -> Estimate | None:
    """A statistic of all runs of one side over that of the other; None where the other's is not above 0.

    Raises:
        DataError: as `over_runs`.
    """
    one, other = _checked(first), _checked(second)
    below = float(statistic(np.concatenate(list(other.values()))))
    if below <= 0:
        return None
    above = float(statistic(np.concatenate(list(one.values()))))
    drawn = statistic(_resampled(one, generator)), statistic(_resampled(other, generator))
    return _estimate(above / below, drawn[0] / np.maximum(drawn[1], np.finfo(np.float64).tiny))


def performance_profile(scores: Scores, thresholds: ArrayLike, generator: np.random.Generator) -> Profile:
    """The share of runs that score above each of the thresholds (K,) (Dolan and More 2002; Agarwal et al. 2021).

    Raises:
        DataError: as `over_runs`.
    """
    strata, levels = _checked(scores), np.asarray(thresholds, dtype=np.float64)
    pooled, resampled = np.concatenate(list(strata.values())), _resampled(strata, generator)
    share = np.array([np.mean(pooled > level) for level in levels])
    intervals = [np.quantile(np.mean(resampled > level, axis=-1), TAILS) for level in levels]
    low, high = np.array(intervals).reshape(-1, 2).T
    return Profile(levels, share, low, high)


def probability_of_improvement(first: Scores, second: Scores, generator: np.random.Generator) -> Estimate:
    """How likely a run of `first` scores above a run of `second` on a task drawn at random; ties count half.

    On each task it is Mann and Whitney's U over the number of pairs, U / (N K); tasks count alike. 0.5 says nothing,
    and an interval that holds 0.5 leaves open which is better.

    Raises:
        DataError: as `over_runs`, or the two do not have the same tasks.
    """
    one, other = _same_tasks(first, second)
    observed = [_share_of_wins(one[task], other[task]) for task in one]
    drawn = [_share_of_wins(_draw(one[task], generator), _draw(other[task], generator)) for task in one]
    return _estimate(float(np.mean(observed)), np.mean(drawn, axis=0))


def chance_of_as_high(first: Scores, second: Scores, generator: np.random.Generator) -> float:
    """How often chance alone gives so high a `probability_of_improvement`: a permutation test, one-sided.

    Within each task the runs of both sides are dealt out anew; in all ways where these are at most `DEALINGS`, else in
    so many at random. Where 3 runs meet 3 on one task, each of the one above each of the other is 1 way in 20. The
    bootstrap's interval alone would be too sure of so few.

    Raises:
        DataError: as `probability_of_improvement`.
    """
    one, other = _same_tasks(first, second)
    observed = np.mean([_share_of_wins(one[task], other[task]) for task in one])
    ways = prod(comb(one[task].size + other[task].size, one[task].size) for task in one)
    exact = ways <= DEALINGS
    total = np.zeros(1)
    for task in one:
        dealt = _dealt_out(one[task], other[task], None if exact else generator)
        total = np.add.outer(total, dealt).ravel() if exact else total + dealt
    as_high = np.count_nonzero(total / len(one) >= observed - ROUNDING)
    return as_high / total.size if exact else (as_high + 1) / (total.size + 1)


def _dealt_out(first: Values, second: Values, generator: np.random.Generator | None) -> Values:
    """Shares of wins of every way, or of some at random, to take as many of all runs as `first` has: (W,)."""
    count, others = first.size, second.size
    ranks: Values = stats.rankdata(np.concatenate([first, second]))
    if generator is None:
        chosen = np.array(list(combinations(range(ranks.size), count)))
    else:
        chosen = generator.permuted(np.tile(np.arange(ranks.size), (DEALINGS, 1)), axis=1)[:, :count]
    wins = ranks[chosen].sum(axis=1) - count * (count + 1) / 2
    return np.asarray(wins / (count * others), dtype=np.float64)


def _same_tasks(first: Scores, second: Scores) -> tuple[dict[str, Values], dict[str, Values]]:
    one, other = _checked(first), _checked(second)
    if one.keys() != other.keys():
        raise DataError(
            f"one side has scores of {sorted(one)}, the other of {sorted(other)}: compare runs of the same tasks"
        )
    return one, other


def _share_of_wins(first: Values, second: Values) -> Values:
    """U / (N K) of (..., N) against (..., K), by ranks: no array of all pairs is made."""
    count, others = first.shape[-1], second.shape[-1]
    ranks: Values = stats.rankdata(np.concatenate([first, second], axis=-1), axis=-1)
    wins = ranks[..., :count].sum(axis=-1) - count * (count + 1) / 2
    return np.asarray(wins / (count * others), dtype=np.float64)


def _resampled(strata: Mapping[str, Values], generator: np.random.Generator) -> Values:
    """Runs of all tasks side by side, drawn anew within each task: (RESAMPLES, N)."""
    return np.concatenate([_draw(runs, generator) for runs in strata.values()], axis=1)


def _draw(runs: Values, generator: np.random.Generator) -> Values:
    return runs[generator.integers(0, runs.size, size=(RESAMPLES, runs.size))]


def _estimate(value: float, resampled: Values) -> Estimate:
    low, high = np.quantile(resampled, TAILS)
    return Estimate(value, float(low), float(high))


def _checked(scores: Scores) -> dict[str, Values]:
    if not scores:
        raise DataError("there are no scores: give at least one task with at least one run")
    strata = {task: np.asarray(runs, dtype=np.float64) for task, runs in scores.items()}
    for task, runs in strata.items():
        if runs.ndim != 1 or runs.size == 0:
            raise DataError(f"scores of task {task!r} have shape {runs.shape}: give one number a run, at least one run")
        if not np.isfinite(runs).all():
            raise DataError(
                f"scores of task {task!r} hold a value that is not finite: a run that failed counts as a score of its "
                "own, as 0, and must not be left out"
            )
    return strata
