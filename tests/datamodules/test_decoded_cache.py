"""The decoded cache answers exactly as the shards do, and is only ever filled from verified ones."""

import errno
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from datamodules import decoded_cache
from datamodules.decoded_cache import open_decoded, why_no_room
from datamodules.errors import DataError
from datamodules.labelled_rows import labelled_samples
from datamodules.manifest import read_manifest
from datamodules.records import encode
from datamodules.shards import write_shard
from datamodules.whole_files import NoRoomError
from tests.data_sets import DIM, embedding_of, frame_of, sample_of, write_labels


class Usage(NamedTuple):
    """What `shutil.disk_usage` says, as far as it is asked."""

    free: int


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    return write_labels(tmp_path / "labels")


def check_contents(labels: Path, cache: Path | None = None) -> None:
    decoded = open_decoded(str(labels), read_manifest(labels), cache or labels / ".cache")
    assert len(decoded) == 50
    np.testing.assert_array_equal(decoded.episode, np.repeat(np.arange(10), 5))
    np.testing.assert_array_equal(decoded.step, np.tile(np.arange(5), 10))
    for row, (episode, step) in enumerate(zip(decoded.episode.tolist(), decoded.step.tolist(), strict=True)):
        np.testing.assert_array_equal(decoded.frames[row], frame_of(episode, step))
        np.testing.assert_array_equal(decoded.embeddings[row], embedding_of(episode, step))
        assert decoded.true_reward[row] == pytest.approx(episode + step / 100)


def fill(labels: Path) -> int:
    return len(open_decoded(str(labels), read_manifest(labels), labels / ".cache"))


def test_no_frame_is_paired_with_anothers_label(labels: Path) -> None:
    check_contents(labels)  # filled from the shards
    check_contents(labels)  # read from the cache


def test_the_cache_answers_without_the_shards(labels: Path) -> None:
    fill(labels)
    for shard in labels.glob("*.tar"):
        shard.unlink()
    check_contents(labels)


def test_the_cache_may_lie_elsewhere(labels: Path, tmp_path: Path) -> None:
    check_contents(labels, tmp_path / "elsewhere")
    assert not (labels / ".cache").exists()
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == [read_manifest(labels).digest]


def cut_short(folder: Path) -> None:
    path = folder / "frames.npy"
    path.write_bytes(path.read_bytes()[:-100])


def lose_a_column(folder: Path) -> None:
    (folder / "episode.npy").unlink()


@pytest.mark.parametrize("damage", [cut_short, lose_a_column])
def test_a_damaged_cache_is_filled_again(labels: Path, damage: Callable[[Path], None]) -> None:
    fill(labels)
    damage(labels / ".cache" / read_manifest(labels).digest)
    check_contents(labels)


def test_a_full_disk_is_a_message_and_leaves_no_cache(labels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, offset: int, size: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(NoRoomError, match=r"labels/\.cache/.* could not be written: the disk is full .*make room"):
        fill(labels)
    assert not list((labels / ".cache").iterdir())


def test_every_block_is_there_before_a_frame_is_written(labels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reserved, reserve = [], os.posix_fallocate

    def watched(descriptor: int, offset: int, size: int) -> None:
        reserve(descriptor, offset, size)
        reserved.append((offset, size))

    monkeypatch.setattr(os, "posix_fallocate", watched)
    fill(labels)
    sizes = [path.stat().st_size for path in (labels / ".cache").glob("*/*.npy")]
    assert sorted(reserved) == sorted((0, size) for size in sizes)
    assert len(sizes) == 5
    check_contents(labels)


def test_room_is_counted_by_file_system(labels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame_and_row = 16 * 16 * 3 + 2 * DIM + 8 + 8 + 4
    for_one = decoded_cache.FREE_BYTES + 50 * frame_and_row
    monkeypatch.setattr(shutil, "disk_usage", lambda place: Usage(for_one))
    manifest, here, other = read_manifest(labels), labels / ".cache", Path("/dev/shm/cache")
    assert why_no_room([(manifest, here)]) is None
    assert "100 decoded frames take 0.0 GiB" in str(why_no_room([(manifest, here), (manifest, labels / "more")]))
    if other.parent.is_dir() and other.parent.stat().st_dev != labels.stat().st_dev:
        assert why_no_room([(manifest, here), (manifest, other)]) is None


def test_a_damaged_shard_leaves_no_cache(labels: Path) -> None:
    shard = labels / "shard-000003.tar"
    shard.write_bytes(shard.read_bytes()[:-512])
    with pytest.raises(DataError, match=r"shard-000003\.tar"):
        fill(labels)
    assert not list((labels / ".cache").iterdir())


def test_several_processes_may_fill_it_at_once(labels: Path) -> None:
    with ProcessPoolExecutor(3, mp_context=get_context("fork")) as pool:
        assert list(pool.map(fill, [labels] * 3)) == [50, 50, 50]
    assert len(list((labels / ".cache").iterdir())) == 1
    check_contents(labels)


def test_a_sample_that_is_in_two_shards_is_refused(labels: Path) -> None:
    manifest = read_manifest(labels)
    shutil.copy(labels / manifest.shards[0].name, labels / "shard-000099.tar")
    twin = replace(manifest.shards[0], name="shard-000099.tar")
    replace(manifest, shards=(*manifest.shards, twin)).write(labels)
    with pytest.raises(DataError, match=r"sample 000000-000000 .* is there twice"):
        fill(labels)


def test_frames_of_another_size_than_the_manifests_are_refused(labels: Path) -> None:
    manifest = read_manifest(labels)
    render = replace(manifest.task.render, frame_pixels=20)
    replace(manifest, task=replace(manifest.task, render=render)).write(labels)
    with pytest.raises(DataError, match=r"frames have shape \(16, 16, 3\), the manifest says \(20, 20, 3\)"):
        fill(labels)


def test_an_unlabelled_sample_is_named(labels: Path) -> None:
    manifest = read_manifest(labels)
    sample = sample_of(0, 0)
    shard = write_shard(labels / manifest.shards[0].name, [(sample.key, encode(sample))])
    with pytest.raises(DataError, match=r"000000-000000 has no embedding\.npy"):
        list(labelled_samples(str(labels), replace(manifest, shards=(shard,))))


def test_folder_names_are_never_commands_or_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("pipe:touch harm", "{0..3}", "gs:", "a::b"):
        check_contents(write_labels(Path(name)))
    assert not (tmp_path / "harm").exists()
