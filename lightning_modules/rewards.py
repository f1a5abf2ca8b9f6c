"""The goal-baseline reward in closed form, and the scale it is trained on."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datamodules.errors import SettingsError

Array = NDArray[np.float32]


def goal_baseline_reward(embeddings: Array, goal: Array, baseline: Array, alpha: float) -> Array:
    """Score image embeddings by a goal and a baseline sentence (Rocamonde et al. 2024, Definition 1).

    The definition projects on the line through baseline and goal; this is the same number from two dot products a
    frame, so every alpha and every sentence can be tried on stored embeddings.

    Args:
        embeddings: unit image embeddings, (N, D).
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
    s_g = embeddings @ g
    distance = 1.0 + g @ g - 2.0 * s_g
    if alpha == 0.0:
        return np.asarray(1.0 - 0.5 * distance, np.float32)
    if len(baseline) == 0:
        raise SettingsError(
            f"alpha is {alpha} but there is no baseline embedding: give a baseline sentence or set alpha to 0"
        )
    b = np.asarray(baseline, np.float64).mean(axis=0)
    length = float(np.linalg.norm(g - b))
    if length < 1e-6:
        raise SettingsError(
            "goal and baseline sentences have the same embedding: word them differently or set alpha to 0"
        )
    along = (s_g - embeddings @ b - g @ g + g @ b) / length
    kept = (1.0 - alpha) ** 2
    return np.asarray(1.0 - 0.5 * (kept * distance + (1.0 - kept) * along**2), np.float32)


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
