"""Which samples make up which batch, in every process of a distributed fit: none twice, none lost in validation."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch.distributed
from torch.utils.data import DataLoader, DistributedSampler

from datamodules.errors import DataError


class Turn(NamedTuple):
    """One batch of one process: what the sampler asks a reader for."""

    epoch: int
    number: int
    """0 to `Turns.batches` - 1"""


@dataclass(frozen=True)
class Turns:
    """An epoch's samples, in an order that all processes share, cut into as many batches for each process.

    Each process takes one run of the order. Every process has equally many batches, for one that has fewer would leave
    the others waiting in their next exchange of gradients or statistics for ever.
    """

    samples: int
    """in the whole epoch"""
    batch_size: int
    """frames in a batch; smaller where a process has fewer frames than that"""
    training: bool
    """leave out what does not fill a batch (batch normalisation fails on one frame); else every sample is used once"""
    rank: int = 0
    """number of this process"""
    ranks: int = 1
    """processes of the fit"""

    def __post_init__(self) -> None:
        if self.samples < self.ranks:
            raise DataError(
                f"{self.samples} frames cannot be shared by {self.ranks} processes: take fewer devices or more frames"
            )

    @property
    def size(self) -> int:
        """Frames in a full batch."""
        return min(self.batch_size, self.samples // self.ranks)

    @property
    def batches(self) -> int:
        """Batches of each process."""
        share = self.samples // self.ranks
        return share // self.size if self.training else -(-share // self.size)

    def span(self, number: int) -> tuple[int, int]:
        """Where in the epoch's order batch `number` of this process begins and ends.

        Out of training the last batch takes what is left, which may be one more than a full batch.
        """
        if self.training:
            start = (self.rank * self.batches + number) * self.size
            return start, start + self.size
        first, last = (rank * self.samples // self.ranks for rank in (self.rank, self.rank + 1))
        start = first + number * self.size
        return start, last if number == self.batches - 1 else start + self.size


def this_process() -> tuple[int, int]:
    """Number of this process and count of all in a distributed fit; (0, 1) outside one."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


class BatchOrder(DistributedSampler[Turn]):
    """The turns of this process, one after the other; the reader knows what a turn holds.

    A DistributedSampler, because Lightning puts its own, which repeats validation samples, in the place of any other.
    """

    def __init__(self, turns: Turns) -> None:
        """Args: turns: how an epoch is cut."""
        super().__init__(range(turns.batches), num_replicas=turns.ranks, rank=turns.rank, shuffle=False)  # type: ignore[arg-type]  # only its length is asked for
        self._batches = turns.batches

    def __len__(self) -> int:
        return self._batches

    def __iter__(self) -> Iterator[Turn]:
        """The turns of an epoch. Lightning sets the epoch before each, so a resumed fit goes on in the same order."""
        epoch, self.epoch = self.epoch, self.epoch + 1  # at the first turn: loaders make iterators that they never use
        for number in range(self._batches):
            yield Turn(epoch, number)


class LateLoader(DataLoader[Any]):
    """A loader whose processes take their first turns when the first batch is asked for, and not before.

    Lightning makes the iterator of a resumed fit before it sets the epoch, even before it knows it: processes that
    fetched ahead at once would repeat epoch 0's order.
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # callers iterate and ask for nothing else
        """An epoch's batches."""
        yield from super().__iter__()
