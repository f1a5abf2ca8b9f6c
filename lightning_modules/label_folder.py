"""The folder of labels, which any number of labellers fill together. They agree through files alone (unfinished.py)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from datamodules.errors import DataError
from datamodules.locks import Lock, wait_for_lock
from datamodules.manifest import MANIFEST, Manifest, ShardEntry, TeacherEntry, check_same_collection, read_manifest
from datamodules.shards import damage_of, find_damage
from datamodules.unfinished import FinishedShard, Unfinished, folder_lock
from datamodules.whole_files import plain_when_full, remove_partial_files
from lightning_modules.label_source import FrameSource

REMEDY = "choose another output folder, or remove that one"

EmbedPrompts = Callable[[Sequence[str]], list[list[float]]]
"""The unit text embedding (D,) of each sentence."""


@dataclass(frozen=True)
class Claim:
    """A shard that nobody else works on."""

    shard: ShardEntry
    """the shard of frames"""
    lock: Lock
    """held until the shard is labelled or given up"""


class LabelFolder:
    """Where the labels of one collection by one teacher go."""

    def __init__(self, out: Path, source: FrameSource) -> None:
        self.out = out
        self._source = source
        self._progress = Unfinished(out)

    def check(self, teacher: TeacherEntry | None = None) -> Manifest | None:
        """What earlier or other labellers left here, if anything.

        Raises DataError: it is no labels, those of other frames or, where `teacher` is given, of another teacher.
        """
        there = self._progress.data_set()
        if there is not None:
            if there.teacher is not None:  # a collection in the making has none
                check_same_collection(self.out, there, self._source.task, self._source.collection)
        elif (self.out / MANIFEST).exists():
            there = read_manifest(self.out)
            frames = self._source.look().manifest
            if there.teacher is not None and (frames is None or there.source != frames.digest):
                raise DataError(
                    f"{self.out} holds labels of other frames (task {there.task.name!r}), not those in "
                    f"{self._source.frames}: {REMEDY}"
                )
        else:
            return None
        if there.teacher is None:
            raise DataError(f"{self.out} holds frames without labels: {REMEDY}")
        if teacher is not None:
            self._check_teacher(there.teacher, teacher)
        return there

    def _check_teacher(self, there: TeacherEntry, ours: TeacherEntry) -> None:
        if there.digest != ours.digest:
            raise DataError(
                f"{self.out} belongs to the teacher {there.name} (digest {there.digest[:12]}), not to {ours.name} "
                f"(digest {ours.digest[:12]}), whose weights, preprocessing or model settings are others: {REMEDY}"
            )
        if self._progress.begun and there.precision != ours.precision:
            raise DataError(
                f"{self.out} was begun with {there.name} in {there.precision}, here it runs in {ours.precision}: label "
                f"on the same kind of device, or {REMEDY}"
            )

    def take_damaged_back(self, teacher: TeacherEntry | None = None) -> None:
        """Make labelled shards that are missing or changed count as not labelled; of finished labels, too.

        Raises DataError as `check`.
        """
        with self._locked():
            there = self.check(teacher)
            if self._progress.begun:
                for name in self._progress.names():
                    self._take_back_if_damaged(name)
            elif there is not None and (damaged := {damage.shard for damage in find_damage(self.out, there)}):
                sources = {shard.name: shard.sha256 for shard in self._source.look().shards}
                whole = [
                    FinishedShard(shard, sources[shard.name]) for shard in there.shards if shard.name not in damaged
                ]
                self._progress.begin(replace(there, shards=()), whole)

    def _take_back_if_damaged(self, name: str) -> None:
        lock = self._progress.claim(name)
        if lock is None:  # someone labels it now
            return
        with lock:
            finished = self._progress.find(name)
            if finished is not None and damage_of(self.out, finished.entry) is not None:
                self._progress.record(replace(finished, source=""))  # what it cost stays counted

    def join(self, teacher: TeacherEntry) -> None:
        """Begin, or go on with what is there. Raises DataError as `check`."""
        with self._locked():
            if self.check(teacher) is None:
                self._progress.begin(replace(self._source.identity, teacher=teacher))

    def is_labelled(self, shard: ShardEntry) -> bool:
        """Whether a shard of frames is labelled, in exactly these bytes."""
        finished = self._progress.find(shard.name)
        return finished is not None and finished.source == shard.sha256

    def waiting(self) -> tuple[ShardEntry, ...]:
        """The collected shards that are not labelled."""
        if not self._progress.begun and (self.out / MANIFEST).exists():
            return ()
        return tuple(shard for shard in self._source.look().shards if not self.is_labelled(shard))

    def claim(self, shard: ShardEntry) -> Claim | None:
        """Take a shard; None while another labeller has it. FileNotFoundError: the labels were concluded."""
        lock = self._progress.claim(shard.name)
        return None if lock is None else Claim(shard, lock)

    def finish(self, claim: Claim, entry: ShardEntry, queries: int) -> None:
        """Note that a claimed shard is labelled, and what that asked of the teacher, and let go of it."""
        before = self._progress.find(entry.name)
        queries += before.teacher_queries if before else 0
        self._progress.record(FinishedShard(entry, claim.shard.sha256, queries))
        claim.lock.release()

    def conclude(self, sentences: Sequence[str], embed: EmbedPrompts) -> Manifest | None:
        """Write the manifest, or add sentences to it; None if a shard still has to be labelled."""
        with self._locked():
            begun = self._progress.data_set()
            labels = read_manifest(self.out) if begun is None else self._assemble(begun)
            if labels is None:
                return None
            grown = labels.with_prompts(sentences, embed)
            if grown is not labels or begun is not None:
                remove_partial_files(self.out / MANIFEST)
                grown.write(self.out)
            self._progress.remove()
            return grown

    def _assemble(self, begun: Manifest) -> Manifest | None:
        frames = self._source.look().manifest
        if frames is None:
            return None
        finished = [self._progress.find(shard.name) for shard in frames.shards]
        done = [
            each
            for each, shard in zip(finished, frames.shards, strict=True)
            if each is not None and each.source == shard.sha256
        ]
        if len(done) < len(frames.shards):
            return None
        written = read_manifest(self.out).prompts if (self.out / MANIFEST).exists() else {}  # before a kill
        return Manifest(
            task=frames.task,
            collection=frames.collection,
            shards=tuple(each.entry for each in done),
            teacher=begun.teacher,
            source=frames.digest,
            prompts={**begun.prompts, **written},
            teacher_queries=begun.teacher_queries + sum(each.teacher_queries for each in done),
        )

    def _locked(self) -> Lock:
        return hold_folder(self.out)


def hold_folder(out: Path) -> Lock:
    """Wait for the lock of a folder of labels, without which nobody writes its manifest. NoRoomError: a full disk."""
    with plain_when_full(out):
        out.mkdir(parents=True, exist_ok=True)
        lock = wait_for_lock(folder_lock(out))
    assert lock is not None  # without a limit it waits until it has it
    return lock
