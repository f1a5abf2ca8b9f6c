"""Is the agent better at its reward than at its task? The learned return rises while the true one falls.

An agent that climbs a learned reward (the proxy) improves in what is really wanted (the gold reward) up to a point,
and beyond it gets worse while the proxy still rises: Gao et al. 2023, "Scaling Laws for Reward Model
Overoptimization". Here the proxy is the learned return, and gold the true return or the teacher's. Nothing of this
ever trains an agent.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from datamodules.errors import DataError
from rllib_envs.evaluations import Evaluation

WINDOW = 3
"""evaluations in a row whose mean is compared: a fall has to last as long"""
LEAST_EVALUATIONS = 2 * WINDOW
WOBBLES_FROM = 20
"""evaluations from which on waves as long as WINDOW count as noise, too; fewer cannot tell them from a real fall"""
LEVEL = 0.95
"""share of curves without any fall that raise no alarm"""
NULL_CURVES = 10_000

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Overoptimisation:
    """The deepest fall of a gold return during which the proxy rose; values are means over `WINDOW` evaluations."""

    peak_steps: int
    """agent steps of the last evaluation of those at the peak"""
    fallen_steps: int
    """agent steps of the last evaluation of those at the bottom"""
    gold_peak: float
    """gold return at the peak"""
    gold_fallen: float
    """gold return at the bottom"""
    proxy_peak: float
    """proxy return at the peak of gold"""
    proxy_fallen: float
    """proxy return at the bottom of gold"""


def find_overoptimisation(
    steps: ArrayLike, proxy: ArrayLike, gold: ArrayLike, versions: ArrayLike | None = None
) -> Overoptimisation | None:
    """The deepest fall of gold while the proxy rose, where both moves are more than chance; None where there is none.

    The noise of a curve is what neighbouring evaluations do not agree on (pseudo-residuals of Gasser et al. 1986:
    second differences, which a trend does not enter). A fall from any peak to any later moment is more than chance when
    5 % of flat curves with such noise, and as many evaluations, have one as deep anywhere; the rise of the proxy
    meanwhile, when 5 % of flat curves rise as much between two given moments.

    So an agent whose gold return stays level is wrongly flagged in 5 % of trainings, however its proxy rises, and in
    1 % where both only scatter (tests/rllib_envs/test_overoptimisation.py measures both). Noise is taken to be normal
    and new in each evaluation. Where half of it carries over to the next, 6 to 10 % of trainings in which both scatter
    are flagged with 20 to 41 evaluations, and up to 20 % with fewer than 20; where the proxy rises all the while and
    gold only scatters, 14 to 47 %. Falls as Gao et al. draw them are seen from 11 evaluations on, and hardly with 6.

    Args:
        steps: agent steps of the evaluations (T,), rising and about equally far apart.
        proxy: mean return in the reward that trains the agent (T,).
        gold: mean return in what is really wanted, on the same episodes (T,).
        versions: number of the reward that the proxy is the return in (T,), never falling: the proxy rises within one
            alone. None: it was the same all the time.

    Returns:
        None, too, below `LEAST_EVALUATIONS` evaluations, which cannot show a fall that lasts.

    Raises:
        DataError: the curves are not as long as `steps`, or hold a value that is not finite.
    """
    at, rising, falling = (np.asarray(values, dtype=np.float64) for values in (steps, proxy, gold))
    if not (at.ndim == 1 and at.shape == rising.shape == falling.shape):
        raise DataError(
            f"steps have shape {at.shape}, the proxy {rising.shape} and gold {falling.shape}: "
            "give one value of each for each evaluation"
        )
    if not (np.isfinite(rising).all() and np.isfinite(falling).all()):
        raise DataError("a return is not finite: the simulator diverged, or a reward is broken")
    if at.size < LEAST_EVALUATIONS:
        return None
    deepest_by_chance, change_by_chance = _by_chance(at.size)
    smooth_gold, smooth_proxy = _smooth(falling), _smooth(rising)
    fall = smooth_gold[:, None] - smooth_gold
    rise = smooth_proxy - smooth_proxy[:, None]
    later = np.triu(np.ones_like(fall, dtype=np.bool_), k=WINDOW)  # windows that share no evaluation
    reward = np.zeros(at.size, np.int64) if versions is None else np.asarray(versions)
    later &= reward[: -WINDOW + 1, None] == reward[WINDOW - 1 :]  # from the peak's first to the bottom's last
    seen = later & (fall > deepest_by_chance * _noise(falling)) & (rise > change_by_chance * _noise(rising))
    if not seen.any():
        return None
    peak, fallen = np.unravel_index(np.argmax(np.where(seen, fall, -np.inf)), fall.shape)
    return Overoptimisation(
        peak_steps=int(at[peak + WINDOW - 1]),
        fallen_steps=int(at[fallen + WINDOW - 1]),
        gold_peak=float(smooth_gold[peak]),
        gold_fallen=float(smooth_gold[fallen]),
        proxy_peak=float(smooth_proxy[peak]),
        proxy_fallen=float(smooth_proxy[fallen]),
    )


def overoptimisation_of(evaluations: Sequence[Evaluation]) -> dict[str, Overoptimisation | None]:
    """What a learning curve shows, by gold return: `true`, and `teacher` where every evaluation asked it.

    Empty where the curve has no learned return beside the true one, or is too short to tell.
    """
    if len(evaluations) < LEAST_EVALUATIONS or not all(each.learned_returns for each in evaluations):
        return {}
    steps = [each.steps for each in evaluations]
    proxy = [np.mean(each.learned_returns) for each in evaluations]
    versions = [each.reward_version for each in evaluations]
    golds = {"true": [each.true_returns for each in evaluations]}
    if all(each.teacher_returns for each in evaluations):
        golds["teacher"] = [each.teacher_returns for each in evaluations]
    return {
        name: find_overoptimisation(steps, proxy, [np.mean(returns) for returns in gold], versions)
        for name, gold in golds.items()
    }


@cache
def _by_chance(evaluations: int) -> tuple[float, float]:
    """In units of the noise, 95th percentiles over flat curves: of the deepest fall, of the change between two moments.

    Drawn from normal noise, with a seed of their own so that a curve always gets the same answer.
    """
    curves = np.random.default_rng(0).standard_normal((NULL_CURVES, evaluations))
    smooth, noise = _smooth(curves), _noise(curves)
    highest_before = np.maximum.accumulate(smooth, axis=-1)[:, :-WINDOW]
    deepest = (highest_before - smooth[:, WINDOW:]).max(axis=-1) / noise
    change = (smooth[:, WINDOW] - smooth[:, 0]) / noise
    return float(np.quantile(deepest, LEVEL)), float(np.quantile(change, LEVEL))


def _smooth(curves: Values) -> Values:
    """Means of WINDOW evaluations in a row: (..., T) -> (..., T - WINDOW + 1)."""
    return np.asarray(sliding_window_view(curves, WINDOW, axis=-1).mean(axis=-1), dtype=np.float64)


def _noise(curves: Values) -> Values:
    """Standard deviation of the noise in the smoothed curves of (..., T), without their trend."""
    noise: Values = _pseudo_residuals(curves, 1) / np.sqrt(WINDOW)
    if curves.shape[-1] >= WOBBLES_FROM:
        noise = np.maximum(noise, _pseudo_residuals(_smooth(curves), WINDOW))
    return noise


def _pseudo_residuals(curves: Values, lag: int) -> Values:
    """Root mean square of how far values lie from the line through those `lag` before and after, as one of them."""
    second = curves[..., 2 * lag :] - 2 * curves[..., lag:-lag] + curves[..., : -2 * lag]
    return np.asarray(np.sqrt((second**2).mean(axis=-1) / 6.0), dtype=np.float64)
