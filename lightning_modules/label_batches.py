"""Batches of frames for the teacher, read and decoded while it works on the batch before."""

import os
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from threading import Event
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from datamodules.errors import DataError
from datamodules.manifest import ShardEntry
from datamodules.records import TEACHER_FRAME, Members, decode_frame, member
from datamodules.shards import damage_of, read_shard

DECODERS = min(8, os.cpu_count() or 1)
"""threads that decode PNG; a GPU takes frames faster than one of them gives"""
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class FrameBatch:
    """Frames of one shard."""

    samples: list[tuple[str, Members]]
    """keys and members as they lie in the shard"""
    frames: NDArray[np.uint8]
    """(N, T, T, 3) RGB: the teacher's frames of these samples"""
    last: bool
    """whether the shard ends with it"""


def frame_batches(frames: Path, shard: ShardEntry, size: int, decoders: ThreadPoolExecutor) -> Iterator[FrameBatch]:
    """A shard in batches of at most `size`, one after the other. DataError: it is damaged, or a frame is."""
    damage = damage_of(frames, shard)
    if damage is not None:
        raise DataError(
            f"{frames / shard.name} is damaged: {damage.reason}; remove {frames} and run scripts.collect_frames again"
        )
    samples, left = read_shard(frames, shard), shard.samples
    while batch := list(islice(samples, size)):
        left -= len(batch)
        yield FrameBatch(batch, np.stack(list(decoders.map(_teacher_frame, batch))), last=left == 0)


def _teacher_frame(sample: tuple[str, Members]) -> NDArray[np.uint8]:
    key, members = sample
    return decode_frame(member(members, TEACHER_FRAME, key), f"{key}.{TEACHER_FRAME}")


def one_ahead(items: Iterator[T], stop: Event) -> Generator[T, None, None]:
    """The same items, each of them made in a thread while the one before is used: never more than one is waiting.

    Sets `stop` when nobody wants more; `items` must end soon after that, because the thread is waited for.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="one-ahead") as thread:
        try:
            coming = thread.submit(_next, items)
            while item := coming.result():
                coming = thread.submit(_next, items)
                yield item[0]
        finally:
            stop.set()


def _next(items: Iterator[T]) -> tuple[T] | None:
    """The next item, wrapped so that no item can be taken for the end; a StopIteration cannot pass a thread."""
    for item in items:
        return (item,)
    return None
