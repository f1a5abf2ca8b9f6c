"""`unfinished/`: what is there so far of a data set without a manifest. Any number of processes may add to it.

    unfinished/data_set.json           what is being made: a manifest without shards
    unfinished/shard-000012.tar.json   a finished shard: its entry for the manifest, written after the shard itself
    unfinished/shard-000012.tar.lock   locked while a process works on that shard
    .lock                              beside the folder; locked by a collector while it runs, by labellers for a moment

No file has two writers, so there is nothing to merge, and a kill at any moment costs no more than the shard in work.
"""

import os
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from datamodules.errors import DataError
from datamodules.locks import Lock, try_lock
from datamodules.manifest import Manifest, ShardEntry, read_manifest
from datamodules.results import read_json, write_json
from datamodules.whole_files import plain_when_full, remove_partial_files

UNFINISHED, DATA_SET = "unfinished", "data_set.json"


@dataclass(frozen=True)
class FinishedShard:
    """A shard that is done while others are not."""

    entry: ShardEntry
    """what the manifest will say of it"""
    source: str = ""
    """sha256 of the shard of frames that was labelled; empty: a shard of frames, or one that is to be labelled again"""
    teacher_queries: int = 0
    """frames the teacher scored for it, in all attempts that came to an end"""


def folder_lock(folder: Path) -> Path:
    """The lock file of a data set's folder."""
    return folder / ".lock"


class Unfinished:
    """The memory of a data set that is being made. Whoever begins, changes or removes it holds the folder's lock."""

    def __init__(self, folder: Path) -> None:
        """Args: folder: the data set's folder; it may be empty or missing."""
        self._folder, self._place = folder, folder / UNFINISHED

    @property
    def begun(self) -> bool:
        """Whether the folder holds a data set that was begun and not concluded."""
        return (self._place / DATA_SET).exists()

    def data_set(self) -> Manifest | None:
        """What is being made; None if nothing was begun, or if it was concluded. DataError: it is not readable."""
        try:
            return read_manifest(self._place, DATA_SET)
        except DataError:
            if self.begun:
                raise
            return None

    def begin(self, data_set: Manifest, finished: Iterable[FinishedShard] = ()) -> None:
        """Begin a data set of which some shards may be there already."""
        shutil.rmtree(self._place, ignore_errors=True)  # a beginning that was killed
        for shard in finished:
            self.record(shard)
        data_set.write(self._place, DATA_SET)  # last: it makes the others count

    def find(self, name: str) -> FinishedShard | None:
        """One finished shard; None if it is not finished, or what is noted of it cannot be read."""
        try:
            content = read_json(self._place / f"{name}.json")
            return FinishedShard(ShardEntry(**content.pop("entry")), **content)
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def record(self, finished: FinishedShard) -> None:
        """Note that a shard is done; the shard itself lies in the folder by now."""
        write_json(self._place / f"{finished.entry.name}.json", asdict(finished))

    def names(self) -> list[str]:
        """File names of the finished shards, in order."""
        return sorted(path.name.removesuffix(".json") for path in self._place.glob("*.tar.json"))

    def forget(self, name: str) -> None:
        """Take a finished shard back."""
        (self._place / f"{name}.json").unlink(missing_ok=True)

    def claim(self, name: str) -> Lock | None:
        """Take a shard to work on, until the lock is released; None if another process has it.

        Raises FileNotFoundError when the data set was concluded in the meantime.
        """
        with plain_when_full(self._place):
            lock = try_lock(self._place / f"{name}.lock")
        if lock is not None:
            remove_partial_files(self._folder / name)  # of a process that was killed: it would hold the lock otherwise
        return lock

    def remove(self) -> None:
        """Forget everything at once: the manifest is written, or there is nothing to go on with."""
        if self._place.exists():
            leaving = self._folder / f".{UNFINISHED}.{os.getpid()}.part"
            self._place.rename(leaving)  # in one step: nobody finds half of it
        for left in self._folder.glob(f".{UNFINISHED}.*.part"):
            shutil.rmtree(left, ignore_errors=True)
