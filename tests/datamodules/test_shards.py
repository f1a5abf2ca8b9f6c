"""Shards are ordinary tars, appear whole or not at all, and damage never passes silently."""

import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.errors import DataError
from datamodules.manifest import read_manifest
from datamodules.shards import ShardWriter, find_damage, read_samples, verify
from tests.data_sets import COLLECTION, TASK, frame_of, sample_of, write_frames

SHARDS = 7


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """50 samples in seven shards; nobody changes it."""
    return write_frames(tmp_path_factory.mktemp("original"))


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy to damage; each example restores it first."""
    return tmp_path_factory.mktemp("victim")


def restore(original: Path, victim: Path) -> list[Path]:
    for path in original.iterdir():
        (victim / path.name).write_bytes(path.read_bytes())
    return sorted(victim.glob("shard-*.tar"))


def test_every_sample_comes_back_in_order(original: Path) -> None:
    samples = list(read_samples(original))
    assert [(sample.episode, sample.step) for sample in samples] == [(e, s) for e in range(10) for s in range(5)]
    for sample in samples:
        np.testing.assert_array_equal(sample.frame, frame_of(sample.episode, sample.step))
        np.testing.assert_array_equal(sample.teacher_frame, frame_of(sample.episode, sample.step, 24))


def test_shards_are_ordinary_tars(original: Path) -> None:
    with tarfile.open(original / "shard-000000.tar") as tar:
        assert tar.getnames()[:4] == [
            f"000000-000000.{extension}" for extension in ("frame.png", "teacher.png", "state.npy", "json")
        ]


def test_the_same_samples_give_the_same_bytes(original: Path, tmp_path: Path) -> None:
    write_frames(tmp_path)
    for path in original.iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes()


def test_nothing_but_shards_and_manifest_is_left(original: Path) -> None:
    names = [f"shard-{number:06d}.tar" for number in range(SHARDS)]
    assert sorted(path.name for path in original.iterdir()) == ["manifest.json", *names]


def test_a_stopped_collection_does_not_exist_for_readers(tmp_path: Path) -> None:
    def collect() -> Iterator[None]:
        with ShardWriter(tmp_path, TASK, COLLECTION, samples_per_shard=2) as writer:
            for step in range(5):
                writer.add(sample_of(0, step))
                yield
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(collect())
    assert len(list(tmp_path.glob("shard-*.tar"))) == 2
    with pytest.raises(DataError, match=r"manifest\.json is missing"):
        next(read_samples(tmp_path))


def test_leftovers_of_a_stopped_collection_are_not_mixed_in(tmp_path: Path) -> None:
    for name in ("shard-000099.tar", ".shard-000000.tar.99.part"):
        (tmp_path / name).write_bytes(b"left over")
    write_frames(tmp_path, episodes=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest.json", "shard-000000.tar"]


def stop_writing(folder: Path, samples: int) -> None:
    """A collection of two samples a shard that ends with an exception."""

    def write() -> None:
        with ShardWriter(folder, TASK, COLLECTION, samples_per_shard=2) as writer:
            for step in range(samples):
                writer.add(sample_of(0, step))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()


@pytest.mark.parametrize("damage", ["none", "cut", "missing"])
def test_a_stopped_writer_goes_on_after_its_last_whole_shard(tmp_path: Path, damage: str) -> None:
    stop_writing(tmp_path / "stopped", 7)
    second = tmp_path / "stopped/shard-000001.tar"
    if damage == "cut":
        second.write_bytes(second.read_bytes()[:-512])
    elif damage == "missing":
        second.unlink()
    with ShardWriter(tmp_path / "stopped", TASK, COLLECTION, samples_per_shard=2) as writer:
        assert writer.kept == (6 if damage == "none" else 2)
        for step in range(writer.kept, 9):
            writer.add(sample_of(0, step))
    write_frames(tmp_path / "whole", episodes=1, steps=9, samples_per_shard=2)
    for path in (tmp_path / "whole").iterdir():
        assert path.read_bytes() == (tmp_path / "stopped" / path.name).read_bytes()
    assert len(list((tmp_path / "stopped").iterdir())) == 6


def test_what_a_stopped_writer_finished_is_not_added_again(tmp_path: Path) -> None:
    stop_writing(tmp_path, 4)
    with (
        ShardWriter(tmp_path, TASK, COLLECTION, samples_per_shard=2) as writer,
        pytest.raises(DataError, match="000000-000003 was added after 000000-000003"),
    ):
        writer.add(sample_of(0, 3))


def test_a_folder_begun_with_other_settings_is_refused_and_kept(tmp_path: Path) -> None:
    stop_writing(tmp_path, 4)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.tar*")}
    with (
        pytest.raises(DataError, match=r"collection\.seed is 7, here it is 8; choose another"),
        ShardWriter(tmp_path, TASK, {**COLLECTION, "seed": 8}),
    ):
        pass
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.tar*")} == before


def test_a_second_writer_is_refused_while_the_first_one_writes(tmp_path: Path) -> None:
    with ShardWriter(tmp_path, TASK, COLLECTION, samples_per_shard=2) as writer:
        writer.add(sample_of(0, 0))
        with pytest.raises(DataError, match="another process collects into"), ShardWriter(tmp_path, TASK, COLLECTION):
            pass
    assert sum(1 for _ in read_samples(tmp_path)) == 1


def test_a_finished_folder_is_not_written_to(tmp_path: Path) -> None:
    write_frames(tmp_path, episodes=1)
    with pytest.raises(DataError, match="holds a finished data set"):
        ShardWriter(tmp_path, TASK, COLLECTION)


def test_a_key_is_taken_only_once(tmp_path: Path) -> None:
    with ShardWriter(tmp_path, TASK, COLLECTION, samples_per_shard=1) as writer:
        writer.add(sample_of(0, 0))
        writer.add(sample_of(0, 1))  # the first is in a shard on disk by now
        with pytest.raises(DataError, match="000000-000000 was added after 000000-000001: keys must ascend"):
            writer.add(sample_of(0, 0))


def test_a_sample_of_another_task_is_refused(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, TASK, COLLECTION)
    with pytest.raises(DataError, match="is of task 'walker_walk', the data set is of 'cartpole_swingup'"):
        writer.add(replace(sample_of(0, 0), task="walker_walk"))


def test_an_empty_data_set_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no sample was collected"), ShardWriter(tmp_path, TASK, COLLECTION):
        pass
    assert not list(tmp_path.iterdir())


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_every_damaged_shard_is_named_and_no_other(original: Path, victim: Path, data: st.DataObject) -> None:
    shards = restore(original, victim)
    kinds = st.sampled_from(["whole", "cut", "flip", "append", "missing"])
    fates = data.draw(st.lists(kinds, min_size=SHARDS, max_size=SHARDS))
    for shard, fate in zip(shards, fates, strict=True):
        content = bytearray(shard.read_bytes())
        place = data.draw(st.integers(0, len(content) - 1))
        if fate == "cut":
            shard.write_bytes(content[:place])
        elif fate == "append":
            shard.write_bytes(content + b"\0" * 512)
        elif fate == "flip":
            content[place] ^= 1 << data.draw(st.integers(0, 7))
            shard.write_bytes(content)
        elif fate == "missing":
            shard.unlink()
    damaged = [shard.name for shard, fate in zip(shards, fates, strict=True) if fate != "whole"]
    manifest = read_manifest(victim)
    assert [damage.shard for damage in find_damage(victim, manifest)] == damaged
    if damaged:
        with pytest.raises(DataError, match=f"{len(damaged)} of 7 shards") as caught:
            verify(victim, manifest)
        assert all(name in str(caught.value) for name in damaged)
        with pytest.raises(DataError):
            next(read_samples(victim))


def test_a_tar_cut_between_two_samples_is_not_accepted(original: Path, victim: Path) -> None:
    """The cut that tarfile and webdataset take for a shorter tar: no member is broken, the end blocks are there."""
    shard = restore(original, victim)[2]
    with tarfile.open(shard) as tar:
        end = next(member.offset for member in tar if member.name.startswith("000003-000003"))
    shard.write_bytes(shard.read_bytes()[:end] + b"\0" * 1024)
    with tarfile.open(shard) as tar:
        assert len(tar.getnames()) == 2 * 4  # two whole samples, silently
    with pytest.raises(DataError, match=r"shard-000002\.tar: [\d,]+ bytes instead of"):
        list(read_samples(victim))
