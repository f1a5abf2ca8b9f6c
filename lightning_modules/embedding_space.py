"""What image embeddings show at all, whatever the sentence: how diverse the states are, what true reward they hold."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
FOLDS = 5
RIDGE = 1e-3
"""strength of the penalty, in units of the mean variance of an embedding's component"""


@dataclass(frozen=True, eq=False)
class Diversity:
    """Principal components of the frames' embeddings."""

    plane: Values
    """(N, 2) each frame on the first two components; the second is 0 where embeddings have one dimension"""
    shares: tuple[float, float]
    """share of all variance that each of the two holds (0 to 1)"""
    effective_dimensions: float
    """participation ratio of the variances, (sum v)^2 / sum v^2: 1 when states differ along one line (0: not at all)"""


def diversity(embeddings: NDArray[Any]) -> Diversity:
    """Principal component analysis of embeddings (N, D) around their mean; the sign of a component is fixed."""
    centred = embeddings - embeddings.mean(axis=0, dtype=np.float64)
    variances, axes = np.linalg.eigh(centred.T @ centred / len(centred))
    variances, axes = np.clip(variances[::-1], 0.0, None), axes[:, ::-1]
    total = float(variances.sum())
    if total < 1e-12:  # float16 embeddings of one and the same frame
        return Diversity(np.zeros((len(centred), 2)), (0.0, 0.0), 0.0)
    first = axes[:, :2] * np.sign(axes[np.abs(axes[:, :2]).argmax(axis=0), range(min(2, axes.shape[1]))])
    plane = np.zeros((len(centred), 2))
    plane[:, : first.shape[1]] = centred @ first
    shares = [*(variances[:2] / total).tolist(), 0.0][:2]
    return Diversity(plane, (shares[0], shares[1]), total**2 / float((variances**2).sum()))


def best_linear_reading(embeddings: NDArray[Any], true_reward: Values, episode: NDArray[Any]) -> Values:
    """The true reward (N,) as a ridge regression reads it from embeddings (N, D) of episodes that it was not fitted to.

    A goal without baseline is such a linear reading, too, so this tells a poor sentence from a true reward that these
    embeddings do not show. It is only ever measured: nothing trains on it. Whole episodes go round through the folds;
    with a single episode there is nothing to hold out, and the reading is the mean.
    """
    group = np.unique(episode, return_inverse=True)[1] % FOLDS
    reading = np.empty(len(embeddings))
    for fold in range(FOLDS):
        held_out = group == fold
        reading[held_out] = _ridge(embeddings[~held_out], true_reward[~held_out], embeddings[held_out])
    return reading


def _ridge(known: NDArray[Any], target: Values, unseen: NDArray[Any]) -> Values:
    if len(known) == 0:
        return np.zeros(len(unseen))
    centre, level = known.mean(axis=0, dtype=np.float64), target.mean()
    centred = known - centre
    products = centred.T @ centred
    # The floor keeps identical frames solvable.
    penalty = RIDGE * np.trace(products) / len(products) + 1e-12
    weights = np.linalg.solve(products + penalty * np.eye(len(products)), centred.T @ (target - level))
    return np.asarray((unseen - centre) @ weights + level, np.float64)
