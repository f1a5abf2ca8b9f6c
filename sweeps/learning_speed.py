"""How fast runs learn: the area under a learning curve, and the steps until a threshold is reached."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from datamodules.errors import DataError


@dataclass(frozen=True)
class StepsToThreshold:
    """When runs reached a threshold; those that never did are counted, not left out."""

    median: float | None
    """median agent steps over all runs, a run that never got there being the slowest; None where that is one of them"""
    reached: int
    """runs that got there"""
    runs: int
    """runs in all"""

    @property
    def censored(self) -> float:
        """Share of runs that ended before they reached the threshold, 0 to 1."""
        return 1 - self.reached / self.runs


def area_under_curve(steps: ArrayLike, scores: ArrayLike) -> float:
    """The mean height of a learning curve: its area by trapezoids over its length.

    Args:
        steps: agent steps of the evaluations (T,), rising, the first one 0.
        scores: score at each of them (T,), in any unit.

    Returns:
        The area divided by the last step, in the unit of the scores: of two agents that end alike, the one that
        learned earlier has more.

    Raises:
        DataError: there are fewer than two evaluations, the first one is not at step 0, or steps do not rise.
    """
    at, heights = _checked(steps, scores)
    if at[0] != 0 or at.size < 2:
        raise DataError(f"evaluations are at steps {at.tolist()}: an area needs step 0 and at least one later step")
    return float(np.trapezoid(heights, at) / at[-1])


def first_reached(steps: ArrayLike, scores: ArrayLike, threshold: float) -> float | None:
    """The steps (T,) of the first evaluation whose score (T,) is at or above the threshold; None if none is."""
    at, heights = _checked(steps, scores)
    above = np.flatnonzero(heights >= threshold)
    return float(at[above[0]]) if above.size else None


def steps_to_threshold(first: Sequence[float | None]) -> StepsToThreshold:
    """Runs together, from what `first_reached` found in each (N,).

    The median over all runs is known as long as more than half of them got there: censored ones are only known to be
    slower than that. DataError where there is no run.
    """
    if not first:
        raise DataError("there are no runs: give at least one")
    ordered = sorted(float("inf") if steps is None else steps for steps in first)
    median = float(np.median(ordered))
    return StepsToThreshold(
        median=median if np.isfinite(median) else None,
        reached=sum(steps is not None for steps in first),
        runs=len(first),
    )


def _checked(steps: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    at, heights = np.asarray(steps, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    if at.ndim != 1 or at.shape != heights.shape or at.size == 0:
        raise DataError(
            f"steps have shape {at.shape} and scores {heights.shape}: give one score for each evaluation, at least one"
        )
    if (np.diff(at) <= 0).any():
        raise DataError(f"evaluations are at steps {at.tolist()}: steps must rise from one to the next")
    if not np.isfinite(heights).all():
        raise DataError("scores hold a value that is not finite: the simulator diverged, or a reward is broken")
    return at, heights
