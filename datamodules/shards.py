"""Shards: ordinary tars that appear whole or not at all, a manifest written last, verified before they are read.

A truncated tar is silent to most readers: it simply ends early. Here every shard's size and sha256 stand in the
manifest and are compared before its first sample is used.
"""

import hashlib
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from itertools import count, takewhile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from datamodules.errors import DataError
from datamodules.locks import wait_for_lock
from datamodules.manifest import MANIFEST, Manifest, ShardEntry, check_same_collection, read_manifest
from datamodules.records import Members, Sample, decode, encode
from datamodules.tasks import Task
from datamodules.unfinished import FinishedShard, Unfinished, folder_lock
from datamodules.whole_files import plain_when_full, whole_file

SHARD_NAME = "shard-{:06d}.tar"
SHARD_PATTERN = "shard-*.tar"
LOCK_PATIENCE = 1.0  # seconds; who only looks whether a folder is locked holds its lock for a moment


class ShardWriter:
    """Write a data set of collected frames: `with ShardWriter(...) as writer: writer.add(sample)`.

    At most one shard of encoded samples is held in memory, and each shard can be read as soon as it is written
    (unfinished.py). The manifest comes last. A folder whose writer was stopped is gone on with: `writer.kept` samples
    are there already, and the caller adds those that follow. One process writes at a time.
    """

    def __init__(self, folder: Path, task: Task, collection: dict[str, Any], samples_per_shard: int = 256) -> None:
        """Choose a folder; it is not touched before the block begins.

        Args:
            folder: where shards and manifest go; made if it does not exist.
            task: the task as collected.
            collection: collection settings and seed, plain JSON values, kept in the manifest.
            samples_per_shard: samples in each shard but the last.

        Raises:
            DataError: the folder holds a finished data set.
        """
        self._folder, self._task, self._collection = folder, task, collection
        self._samples_per_shard = samples_per_shard
        self._progress = Unfinished(folder)
        self._waiting: list[tuple[str, Members]] = []
        self._shards: list[ShardEntry] = []
        self._last_key = ""
        self._check_not_finished()

    @property
    def kept(self) -> int:
        """Samples in finished shards, those of an earlier run included."""
        return sum(shard.samples for shard in self._shards)

    def add(self, sample: Sample) -> None:
        """Add a sample. DataError: a field against the schema, another task's sample, or a key that does not ascend."""
        if sample.key <= self._last_key:
            raise DataError(
                f"sample {sample.key} was added after {self._last_key}: keys must ascend, so that each occurs once"
            )
        if sample.task != self._task.name:
            raise DataError(f"sample {sample.key} is of task {sample.task!r}, the data set is of {self._task.name!r}")
        self._waiting.append((sample.key, encode(sample)))
        self._last_key = sample.key
        if len(self._waiting) == self._samples_per_shard:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            entry = write_shard(self._folder / SHARD_NAME.format(len(self._shards)), self._waiting)
            self._progress.record(FinishedShard(entry))
            self._shards.append(entry)
            self._waiting = []

    def __enter__(self) -> Self:
        """Begin, or go on after the last whole shard.

        Raises DataError: the folder is finished, another process writes to it, or it was begun with other settings.
        """
        with plain_when_full(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            lock = wait_for_lock(folder_lock(self._folder), LOCK_PATIENCE)
        if lock is None:
            raise DataError(f"another process collects into {self._folder}: let it finish, or choose another folder")
        try:
            self._go_on()
        except BaseException:
            lock.release()
            raise
        self._lock = lock
        return self

    def _go_on(self) -> None:
        self._check_not_finished()
        begun = self._progress.data_set()
        if begun is not None:
            check_same_collection(self._folder, begun, self._task, self._collection)
            self._shards = self._whole_shards()
            if self._shards:
                *_, (self._last_key, _) = read_shard(self._folder, self._shards[-1])
        kept = {shard.name for shard in self._shards}
        for name in set(self._progress.names()) - kept:
            self._progress.forget(name)
        for pattern in (SHARD_PATTERN, f".{SHARD_PATTERN}.*.part"):
            for path in self._folder.glob(pattern):
                if path.name not in kept:  # what nothing is noted of means nothing
                    path.unlink()
        if begun is None:
            self._progress.begin(Manifest(task=self._task, collection=self._collection, shards=()))

    def _whole_shards(self) -> list[ShardEntry]:
        """What an earlier run finished, up to the first shard that is missing or damaged."""
        found = (self._progress.find(SHARD_NAME.format(number)) for number in count())
        whole = takewhile(lambda shard: shard is not None and damage_of(self._folder, shard.entry) is None, found)
        return [shard.entry for shard in whole if shard is not None]

    def _check_not_finished(self) -> None:
        if (self._folder / MANIFEST).exists():
            raise DataError(
                f"{self._folder} holds a finished data set: choose another output folder, or remove that one"
            )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write the last shard and the manifest, unless an exception ended the block."""
        try:
            if kind is None:
                self._conclude()
        finally:
            self._lock.release()

    def _conclude(self) -> None:
        self._flush()
        if self._shards:
            Manifest(task=self._task, collection=self._collection, shards=tuple(self._shards)).write(self._folder)
        self._progress.remove()
        if not self._shards:
            raise DataError(f"no sample was collected for {self._folder}: an empty data set is not written")


def write_shard(path: Path, samples: Iterable[tuple[str, Members]]) -> ShardEntry:
    """Write one tar of (key, members), whole or not at all. The same samples give the same bytes.

    Raises NoRoomError when the disk is full.
    """
    written = 0
    with whole_file(path) as stream, tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for key, members in samples:
            for extension, content in members.items():
                header = tarfile.TarInfo(f"{key}.{extension}")  # its time is 0 and its owner nobody
                header.size = len(content)
                tar.addfile(header, BytesIO(content))
            written += 1
    return ShardEntry(path.name, written, path.stat().st_size, _sha256(path))


@dataclass(frozen=True)
class Damage:
    """A shard that is not what the manifest says."""

    shard: str
    """its file name"""
    reason: str
    """missing, of another size, or of other content"""


def damage_of(folder: Path, shard: ShardEntry) -> Damage | None:
    """What is wrong with one shard, or None. Compares size and sha256."""
    path = folder / shard.name
    if not path.is_file():
        return Damage(shard.name, "missing")
    size = path.stat().st_size
    if size != shard.bytes:
        return Damage(shard.name, f"{size:,} bytes instead of {shard.bytes:,}")
    if _sha256(path) != shard.sha256:
        return Damage(shard.name, "its content changed (another sha256)")
    return None


def find_damage(folder: Path, manifest: Manifest) -> list[Damage]:
    """Every shard that is missing, truncated or changed, in the manifest's order."""
    found = (damage_of(folder, shard) for shard in manifest.shards)
    return [damage for damage in found if damage is not None]


def verify(folder: Path, manifest: Manifest) -> None:
    """Raise DataError naming each shard that is missing, truncated or changed, and what to do about it."""
    damaged = find_damage(folder, manifest)
    if not damaged:
        return
    names = "\n".join(f"  {damage.shard}: {damage.reason}" for damage in damaged)
    remedy = (
        f"run scripts.label_frames again with --out {folder}: it labels only these shards again"
        if manifest.teacher
        else f"remove {folder} and run scripts.collect_frames again"
    )
    raise DataError(f"{len(damaged)} of {len(manifest.shards)} shards in {folder} are damaged:\n{names}\n{remedy}")


def read_samples(folder: Path) -> Iterator[Sample]:
    """Every sample of a finished data set, in order. Verifies all shards before it yields the first.

    Raises:
        DataError: no manifest, a damaged shard, or a sample against the schema.
    """
    manifest = read_manifest(folder)
    verify(folder, manifest)
    for shard in manifest.shards:
        for key, members in read_shard(folder, shard):
            yield decode(key, members)


def read_shard(folder: Path, shard: ShardEntry) -> Iterator[tuple[str, Members]]:
    """The (key, members) of one shard, in order. The caller has verified it; the sample count is compared here."""
    key, members, count = "", Members(), 0
    with tarfile.open(folder / shard.name, mode="r:") as tar:
        for header in tar:
            stream = tar.extractfile(header)
            sample, _, extension = header.name.partition(".")
            if stream is None or not extension:
                raise DataError(
                    f"{folder / shard.name} holds {header.name!r}, which is no sample's member: make it again"
                )
            if sample != key and members:
                yield key, members
                members, count = Members(), count + 1
            key, members[extension] = sample, stream.read()
    if members:
        yield key, members
        count += 1
    if count != shard.samples:
        raise DataError(
            f"{folder / shard.name} holds {count} samples, the manifest says {shard.samples}: make it again"
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
