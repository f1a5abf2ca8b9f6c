"""The goal-baseline reward in closed form, and the scale it is trained on."""

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from datamodules.errors import SettingsError

Array = NDArray[np.float32]
Stored = NDArray[np.floating[Any]]
"""Embeddings as they lie in a data set (float16) or as a teacher gives them (float32)."""

ROWS = 1024
"""embeddings widened to float64 at a time: few enough to stay in a processor's cache"""


def goal_baseline_reward(embeddings: Stored, goal: Array, baseline: Array, alpha: float) -> Array:
    """Score image embeddings by a goal and a baseline sentence (Rocamonde et al. 2024, Definition 1).

    The definition projects on the line through baseline and goal; this is the same number from two dot products a
    frame, so every alpha and every sentence can be tried on stored embeddings.

    Args:
        embeddings: unit image embeddings, float16 or float32 (N, D); they may be memory-mapped.
        goal: unit text embeddings of the goal sentences, (G, D); their mean is used, not normalised again.
        baseline: unit text embeddings of the baseline sentences, (B, D); may be (0, D) when alpha is 0.
        alpha: strength of the projection, 0 to 1; at 0 and with one goal sentence the reward is the cosine similarity.

    Returns:
        The reward of each frame, float32 (N,).

    Raises:
        SettingsError: alpha is out of range, there is no goal, or alpha needs a baseline that is missing or the goal.
    """
    if not 0.0 <= alpha <= 1.0:
        raise SettingsError(f"alpha is {alpha}: it must lie between 0 and 1")
    if len(goal) == 0:
        raise SettingsError("there is no goal embedding: give at least one goal sentence")
    g = np.asarray(goal, np.float64).mean(axis=0)
    if alpha == 0.0:
        b = g
    elif len(baseline) == 0:
        raise SettingsError(
            f"alpha is {alpha} but there is no baseline embedding: give a baseline sentence or set alpha to 0"
        )
    else:
        b = np.asarray(baseline, np.float64).mean(axis=0)
    s_g, s_b = _dot_products(embeddings, np.stack([g, b]))
    distance = 1.0 + g @ g - 2.0 * s_g
    if alpha == 0.0:
        return np.asarray(1.0 - 0.5 * distance, np.float32)
    length = float(np.linalg.norm(g - b))
    if length < 1e-6:
        raise SettingsError(
            "goal and baseline sentences have the same embedding: word them differently or set alpha to 0"
        )
    along = (s_g - s_b - g @ g + g @ b) / length
    kept = (1.0 - alpha) ** 2
    return np.asarray(1.0 - 0.5 * (kept * distance + (1.0 - kept) * along**2), np.float32)


def _dot_products(embeddings: Stored, directions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Embeddings (N, D) times directions (K, D) in float64 (K, N), without a float64 copy of all embeddings."""
    products = np.empty((len(directions), len(embeddings)))
    for start in range(0, len(embeddings), ROWS):
        products[:, start : start + ROWS] = directions @ embeddings[start : start + ROWS].T.astype(np.float64)
    return products


@dataclass(frozen=True)
class Standardisation:
    """A frozen affine scale: SAC's temperature depends on the reward's scale, which moves strongly with alpha."""

    mean: float
    """mean of the raw reward over the training split"""
    std: float
    """standard deviation of the raw reward over the training split (above 0)"""

    def __post_init__(self) -> None:
        if not (np.isfinite(self.mean) and np.isfinite(self.std) and self.std > 0):
            raise SettingsError(
                f"standardisation has mean {self.mean} and std {self.std}: both must be finite and std above 0"
            )

    @classmethod
    def fit(cls, raw: Array) -> "Standardisation":
        """Take mean and standard deviation from raw rewards (N,); constant rewards keep their size (std 1)."""
        if len(raw) == 0:
            raise SettingsError("there are no rewards to standardise: the training split is empty")
        values = np.asarray(raw, np.float64)
        std = float(values.std())
        return cls(mean=float(values.mean()), std=std if std > 1e-8 else 1.0)

    def apply(self, raw: Array) -> Array:
        """Map raw rewards to zero mean and unit standard deviation, float32 of the same shape."""
        return np.asarray((np.asarray(raw, np.float64) - self.mean) / self.std, np.float32)


def standardisation_of(scales: tuple[Standardisation, ...]) -> Standardisation:
    """What takes the raw reward of CLIPs with these scales to mean 0 and deviation 1.

    That of several CLIPs is standardised already: their own units have nothing in common.
    """
    return scales[0] if len(scales) == 1 else Standardisation(0.0, 1.0)


@dataclass(frozen=True, eq=False)
class EmbeddingReward:
    """The reward that goal, baseline and alpha make of a teacher's embeddings.

    One CLIP gives its goal-baseline reward. Several CLIPs, whose embeddings lie one after the other, give the mean of
    their goal-baseline rewards, each standardised: their raw levels and ranges have nothing in common.
    """

    goal: Array
    """text embeddings of the goal sentences, (G, D)"""
    baseline: Array
    """text embeddings of the baseline sentences, (B, D)"""
    alpha: float
    """strength of the projection, 0 to 1"""
    dims: tuple[int, ...]
    """how many of the D numbers belong to each CLIP"""
    scales: tuple[Standardisation, ...] = ()
    """frozen scale of each CLIP's reward; `frozen_to` finds them"""

    def frozen_to(self, embeddings: Stored) -> Self:
        """This reward with its scales taken from these embeddings (N, D), the training split's.

        Their standardised reward has mean 0 and standard deviation 1, whatever the number of CLIPs.
        """
        each = self.by_clip(embeddings)
        scales = [Standardisation.fit(reward) for reward in each]
        mean = np.mean([scale.apply(reward) for scale, reward in zip(scales, each, strict=True)], axis=0)
        # The mean of several varies less than each of them.
        spread = Standardisation.fit(mean).std if len(scales) > 1 else 1.0
        return replace(self, scales=tuple(Standardisation(scale.mean, scale.std * spread) for scale in scales))

    @property
    def standardisation(self) -> Standardisation:
        """What takes `raw` to mean 0 and deviation 1."""
        assert self.scales, "frozen_to comes first"
        return standardisation_of(self.scales)

    def raw(self, embeddings: Stored) -> Array:
        """The reward of embeddings (N, D), float32 (N,): one CLIP's on its own scale, several CLIPs' standardised."""
        each = self.by_clip(embeddings)
        if len(each) == 1:
            return each[0]
        assert self.scales, "frozen_to comes first"
        standardised = [scale.apply(reward) for scale, reward in zip(self.scales, each, strict=True)]
        return np.asarray(np.mean(standardised, axis=0), np.float32)

    def standardised(self, embeddings: Stored) -> Array:
        """The reward of embeddings (N, D) on the frozen scale, float32 (N,)."""
        return self.standardisation.apply(self.raw(embeddings))

    def by_clip(self, embeddings: Stored) -> list[Array]:
        """Each CLIP's own goal-baseline reward of embeddings (N, D), float32 (N,)."""
        ends = np.cumsum(self.dims)
        parts = [slice(end - dim, end) for end, dim in zip(ends, self.dims, strict=True)]
        return [
            goal_baseline_reward(embeddings[:, part], self.goal[:, part], self.baseline[:, part], self.alpha)
            for part in parts
        ]
