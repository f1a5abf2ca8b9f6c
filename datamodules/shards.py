"""Shards: ordinary tars that appear whole or not at all, a manifest written last, verified before they are read.

A truncated tar is silent to most readers: it simply ends early. Here every shard's size and sha256 stand in the
manifest and are compared before its first sample is used.
"""

import hashlib
import os
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from datamodules.errors import DataError
from datamodules.manifest import MANIFEST, Manifest, ShardEntry, read_manifest
from datamodules.records import Members, Sample, decode, encode
from datamodules.tasks import Task

SHARD_NAME = "shard-{:06d}.tar"
SHARD_PATTERN = "shard-*.tar"


class ShardWriter:
    """Write a data set of collected frames: `with ShardWriter(...) as writer: writer.add(sample)`.

    At most one shard of encoded samples is held in memory. The manifest is written when the block ends without an
    exception; until then the folder does not exist for readers, and starting again starts from nothing.
    """

    def __init__(self, folder: Path, task: Task, collection: dict[str, Any], samples_per_shard: int = 256) -> None:
        """Take an empty or unfinished folder.

        Args:
            folder: where shards and manifest go; made if it does not exist.
            task: the task as collected.
            collection: collection settings and seed, plain JSON values, kept in the manifest.
            samples_per_shard: samples in each shard but the last.

        Raises:
            DataError: the folder holds a finished data set.
        """
        if (folder / MANIFEST).exists():
            raise DataError(f"{folder} holds a finished data set: choose another output folder, or remove that one")
        folder.mkdir(parents=True, exist_ok=True)
        for stale in folder.glob(SHARD_PATTERN):  # of a run that was stopped: without a manifest they mean nothing
            stale.unlink()
        self._folder, self._task, self._collection = folder, task, collection
        self._samples_per_shard = samples_per_shard
        self._keys: set[str] = set()
        self._waiting: list[tuple[str, Members]] = []
        self._shards: list[ShardEntry] = []

    def add(self, sample: Sample) -> None:
        """Add a sample. DataError: a field against the schema, another task's sample, or a key used twice."""
        if sample.key in self._keys:
            raise DataError(f"sample {sample.key} was added twice: keys must be unique over the data set")
        if sample.task != self._task.name:
            raise DataError(f"sample {sample.key} is of task {sample.task!r}, the data set is of {self._task.name!r}")
        self._waiting.append((sample.key, encode(sample)))
        self._keys.add(sample.key)
        if len(self._waiting) == self._samples_per_shard:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            path = self._folder / SHARD_NAME.format(len(self._shards))
            self._shards.append(write_shard(path, self._waiting))
            self._waiting = []

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write the last shard and the manifest, unless an exception ended the block."""
        if kind is None:
            self._flush()
            if not self._shards:
                raise DataError(f"no sample was collected for {self._folder}: an empty data set is not written")
            Manifest(task=self._task, collection=self._collection, shards=tuple(self._shards)).write(self._folder)


def write_shard(path: Path, samples: Iterable[tuple[str, Members]]) -> ShardEntry:
    """Write one tar of (key, members): temporary name, fsync, rename. The same samples give the same bytes."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    count = 0
    try:
        with temporary.open("wb") as stream:
            with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar:
                for key, members in samples:
                    for extension, content in members.items():
                        header = tarfile.TarInfo(f"{key}.{extension}")  # its time is 0 and its owner nobody
                        header.size = len(content)
                        tar.addfile(header, BytesIO(content))
                    count += 1
            stream.flush()
            os.fsync(stream.fileno())
        entry = ShardEntry(path.name, count, temporary.stat().st_size, _sha256(temporary))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return entry


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
