"""Does the spread of an ensemble's members tell how far their mean is from the teacher?"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightning_modules.fidelity import spearman

Values = NDArray[np.float64]
BINS = 10
FRACTIONS = 20
"""points of a sparsification curve that are kept to be drawn"""


@dataclass(frozen=True)
class SpreadBin:
    """Frames of about the same spread."""

    spread: float
    """root mean square of the members' standard deviation"""
    error: float
    """root mean square of mean of members less teacher"""
    frames: int
    """frames in this bin"""


@dataclass(frozen=True)
class Sparsification:
    """Mean absolute error of the frames left when those of largest spread, or of largest error, are put aside."""

    fraction: tuple[float, ...]
    """share of the frames put aside (0 up to, not including, 1)"""
    by_spread: tuple[float, ...]
    """error of the rest over the error of all frames, the largest spread put aside first"""
    by_error: tuple[float, ...]
    """the same with the largest error put aside first: the best there can be"""


@dataclass(frozen=True)
class Calibration:
    """Spread beside error, over the same frames."""

    ence: float
    """expected normalised calibration error (0 or more; 0: in every bin the spread is the error, .5: half off)"""
    ause: float
    """area under the sparsification error curve (0: the spread orders frames by their error)"""
    ause_by_chance: float
    """what a spread that knows nothing would have, on average over its orders"""
    rank_correlation: float
    """Spearman's of spread and absolute error (-1 to 1; 0: the spread says nothing)"""
    scale: float
    """root mean square error over root mean square spread; above 1 the members agree too easily"""
    bins: tuple[SpreadBin, ...]
    """equally many frames each, from the smallest spread to the largest"""
    sparsification: Sparsification
    """the curves behind `ause`"""


def calibrate(spread: Values, student: Values, teacher: Values, bins: int = BINS) -> Calibration | None:
    """Compare the members' standard deviation (N,) with the error of their mean, `student` less `teacher` (N,).

    ENCE: Levi et al. 2022, "Evaluating and Calibrating Uncertainty Prediction in Regression Tasks": frames in bins of
    equally many by their spread; mean over bins of |RMV - RMSE| / RMV, with RMV the root mean square spread and RMSE
    the root mean square error of a bin. AUSE: Ilg et al. 2018, "Uncertainty Estimates and Multi-Hypotheses Networks for
    Optical Flow": `sparsification` by spread less that by error, both 1 where nothing is put aside; its area.

    None where a bin has no spread, as of a single member: then there is nothing to calibrate. Also where there is no
    error to be told.
    """
    error = np.abs(student - teacher)
    if spread.size == 0 or error.max() == 0:
        return None
    groups = np.array_split(np.argsort(spread, kind="stable"), min(bins, spread.size))
    measured = tuple(SpreadBin(_rms(spread[group]), _rms(error[group]), int(group.size)) for group in groups)
    if any(each.spread == 0 for each in measured):
        return None
    by_spread, by_error = _remaining_error(error, spread), _remaining_error(error, error)
    kept = np.arange(0, error.size, max(1, error.size // FRACTIONS))
    return Calibration(
        ence=float(np.mean([abs(each.spread - each.error) / each.spread for each in measured])),
        ause=float(np.mean(by_spread - by_error)),
        ause_by_chance=float(np.mean(1.0 - by_error)),
        rank_correlation=spearman(spread, error),
        scale=_rms(error) / _rms(spread),
        bins=measured,
        sparsification=Sparsification(
            tuple((kept / error.size).tolist()), tuple(by_spread[kept].tolist()), tuple(by_error[kept].tolist())
        ),
    )


def _remaining_error(error: Values, by: Values) -> Values:
    """(N,): mean error when the k frames of largest `by` are put aside, k = 0 to N - 1, over that of all frames."""
    ascending = error[np.argsort(by, kind="stable")]
    means = np.cumsum(ascending) / np.arange(1, error.size + 1)
    return np.asarray(means[::-1] / error.mean(), np.float64)


def _rms(values: Values) -> float:
    return float(np.sqrt(np.mean(values**2)))
