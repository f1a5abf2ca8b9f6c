"""How good a reward is, measured on labelled frames against the true reward before anything is trained on it.

Three figures decide, each on a scale where 0 is chance and 1 is all that can be had: the order of states inside an
episode, successes told from other states, and successes at the reward's top, which is where an agent climbs to.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from datamodules.errors import DataError
from lightning_modules.fidelity import (
    Values,
    epic_distance,
    pearson,
    pearson_by_episode,
    spearman,
    spearman_by_episode,
)
from lightning_modules.rewards import EmbeddingReward, Standardisation

TOP = 100
"""frames at the top of the reward that are looked at for successes"""
RESAMPLES = 1_000
RESAMPLES_AT_ONCE = 100  # bounds the memory of 100k frames to some hundred MB
EXTREMES = 8
BINS = 40


@dataclass(frozen=True)
class Bounds:
    """A 95 % percentile bootstrap interval over whole episodes (Efron 1979)."""

    low: float
    """2.5th percentile"""
    high: float
    """97.5th percentile"""


@dataclass(frozen=True)
class Histogram:
    """How a reward is spread over the frames."""

    low: float
    """left edge of the first bin: the lowest reward"""
    high: float
    """right edge of the last bin: the highest reward"""
    counts: tuple[int, ...]
    """frames in each of the equally wide bins"""


@dataclass(frozen=True)
class RewardFigures:
    """One reward against the true reward, over all frames of a data set."""

    mean: float
    """mean of the raw reward"""
    std: float
    """its standard deviation"""
    histogram: Histogram
    """how it is spread; its ends are the reward's lowest and highest value"""
    pearson: float
    """linear correlation with the true reward, all frames (-1 to 1)"""
    pearson_within_episode: float
    """the same inside an episode, mean over episodes"""
    spearman: float
    """rank correlation, all frames (-1 to 1); differences between episodes inflate it"""
    spearman_within_episode: float
    """the same inside an episode, mean over episodes"""
    spearman_bounds: Bounds
    """interval of the rank correlation inside an episode"""
    epic: float
    """EPIC distance to the true reward over these frames (0 same, .707 unrelated, 1 opposite)"""
    auroc: float | None
    """probability that a success has a higher reward than another state (0 to 1, chance .5); None: not defined"""
    auroc_bounds: Bounds | None
    """its interval"""
    top_successes: int | None
    """successes among the `TOP` frames with the highest reward (or the highest tenth of few); None: as above"""
    highest: tuple[int, ...]
    """numbers of the frames with the highest reward, highest first"""
    lowest: tuple[int, ...]
    """numbers of the frames with the lowest reward, lowest first"""


class Truth:
    """The simulator's side of the frames, prepared once for many rewards."""

    def __init__(
        self, true_reward: ArrayLike, episode: ArrayLike, success_reward: float | None, generator: np.random.Generator
    ) -> None:
        """Args:
            true_reward: the simulator's own reward, a frame (N,), N at least 2.
            episode: which episode each frame is from (N,).
            success_reward: a frame is a success from this true reward on; None: the task knows no success.
            generator: draws the episodes of the bootstrap.

        Raises DataError for fewer than two frames.
        """
        self.reward, self.episode = np.asarray(true_reward, np.float64), np.asarray(episode)
        if self.reward.size < 2:
            raise DataError(f"there are {self.reward.size} labelled frames: an audit needs at least 2")
        names, self.group = np.unique(self.episode, return_inverse=True)
        self.episodes = names.size
        # Compared as float32, as data sets keep it: 1.8 earned is 1.8 asked for.
        success = None if success_reward is None else self.reward.astype(np.float32) >= np.float32(success_reward)
        self.successes: int | None = None if success is None else int(success.sum())
        # Without both kinds there is nothing to tell apart.
        self.success = success if success is not None and 0 < success.sum() < success.size else None
        self.attainable_by_episode = self._attainable()
        self.drawn = generator.multinomial(self.episodes, np.full(self.episodes, 1 / self.episodes), RESAMPLES)

    @property
    def varies(self) -> bool:
        """Whether the true reward changes inside any episode."""
        return bool(np.isfinite(self.attainable_by_episode).any())

    @property
    def judged_episodes(self) -> int:
        """Episodes inside which the true reward changes: the others have no order to agree with."""
        return int(np.isfinite(self.attainable_by_episode).sum())

    @property
    def attainable(self) -> float:
        """The highest rank correlation within an episode that a reward without ties can have; 0 where none varies."""
        return float(np.nanmean(self.attainable_by_episode)) if self.varies else 0.0

    @property
    def reachable_top(self) -> float:
        """The highest share of successes that the top of a reward can hold."""
        return min(1.0, (self.successes or 0) / self.top)

    @property
    def base_rate(self) -> float:
        """Share of successes among all frames."""
        return (self.successes or 0) / self.reward.size

    @property
    def top(self) -> int:
        """How many frames make the top: `TOP`, or a tenth of fewer than ten times as many."""
        return min(TOP, max(1, self.reward.size // 10))

    def _attainable(self) -> Values:
        """By episode; NaN where the true reward is constant.

        A reward without ties that keeps every order correlates with ranks that have ties of t frames each by
        sqrt(1 - sum(t^3 - t) / (n^3 - n)) (Kendall 1945): where most frames earn the same, no reward reaches 1.
        """
        order = np.lexsort((self.reward, self.group))
        untied = np.empty(order.size)
        untied[order] = np.arange(order.size)
        return spearman_by_episode(untied, self.reward, self.episode)


def audited_rewards(
    embeddings: NDArray[np.float32],
    goal: NDArray[np.float32],
    baseline: NDArray[np.float32],
    alpha: float,
    dims: tuple[int, ...],
) -> NDArray[np.float32]:
    """The goal-baseline reward (N,) of labelled frames; the standardised mean where several CLIPs labelled them.

    Args:
        embeddings: the frames' (N, D), the CLIPs' one after the other.
        goal: the goal sentences' (G, D), likewise.
        baseline: the baseline sentences' (B, D), likewise; may be (0, D) when alpha is 0.
        alpha: strength of the projection (0 to 1).
        dims: length of each CLIP's embedding; their sum is D.

    Raises SettingsError as `goal_baseline_reward`.
    """
    parts = EmbeddingReward(goal, baseline, alpha, dims).by_clip(embeddings)
    if len(parts) == 1:
        return parts[0]
    return np.asarray(np.mean([Standardisation.fit(part).apply(part) for part in parts], axis=0), np.float32)


def measure_reward(reward: ArrayLike, truth: Truth) -> RewardFigures:
    """Every figure of one reward (N,), raw scale. Raises DataError for another length or values that are not finite."""
    values = np.asarray(reward, np.float64)
    if values.shape != truth.reward.shape or not np.isfinite(values).all():
        raise DataError(f"rewards have shape {values.shape}: one finite value is needed for {truth.reward.size} frames")
    order = np.argsort(values, kind="stable")
    inside = spearman_by_episode(values, truth.reward, truth.episode)
    separation = None if truth.success is None else auroc_with_bounds(values, truth)
    counts, _ = np.histogram(values, bins=BINS)
    return RewardFigures(
        mean=float(values.mean()),
        std=float(values.std()),
        histogram=Histogram(float(values.min()), float(values.max()), tuple(counts.tolist())),
        pearson=pearson(values, truth.reward),
        pearson_within_episode=_mean(pearson_by_episode(values, truth.reward, truth.episode)),
        spearman=spearman(values, truth.reward),
        spearman_within_episode=_mean(inside),
        spearman_bounds=_bounds_of_mean(inside, truth.drawn),
        epic=epic_distance(values, truth.reward),
        auroc=separation and separation[0],
        auroc_bounds=separation and separation[1],
        top_successes=None if truth.success is None else int(truth.success[order[::-1][: truth.top]].sum()),
        highest=tuple(order[::-1][:EXTREMES].tolist()),
        lowest=tuple(order[:EXTREMES].tolist()),
    )


def auroc(reward: Values, success: NDArray[np.bool_]) -> float:
    """Area under the ROC curve by ranks (Mann-Whitney): the share of pairs of a success and another state in which the
    success has the higher reward, ties counting half. Both kinds must be there."""
    successes = int(success.sum())
    above = stats.rankdata(reward)[success].sum() - successes * (successes + 1) / 2
    return float(above / (successes * (success.size - successes)))


def auroc_with_bounds(reward: Values, truth: Truth) -> tuple[float, Bounds]:
    """The AUROC and its interval over whole episodes; draws without a success or without another state are left out."""
    assert truth.success is not None, "the caller checks it"
    success, group = truth.success, truth.group
    others = np.flatnonzero(~success)[np.argsort(reward[~success], kind="stable")]
    place = [np.searchsorted(reward[others], reward[success], side) for side in ("left", "right")]
    areas = []
    for start in range(0, len(truth.drawn), RESAMPLES_AT_ONCE):
        drawn = truth.drawn[start : start + RESAMPLES_AT_ONCE].astype(np.float64)
        weight, below = drawn[:, group[success]], np.cumsum(drawn[:, group[others]], axis=1)
        below = np.concatenate([np.zeros((len(drawn), 1)), below], axis=1)
        won = (weight * (below[:, place[0]] + below[:, place[1]]) / 2).sum(axis=1)
        pairs = weight.sum(axis=1) * below[:, -1]
        areas.append(won[pairs > 0] / pairs[pairs > 0])
    return auroc(reward, success), _percentiles(np.concatenate(areas))


def _mean(scores: Values) -> float:
    return float(np.nanmean(scores)) if np.isfinite(scores).any() else 0.0


def _bounds_of_mean(scores: Values, drawn: NDArray[Any]) -> Bounds:
    """Of the mean over episodes `(E,)`, those without a score left out."""
    known = np.isfinite(scores)
    if not known.any():
        return Bounds(0.0, 0.0)
    counts = drawn[:, known]
    total = counts.sum(axis=1)
    return _percentiles((counts @ scores[known])[total > 0] / total[total > 0])


def _percentiles(values: Values) -> Bounds:
    if values.size == 0:  # one episode among hundreds holds the only success, and no draw took it
        return Bounds(0.0, 1.0)
    low, high = np.quantile(values, [0.025, 0.975])
    return Bounds(float(low), float(high))
