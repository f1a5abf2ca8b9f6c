"""One item ahead: in order, never further, and no thread is left behind."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from datamodules.errors import DataError
from datamodules.manifest import read_manifest
from lightning_modules.label_batches import frame_batches, one_ahead
from tests.data_sets import frame_of, write_frames


def test_items_are_made_one_ahead_and_no_further() -> None:
    made: list[int] = []

    def make() -> Iterator[int]:
        for number in range(5):
            made.append(number)
            yield number

    used = []
    for number in one_ahead(make(), threading.Event()):
        used.append(number)
        assert len(made) <= number + 2
    assert used == [0, 1, 2, 3, 4]


def test_the_next_item_is_made_while_the_one_before_is_used() -> None:
    second_made = threading.Event()

    def make() -> Iterator[int]:
        yield 0
        second_made.set()
        yield 1

    with closing(one_ahead(make(), threading.Event())) as items:
        assert next(items) == 0
        assert second_made.wait(10)  # without anybody asking for it


def test_an_error_reaches_the_user_of_the_items() -> None:
    def make() -> Iterator[int]:
        yield 0
        raise DataError("broken")

    items = one_ahead(make(), threading.Event())
    assert next(items) == 0
    with pytest.raises(DataError, match="broken"):
        next(items)


def test_closing_stops_a_maker_that_waits() -> None:
    stop = threading.Event()

    def make() -> Iterator[int]:
        yield 0
        stop.wait(60)

    before = threading.active_count()
    with closing(one_ahead(make(), stop)) as items:
        assert next(items) == 0
    assert stop.is_set()
    assert threading.active_count() == before


def test_a_shard_comes_in_batches_of_its_teacher_frames(tmp_path: Path) -> None:
    write_frames(tmp_path, episodes=1, steps=5, samples_per_shard=5)
    (shard,) = read_manifest(tmp_path).shards
    with ThreadPoolExecutor(2) as decoders:
        batches = list(frame_batches(tmp_path, shard, 2, decoders))
    assert [(len(batch.samples), batch.last) for batch in batches] == [(2, False), (2, False), (1, True)]
    frames = np.concatenate([batch.frames for batch in batches])
    np.testing.assert_array_equal(frames, np.stack([frame_of(0, step, 24) for step in range(5)]))


def test_a_damaged_shard_gives_no_batch(tmp_path: Path) -> None:
    write_frames(tmp_path, episodes=1)
    (shard,) = read_manifest(tmp_path).shards
    path = tmp_path / shard.name
    path.write_bytes(path.read_bytes()[:-512])
    with ThreadPoolExecutor(1) as decoders, pytest.raises(DataError, match=r"is damaged: .* bytes instead of"):
        next(frame_batches(tmp_path, shard, 2, decoders))
