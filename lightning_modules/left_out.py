"""The training episodes that each member of an ensemble does without, so that members differ where data are few."""

import numpy as np
from numpy.typing import NDArray

from datamodules.frames_datamodule import FramesDataModule
from datamodules.splits import share_of
from lightning_modules.student_scores import EPISODES

SHARE = 0.2


def left_out_episodes(data: FramesDataModule, members: int) -> list[NDArray[np.int64]]:
    """Of each member, the numbers (as `student_scores.episode_numbers`) of the episodes that it is fitted without.

    A fifth of each data set's training episodes; the members' shares are drawn independently of each other, from the
    data module's seed. Frames of an episode look alike, so leaving out single frames would leave out nothing.
    """
    return [
        np.concatenate([_of_set(data, number, member) for number in range(len(data.sets))]) for member in range(members)
    ]


def _of_set(data: FramesDataModule, number: int, member: int) -> NDArray[np.int64]:
    episodes = data.train_episodes(number)
    # another seed than any that chooses the data fraction
    kept = share_of(episodes, 1 - SHARE, seed=-1 - member - 32 * data.seed)
    return np.array(sorted(episodes - kept), np.int64) + EPISODES * number
