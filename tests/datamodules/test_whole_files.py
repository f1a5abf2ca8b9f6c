"""Files appear whole or not at all, and what a full disk says."""

import errno
import os
from pathlib import Path

import pytest

from datamodules.whole_files import NoRoomError, plain_when_full, remove_partial_files, whole_file


def test_readers_see_the_old_file_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "folder/file"
    with whole_file(path) as stream:
        stream.write(b"old")
    with whole_file(path) as stream:
        stream.write(b"new and longer")
        stream.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new and longer"
    assert [file.name for file in path.parent.iterdir()] == ["file"]


def write_half(path: Path) -> None:
    with whole_file(path) as stream:
        stream.write(b"half")
        raise KeyboardInterrupt


def test_a_stopped_writer_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        write_half(path)
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("file", b"old")]


def test_what_killed_writers_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    for name in (".file.1.part", ".file.22.part", ".file.json.1.part", "file", ".other.1.part"):
        (tmp_path / name).touch()
    remove_partial_files(tmp_path / "file")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".file.json.1.part", ".other.1.part", "file"]


def write_to_a_full_device() -> None:
    with plain_when_full(Path("/dev/full")), Path("/dev/full").open("wb", buffering=0) as full:
        full.write(b"more")


def test_a_full_device_is_a_message() -> None:
    with pytest.raises(NoRoomError, match=r"/dev/full could not be written: the disk is full .*repeat the command"):
        write_to_a_full_device()


@pytest.mark.parametrize(("number", "words"), [(errno.EDQUOT, "quota"), (errno.EFBIG, "ulimit -f")])
def test_other_limits_are_named(tmp_path: Path, number: int, words: str) -> None:
    with pytest.raises(NoRoomError, match=words), plain_when_full(tmp_path / "not/there"):
        raise OSError(number, os.strerror(number))


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), plain_when_full(tmp_path):
        raise PermissionError(errno.EACCES, "no")
