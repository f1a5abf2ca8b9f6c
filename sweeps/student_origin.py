"""Which frames of a data set a student may be judged by: those that its fit has not seen, as far as can be told."""

import hashlib
from collections.abc import Sequence
from itertools import permutations
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from datamodules.errors import DataError
from datamodules.labelled_set import LabelledSet
from datamodules.splits import episodes_of
from lightning_modules.student_files import StudentCard

Origin = Literal["held out", "perhaps seen", "new frames", "other task"]
"""held out: its own data set, of which only the test episodes count; perhaps seen: a task that it learned, from data
sets that cannot be told, so again only the test episodes count; new frames: a task that it learned, other frames of it;
other task: a task that it never saw"""


def origin_of(card: StudentCard, fitted_sets: int | None, one: LabelledSet, sets: Sequence[LabelledSet]) -> Origin:
    """Whether a student was fitted to a data set, to its task, or to neither.

    A card holds the digest of the data set that the student was fitted to; of several, the digest of their digests in
    order, which is looked for among all orders of the data sets at hand.

    Args:
        card: of the student.
        fitted_sets: how many data sets it was fitted to; None: not known.
        one: the data set in question.
        sets: all that are at hand.
    """
    mine = one.manifest.digest
    if card.manifest_digest == mine:
        return "held out"
    if one.manifest.task.name not in card.tasks:
        return "other task"
    if fitted_sets == 1:
        return "new frames"
    digests = [each.manifest.digest for each in sets]
    for count in range(2, len(digests) + 1) if fitted_sets is None else (fitted_sets,):
        for chosen in permutations(digests, count):
            if hashlib.sha256("".join(chosen).encode()).hexdigest() == card.manifest_digest:
                return "held out" if mine in chosen else "new frames"
    return "perhaps seen"


def rows_that_count(one: LabelledSet, origin: Origin) -> NDArray[np.int64]:
    """Numbers of the data set's samples that a student of this origin is judged by. Raises DataError: there is none."""
    episode = np.asarray(one.decoded.episode)
    if origin in ("new frames", "other task"):
        return np.arange(len(episode))
    rows = np.flatnonzero(np.isin(episode, sorted(episodes_of(episode, "test"))))
    if len(rows) < 2:
        raise DataError(
            f"{one.place} has no test episode: only those count for a student that was fitted to the others"
        )
    return rows
