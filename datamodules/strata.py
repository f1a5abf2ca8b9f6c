"""Strata of rewards: every batch holds every level of the reward, and rare levels more often than they occur.

Most frames of a random policy look alike, so most of what a batch teaches is one level of the reward. Yang et al. 2021
("Delving into Deep Imbalanced Regression") weight a sample by the inverse square root of how dense its label is. Here
the weight says how often a sample is drawn, and the density is that of its reward's quantile: strata of equally many
samples, however wide, so that a single outlier never fills batches on its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rewards = NDArray[np.floating[Any]]
Positions = NDArray[np.int64]
RAREST, COMMONEST = 2.0, 0.5
"""limits of a stratum's weight, 1 being as often as it occurs: the rarest comes four times as often as the commonest"""


@dataclass(frozen=True, eq=False)
class Strata:
    """All N samples in groups, and how many of each group make up an epoch of N."""

    groups: tuple[Positions, ...]
    """positions (0 to N - 1) of the samples in each group"""
    drawn: tuple[int, ...]
    """how many an epoch takes of each group (at least 1)"""

    def order(self, generator: np.random.Generator) -> Positions:
        """An epoch (N,): each group spread evenly over it, in random order, no sample again before all had a turn."""
        taken, places = [], []
        for group, drawn in zip(self.groups, self.drawn, strict=True):
            turns = -(-drawn // len(group))
            taken.append(np.concatenate([generator.permutation(group) for _ in range(turns)])[:drawn])
            places.append((np.arange(drawn) + generator.random(drawn)) / drawn)
        return np.concatenate(taken)[np.argsort(np.concatenate(places))]


def strata_of(rewards: Sequence[Rewards], count: int) -> Strata:
    """Samples of several data sets by the quantile of their reward in their own set, which keeps its share of an epoch.

    Args:
        rewards: of each data set, (N,), finite; positions count through all of them.
        count: strata of each data set (at least 1); where it has fewer samples, as many as those.
    """
    groups: list[Positions] = []
    drawn: list[int] = []
    for values in rewards:
        start, ranking = sum(map(len, groups)), np.argsort(values, kind="stable")
        parts = np.array_split(ranking, min(count, len(ranking)))
        groups += [start + part for part in parts]
        drawn += draws(values[ranking], [len(part) for part in parts]).tolist()
    chosen = [(group, number) for group, number in zip(groups, drawn, strict=True) if number]
    return Strata(tuple(group for group, _ in chosen), tuple(number for _, number in chosen))


def draws(ordered: Rewards, sizes: Sequence[int]) -> NDArray[np.int64]:
    """How many samples an epoch of N takes of each stratum (K,).

    n samples over a range of w have the density n / w, so a stratum's share is in proportion to n / sqrt(n / w), which
    is sqrt(n w), within the limits RAREST and COMMONEST; then all shares are scaled to a sum of 1.

    Args:
        ordered: all rewards (N,), ascending.
        sizes: of the strata (K,), which follow each other in that order.
    """
    edges = ordered[np.minimum([0, *np.cumsum(sizes)], len(ordered) - 1)].astype(np.float64)
    even, shares = np.array(sizes) / len(ordered), np.sqrt(np.diff(edges) * sizes)
    shares = shares / shares.sum() if shares.any() else even
    running = np.cumsum(np.clip(shares, COMMONEST * even, RAREST * even))
    # differences of rounded running sums add up
    ends = np.rint(running / running[-1] * len(ordered)).astype(np.int64)
    return np.asarray(np.diff(ends, prepend=0), np.int64)
