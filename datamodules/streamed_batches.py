"""Batches streamed from shards, with bounded memory and no disk: fetch, verify, unpack, choose, shuffle, decode.

Every loader process streams one run of the epoch's order: the shards in which its run lies, one in memory at a time,
and of those only the samples of its run. So each sample is used once, however many processes there are, and no shard
is fetched by more of them than share it. What is not wanted is dropped before its PNG is decoded, and the shuffle
buffer holds PNGs, an order of magnitude smaller than pixels.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
import webdataset
from torch.utils.data import Dataset, get_worker_info

from datamodules.batch_order import Turn, Turns
from datamodules.batches import FrameBatch
from datamodules.errors import DataError
from datamodules.labelled_rows import decode_pixels, decode_row
from datamodules.labelled_set import LabelledSet
from datamodules.manifest import ShardEntry
from datamodules.records import Members
from datamodules.shards import load_shard, unpack

BUFFER = 8192
"""samples that a loader process shuffles at a time, as PNGs: a few dozen megabytes"""


@dataclass(frozen=True)
class Part:
    """A shard that holds wanted samples."""

    data_set: int
    """its data set's number"""
    place: str
    """its data set's folder or address"""
    shard: ShardEntry
    wanted: int
    """how many of its samples are wanted (at least 1)"""


class Packed(NamedTuple):
    """A wanted sample before decoding."""

    data_set: int
    key: str
    members: Members


def parts_of(data_set: int, labels: LabelledSet, episodes: frozenset[int]) -> list[Part]:
    """The shards of a data set that hold samples of these episodes, in order."""
    wanted = np.isin(labels.columns.episode, sorted(episodes))
    ends = np.cumsum([shard.samples for shard in labels.intact.shards])
    counts = [int(part.sum()) for part in np.split(wanted, ends[:-1])]
    return [
        Part(data_set, labels.place, shard, count)
        for shard, count in zip(labels.intact.shards, counts, strict=True)
        if count
    ]


class StreamedBatches(Dataset[FrameBatch]):
    """Batches of the wanted samples of one or several data sets; each loader process reads a run of its own."""

    def __init__(
        self,
        sets: Sequence[LabelledSet],
        episodes: Sequence[frozenset[int]],
        turns: Turns,
        shuffle_seed: int | None,
    ) -> None:
        """Choose samples and their order; no shard is fetched before the first batch is asked for.

        Args:
            sets: the data sets.
            episodes: which episodes of each are wanted.
            turns: how an epoch is cut.
            shuffle_seed: decides, with the epoch, the order; None: as in the shards, one data set after the other.
        """
        self._parts = [part for number, one in enumerate(sets) for part in parts_of(number, one, episodes[number])]
        self._episodes, self._turns, self._shuffle_seed = episodes, turns, shuffle_seed
        self._pixels, self._dim = sets[0].manifest.task.render.frame_pixels, sets[0].teacher.dim
        self._stream: Iterator[Packed] = iter(())
        self._next: tuple[int, int] | None = None

    def __getitem__(self, turn: Turn) -> FrameBatch:
        """The next batch of this loader process; a process is asked for its turns in order, from the first one on."""
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        position, own = divmod(turn.number, workers)
        assert own == worker, "torch's loader hands out turns to its processes one after the other"
        first, last = _run_of(worker, workers, self._turns.batches)
        if position == 0:
            self._stream = self._open(turn.epoch, self._turns.span(first)[0], self._turns.span(last)[1])
            self._next = turn.epoch, 0
        assert self._next == (turn.epoch, position), "batches can only be streamed in order"
        self._next = turn.epoch, position + 1
        start, stop = self._turns.span(first + position)
        samples = list(islice(self._stream, stop - start))
        if len(samples) != stop - start:
            raise DataError("shards changed during the fit: check them with `python -m scripts.verify_data`")
        return self._decode(samples)

    def _open(self, epoch: int, start: int, stop: int) -> Iterator[Packed]:
        stages = [partial(self._wanted, epoch, start, stop)]
        if self._shuffle_seed is not None:
            generator = random.Random(f"{self._shuffle_seed}/{epoch}/{start}")
            stages.append(webdataset.shuffle(BUFFER, initial=BUFFER, rng=generator))
        return iter(webdataset.DataPipeline(*stages))

    def _wanted(self, epoch: int, start: int, stop: int) -> Iterator[Packed]:
        """Samples `start` to `stop` of the epoch's order; shards outside are not fetched."""
        position = 0
        for part in self._order_of(epoch):
            begin, position = position, position + part.wanted
            if position <= start or begin >= stop:
                continue
            content = load_shard(part.place, part.shard)
            episodes = self._episodes[part.data_set]
            chosen = (
                Packed(part.data_set, key, members)
                for key, members in unpack(content, part.shard, part.place)
                if int(key.partition("-")[0]) in episodes
            )
            yield from islice(chosen, max(start - begin, 0), stop - begin)

    def _order_of(self, epoch: int) -> list[Part]:
        """The shards, each data set's shuffled and spread evenly over the epoch: batches mix the sets by size."""
        if self._shuffle_seed is None:
            return self._parts
        generator = np.random.default_rng((self._shuffle_seed, epoch))
        data_set = np.array([part.data_set for part in self._parts])
        place = np.empty(len(self._parts))
        for number in np.unique(data_set):
            count = int((data_set == number).sum())
            place[data_set == number] = (generator.permutation(count) + generator.random()) / count
        return [self._parts[index] for index in np.argsort(place)]

    def _decode(self, samples: Sequence[Packed]) -> FrameBatch:
        frames = np.empty((len(samples), self._pixels, self._pixels, 3), np.uint8)
        rows = []
        for number, sample in enumerate(samples):
            frames[number] = decode_pixels(sample.key, sample.members, self._pixels)
            rows.append(decode_row(sample.key, sample.members, self._dim))
        return FrameBatch(
            frames=torch.from_numpy(frames),
            embeddings=torch.from_numpy(np.stack([row.embeddings for row in rows]).astype(np.float32)),
            episode=torch.tensor([row.episode for row in rows]),
            step=torch.tensor([row.step for row in rows]),
            true_reward=torch.tensor([row.true_reward for row in rows], dtype=torch.float32),
            data_set=torch.tensor([sample.data_set for sample in samples]),
        )


def _run_of(worker: int, workers: int, batches: int) -> tuple[int, int]:
    """First and last batch of a loader process: neighbours, as many as the loader will ask it for."""
    counts = [len(range(number, batches, workers)) for number in range(workers)]
    first = sum(counts[:worker])
    return first, first + counts[worker] - 1
