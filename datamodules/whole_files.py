"""Files that appear whole or not at all, and a full disk as a plain message."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from datamodules.errors import SuiteError

NO_ROOM = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "your quota of the disk is used up",
    errno.EFBIG: "the file is larger than this process may write (`ulimit -f` shows the limit)",
}


class NoRoomError(SuiteError):
    """A file could not be written for want of room; whatever was finished before is kept."""


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Write a file so that readers see all of it or nothing: temporary name, fsync, rename at the end of the block.

    A process that is killed within the block leaves the temporary file; `remove_partial_files` clears it away.

    Raises NoRoomError when the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with plain_when_full(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_partial_files(path: Path) -> None:
    """Remove what killed writers of `path` left beside it. Only for who knows that nobody writes it now."""
    for partial in path.parent.glob(f".{path.name}.[0-9]*.part"):
        partial.unlink(missing_ok=True)


@contextmanager
def plain_when_full(path: Path) -> Iterator[None]:
    """Turn the operating system's errors for want of room into a NoRoomError that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        place = next(folder for folder in path.absolute().parents if folder.exists())
        free = shutil.disk_usage(place).free
        raise NoRoomError(
            f"{path} could not be written: {NO_ROOM[error.errno]} ({free / 2**20:,.1f} MiB are free in {place}). "
            "Nothing that was finished is lost: make room and repeat the command, it goes on from there"
        ) from error
