"""Which frames are worth a teacher query: strategies over what a student says of frames that nobody has labelled.

Random choice is the baseline that every other strategy has to beat.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datamodules.errors import UnknownNameError

Numbers = NDArray[np.int64]
Values = NDArray[np.float32]

SUSPECT_SHARE = 0.1
"""frames of the highest reward that count as suspects"""
UNSURE_SHARE = 0.25
"""frames of the largest spread that `mixed` chooses among"""
NEEDS_MEMBERS = ("spread", "mixed")
"""strategies that only an ensemble can serve: a single student has no spread"""


@dataclass(frozen=True, eq=False)
class Candidates:
    """N frames as the student sees them; rewards standardised."""

    reward: Values
    """(N,)"""
    spread: Values
    """(N,) standard deviation over the ensemble's members"""
    features: Values
    """(N, F) of the student's backbone"""

    def __len__(self) -> int:
        return len(self.reward)

    def at(self, places: Numbers) -> "Candidates":
        """Those at these places."""
        return Candidates(self.reward[places], self.spread[places], self.features[places])


Choose = Callable[[Candidates, Values, int, np.random.Generator], Numbers]
"""(candidates, features (L, F) of labelled frames, how many, generator) -> positions of the chosen ones"""


def choose_queries(
    strategy: str, candidates: Candidates, labelled: Values, count: int, generator: np.random.Generator
) -> Numbers:
    """Positions of the chosen candidates, each once, int64 (min(count, N),).

    Args:
        strategy: a key of STRATEGIES.
        candidates: what to choose among.
        labelled: features (L, F) of frames that have labels already; there may be none.
        count: how many to choose, 0 or more.
        generator: decides what chance decides.

    Raises UnknownNameError for a strategy that does not exist.
    """
    if strategy not in STRATEGIES:
        raise UnknownNameError("strategy of a refinement", strategy, STRATEGIES)
    if count >= len(candidates):
        return np.arange(len(candidates))
    return STRATEGIES[strategy](candidates, labelled, count, generator)


def at_random(candidates: Candidates, labelled: Values, count: int, generator: np.random.Generator) -> Numbers:
    """Any of them, equally likely."""
    return generator.choice(len(candidates), count, replace=False)


def next_to_median(candidates: Candidates, labelled: Values, count: int, generator: np.random.Generator) -> Numbers:
    """Those whose reward lies next to the median: neither goal nor failure, so where the student is least decided."""
    return _smallest(np.abs(candidates.reward - np.median(candidates.reward)), count)


def of_largest_spread(candidates: Candidates, labelled: Values, count: int, generator: np.random.Generator) -> Numbers:
    """Those on which an ensemble's members disagree most (query by committee, Seung et al. 1992)."""
    return _smallest(-candidates.spread, count)


def coreset(candidates: Candidates, labelled: Values, count: int, generator: np.random.Generator) -> Numbers:
    """k-centre in feature space: again and again the one farthest from all that is labelled or chosen.

    The greedy algorithm of Sener and Savarese 2018 ("Active Learning for Convolutional Neural Networks"). Without any
    labelled frame the first one is drawn at random.
    """
    distance = nearest_distances(candidates.features, labelled)
    chosen: list[int] = [] if len(labelled) else [int(generator.integers(len(candidates)))]
    while len(chosen) < count:
        if chosen:
            last = candidates.features[chosen[-1:]]
            distance = np.minimum(distance, nearest_distances(candidates.features, last))
        distance[chosen] = -1.0  # where all frames look alike, too, none is chosen twice
        chosen.append(int(np.argmax(distance)))
    return np.array(chosen, np.int64)


def mixed(candidates: Candidates, labelled: Values, count: int, generator: np.random.Generator) -> Numbers:
    """A coreset of the quarter with the largest spread: unsure, but not all of one kind."""
    few = of_largest_spread(candidates, labelled, _share(candidates, UNSURE_SHARE, count), generator)
    return few[coreset(candidates.at(few), labelled, count, generator)]


def suspects(candidates: Candidates, labelled: Values, count: int, generator: np.random.Generator) -> Numbers:
    """A coreset of the tenth with the highest reward: if the agent exploits its student, it does so there."""
    few = _smallest(-candidates.reward, _share(candidates, SUSPECT_SHARE, count))
    return few[coreset(candidates.at(few), labelled, count, generator)]


STRATEGIES: dict[str, Choose] = {
    "random": at_random,
    "median": next_to_median,
    "spread": of_largest_spread,
    "coreset": coreset,
    "mixed": mixed,
    "suspects": suspects,
}


def nearest_distances(points: Values, others: Values) -> Values:
    """Euclidean distance of each point (N, F) to the nearest of the others (L, F), (N,); infinite without others."""
    nearest = np.full(len(points), np.inf, np.float32)
    for start in range(0, len(others), 1024):
        part = others[start : start + 1024]
        squared = np.square(points).sum(axis=1)[:, None] + np.square(part).sum(axis=1) - 2.0 * points @ part.T
        nearest = np.minimum(nearest, squared.min(axis=1))
    return np.sqrt(np.maximum(nearest, 0.0))


def _share(candidates: Candidates, share: float, least: int) -> int:
    """How many a share of the candidates is, `least` at least."""
    return max(least, round(share * len(candidates)))


def _smallest(values: Values, count: int) -> Numbers:
    return np.argsort(values, kind="stable")[:count].astype(np.int64)
