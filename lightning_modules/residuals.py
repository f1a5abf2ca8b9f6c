"""Where a student errs: its residuals by the teacher's reward and by the time in an episode."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
PARTS = 10


@dataclass(frozen=True)
class Residuals:
    """Student less teacher over a part of the frames, in the unit of the rewards given."""

    low: float
    """smallest value among these frames of what the parts are made by"""
    high: float
    """the largest"""
    bias: float
    """mean of student less teacher: above 0 the student flatters these frames"""
    mae: float
    """mean absolute difference"""
    frames: int
    """frames in this part"""


def residuals_by_quantile(student: Values, teacher: Values, parts: int = PARTS) -> tuple[Residuals, ...]:
    """Residuals of rewards `(N,)` in `parts` groups of equally many frames, from the teacher's lowest to its highest.

    Of N frames that `parts` does not divide, the first groups hold one more; with fewer frames than parts there are N.
    A student that plays safe is above 0 in the first groups and below 0 in the last.
    """
    order = np.argsort(teacher, kind="stable")
    groups = np.array_split(order, min(parts, order.size))
    return tuple(_residuals(student, teacher, teacher, group) for group in groups)


def residuals_by_time(
    student: Values, teacher: Values, step: NDArray[Any], parts: int = PARTS
) -> tuple[Residuals, ...]:
    """Residuals of rewards `(N,)` by agent decisions since the reset, `step` `(N,)`: equally long parts of the longest
    episode, from its start to its end; parts without a frame are left out."""
    part = step * parts // (int(step.max()) + 1)
    groups = (np.flatnonzero(part == number) for number in range(parts))
    return tuple(_residuals(student, teacher, step.astype(np.float64), group) for group in groups if group.size)


def _residuals(student: Values, teacher: Values, by: Values, group: NDArray[np.int64]) -> Residuals:
    residual = student[group] - teacher[group]
    return Residuals(
        low=float(by[group].min()),
        high=float(by[group].max()),
        bias=float(residual.mean()),
        mae=float(np.abs(residual).mean()),
        frames=int(group.size),
    )
