"""Train, validation and test by whole episode, and nested shares of the episodes, from a stable digest.

Frames of one episode look alike, so an episode never straddles two splits. Of every ten consecutive episodes
(0-9, 10-19, ...) exactly one is for validation and one for testing; a digest says which. So ten episodes are enough for
three splits, appending episodes never moves an old one, and nothing depends on the process (as `hash()` would).
"""

import hashlib
import math
from collections.abc import Iterable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Split = Literal["train", "validation", "test"]

BLOCK = 10


def split_of(episode: int, seed: int = 0) -> Split:
    """The split of an episode: 80/10/10, exact in every block of ten consecutive episodes."""
    start = episode - episode % BLOCK
    ranking = sorted(range(start, start + BLOCK), key=lambda number: _digest("split", number, seed))
    rank = ranking.index(episode)
    if rank == 0:
        return "validation"
    return "test" if rank == 1 else "train"


def share_of(episodes: Iterable[int], fraction: float, seed: int = 0) -> set[int]:
    """A fraction of the episodes (above 0, to 1), at least one; a smaller fraction is a subset of a larger one."""
    ranking = sorted(set(episodes), key=lambda number: _digest("share", number, seed))
    # the small term: .1 * 30 is 3.0000000000000004, which must count as 3
    return set(ranking[: max(1, math.ceil(fraction * len(ranking) - 1e-9))])


def episodes_of(episode: NDArray[np.int64], split: Split, data_fraction: float = 1.0, seed: int = 0) -> frozenset[int]:
    """The episodes of a split among those of all samples (N,); of the training split only a share. May be empty."""
    chosen = {number for number in np.unique(episode).tolist() if split_of(number) == split}
    return frozenset(share_of(chosen, data_fraction, seed) if split == "train" and chosen else chosen)


def _digest(purpose: str, episode: int, seed: int) -> bytes:
    return hashlib.sha256(f"{purpose}/{seed}/{episode}".encode()).digest()
