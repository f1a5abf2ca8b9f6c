"""Frames as student and teacher judge them, collected over batches and processes."""

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datamodules.batches import FrameBatch
from lightning_modules.fidelity import Fidelity, measure_fidelity

EPISODES = 10**6
"""episode numbers of a data set lie below (`records.sample_key`)"""


class Scores(NamedTuple):
    """Frames as student and teacher judge them; rewards standardised."""

    student: Tensor
    """float32 (N,) mean over the ensemble's members"""
    spread: Tensor
    """float32 (N,) standard deviation over the members; 0 where there is one"""
    teacher: Tensor
    """float32 (N,)"""
    loss: Tensor
    """float32 (N,) what the fit minimises, mean over the members"""
    true_reward: Tensor
    """float32 (N,)"""
    data_set: Tensor
    """int64 (N,)"""
    episode: Tensor
    """int64 (N,); those of the first data set keep their numbers, those of others come behind"""
    step: Tensor
    """int64 (N,)"""

    @classmethod
    def of(cls, batch: FrameBatch, members: Tensor, teacher: Tensor, losses: Tensor) -> Self:
        """Scores of a batch, on the CPU; members and losses are (B, K), teacher (B,)."""
        columns = (
            members.mean(dim=1),
            members.std(dim=1, correction=0),
            teacher,
            losses.mean(dim=1),
            batch.true_reward,
            batch.data_set,
            episode_numbers(batch),
            batch.step,
        )
        return cls(*(column.cpu() for column in columns))

    @classmethod
    def together(cls, parts: Sequence[Self], processes: int = 1) -> Self:
        """The parts of this process, and of all others in a distributed fit, by episode and step."""
        columns: Sequence[Tensor] = [torch.cat(column) for column in zip(*parts, strict=True)]
        if processes > 1:
            everyones: list[Sequence[Tensor]] = [()] * processes
            torch.distributed.all_gather_object(everyones, columns)  # processes may hold one sample more or less
            columns = [torch.cat(column) for column in zip(*everyones, strict=True)]
        joined = cls(*columns)
        return joined.at(np.lexsort((joined.step, joined.episode)))

    def at(self, positions: NDArray[np.int64]) -> Self:
        """The scores at these positions, or where a mask is true."""
        return type(self)(*(column[torch.from_numpy(positions)] for column in self))

    def fidelity(self) -> Fidelity:
        """Agreement of student and teacher. Raises DataError where a reward is not finite."""
        return measure_fidelity(self.student, self.teacher, self.episode)


def episode_numbers(batch: FrameBatch) -> Tensor:
    """Episode of each frame, int64 (B,), told apart over all data sets."""
    return batch.episode + EPISODES * batch.data_set
