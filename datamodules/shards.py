"""Shards: ordinary tars that appear whole or not at all, a manifest written last, verified before they are read.

A truncated tar is silent to most readers: it simply ends early. Here every shard's size and sha256 stand in the
manifest and are compared before its first sample is used.
"""

import hashlib
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import count, takewhile
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self

from datamodules.errors import DataError, MissingDependencyError
from datamodules.locks import wait_for_lock
from datamodules.manifest import MANIFEST, Manifest, ShardEntry, check_same_collection, read_manifest
from datamodules.records import FIELDS, Members, Sample, decode, encode
from datamodules.storage import MissingFileError, is_address, read_file
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
    return _entry(path, written)


def find_shard(path: Path) -> ShardEntry | None:
    """The manifest's entry of a shard that lies there whole, as `write_shard` left it; None where there is none."""
    if not path.exists():
        return None
    with tarfile.open(path) as tar:
        return _entry(path, sum(name.endswith(f".{FIELDS}") for name in tar.getnames()))


def _entry(path: Path, samples: int) -> ShardEntry:
    return ShardEntry(path.name, samples, path.stat().st_size, _sha256(path))


@dataclass(frozen=True)
class Damage:
    """A shard that is not what the manifest says."""

    shard: str
    """its file name"""
    reason: str
    """missing, unreadable, of another size or of other content (whose, where that is another shard's)"""


class DamagedShardError(DataError):
    """One shard is not what the manifest says; `damage` tells how."""

    def __init__(self, place: Path | str, damage: Damage) -> None:
        """Args: place: the data set's folder or address. damage: what is wrong."""
        super().__init__(f"{damage.shard} in {place} is damaged: {damage.reason}")
        self.damage = damage


def load_shard(place: Path | str, shard: ShardEntry, owners: Mapping[str, str] = MappingProxyType({})) -> bytes:
    """The bytes of one shard, whole, after their size and sha256 proved right: nothing else is ever parsed.

    Args:
        place: the data set's folder or address.
        shard: its entry in the manifest.
        owners: shard names by sha256, to say whose content a mixed-up shard holds.

    Raises:
        DamagedShardError: it is missing, unreadable or not what the manifest says.
    """
    try:
        content = read_file(place, shard.name)
    except MissingFileError as error:
        raise DamagedShardError(place, Damage(shard.name, "missing")) from error
    except MissingDependencyError:
        raise
    except DataError as error:
        raise DamagedShardError(place, Damage(shard.name, str(error))) from error
    digest = hashlib.sha256(content).hexdigest()
    if digest == shard.sha256:
        return content
    if digest in owners:
        reason = f"mixed up: it holds the content of {owners[digest]}"
    elif len(content) != shard.bytes:
        reason = f"{len(content):,} bytes instead of {shard.bytes:,}"
    else:
        reason = "its content changed (another sha256)"
    raise DamagedShardError(place, Damage(shard.name, reason))


def damage_of(place: Path | str, shard: ShardEntry, owners: Mapping[str, str] = MappingProxyType({})) -> Damage | None:
    """What is wrong with one shard, or None; arguments as in `load_shard`."""
    try:
        load_shard(place, shard, owners)
    except DamagedShardError as error:
        return error.damage
    return None


def owners_of(manifest: Manifest) -> dict[str, str]:
    """Shard names by sha256."""
    return {shard.sha256: shard.name for shard in manifest.shards}


def find_damage(place: Path | str, manifest: Manifest) -> list[Damage]:
    """Every shard that is missing, truncated, changed or mixed up, in the manifest's order."""
    owners = owners_of(manifest)
    found = (damage_of(place, shard, owners) for shard in manifest.shards)
    return [damage for damage in found if damage is not None]


def verify(place: Path | str, manifest: Manifest) -> None:
    """Raise DataError naming each shard that `find_damage` finds, and what to do about it."""
    damaged = find_damage(place, manifest)
    if damaged:
        raise damaged_error(place, manifest, damaged)


def damaged_error(place: Path | str, manifest: Manifest, damaged: Sequence[Damage]) -> DataError:
    """The error that names these damaged shards and says what to do next."""
    names = "\n".join(f"  {damage.shard}: {damage.reason}" for damage in damaged)
    counted = f"{len(damaged)} of {len(manifest.shards)} shards in {place} are damaged"
    return DataError(f"{counted}:\n{names}\n{remedy_for(place, manifest)}")


def intact_samples(place: Path | str, manifest: Manifest) -> Iterator[tuple[str, Members]]:
    """Every (key, members) in order, each shard fetched once and verified before its first sample.

    Raises:
        DataError: at the first damaged shard; the message names the damaged ones among those that follow as well.
    """
    owners = owners_of(manifest)
    for number, shard in enumerate(manifest.shards):
        try:
            content = load_shard(place, shard, owners)
        except DamagedShardError as error:
            later = (damage_of(place, other, owners) for other in manifest.shards[number + 1 :])
            damaged = [error.damage, *(damage for damage in later if damage)]
            raise damaged_error(place, manifest, damaged) from error
        yield from unpack(content, shard, place)


def remedy_for(place: Path | str, manifest: Manifest) -> str:
    """What a user does about damaged shards."""
    if is_address(place):
        return f"copy them to {place} again from where they were made"
    if manifest.teacher:
        return f"run scripts.label_frames again with --out {place}: it labels only these shards again"
    return f"remove {place} and run scripts.collect_frames again"


def read_samples(place: Path | str) -> Iterator[Sample]:
    """Every sample of a finished data set, in order. Verifies all shards before it yields the first.

    Raises:
        DataError: no manifest, a damaged shard, or a sample against the schema.
    """
    manifest = read_manifest(place)
    verify(place, manifest)
    for shard in manifest.shards:
        for key, members in read_shard(place, shard):
            yield decode(key, members)


def read_shard(place: Path | str, shard: ShardEntry) -> Iterator[tuple[str, Members]]:
    """The (key, members) of one shard, in order. Raises DataError where it is damaged or its samples are miscounted."""
    return unpack(load_shard(place, shard), shard, place)


def unpack(content: bytes, shard: ShardEntry, place: Path | str) -> Iterator[tuple[str, Members]]:
    """The (key, members) inside verified bytes, in order, grouped by webdataset; their count is compared here."""
    from webdataset.tariterators import group_by_keys, tar_file_expander  # slow to import: only who reads waits for it

    count = 0
    try:
        for members in group_by_keys(tar_file_expander([{"url": shard.name, "stream": BytesIO(content)}])):
            key = members.pop("__key__")
            del members["__url__"]
            yield key, members
            count += 1
    except (tarfile.TarError, ValueError) as error:  # no tar, or one with two members of one name
        raise DataError(f"{shard.name} in {place} is no shard of samples ({error}): make it again") from error
    if count != shard.samples:
        raise DataError(
            f"{shard.name} in {place} holds {count} samples, the manifest says {shard.samples}: make it again"
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
