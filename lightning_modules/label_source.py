"""The frames to label: a finished collection, or one that a collector is still adding shards to."""

import time
from dataclasses import dataclass
from pathlib import Path

from datamodules.errors import DataError
from datamodules.locks import is_locked
from datamodules.manifest import MANIFEST, Manifest, ShardEntry, read_manifest
from datamodules.unfinished import Unfinished, folder_lock

PATIENCE_SECONDS = 30.0
"""how long a follower waits while no collector is at work: both are mostly started at the same time"""
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Collected:
    """What a collection holds at one moment."""

    shards: tuple[ShardEntry, ...]
    """the finished shards, in order"""
    manifest: Manifest | None
    """the manifest; None while the collection is unfinished"""
    stopped: bool = False
    """the collection is unfinished, and nobody has been at work on it for `PATIENCE_SECONDS`"""

    @property
    def samples(self) -> int:
        """Number of samples in the finished shards."""
        return sum(shard.samples for shard in self.shards)


class FrameSource:
    """A folder of collected frames. With `follow` its collector may still be at work, or about to begin."""

    def __init__(self, frames: Path, follow: bool) -> None:
        """Find out which frames these are.

        Args:
            frames: folder of scripts.collect_frames.
            follow: take unfinished frames, too; waits up to `PATIENCE_SECONDS` for a collection to begin.

        Raises:
            DataError: no frames, frames that are labelled already, or unfinished ones without `follow`.
        """
        self.frames = frames
        self._follow = follow
        self._progress = Unfinished(frames)
        self._known: dict[str, ShardEntry] = {}
        self._manifest: Manifest | None = None
        self._last_at_work = time.monotonic()
        what = self._begun()
        self.task, self.collection = what.task, what.collection

    def _begun(self) -> Manifest:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self._follow and not (self.frames / MANIFEST).exists():
            if (begun := self._progress.data_set()) is not None:
                return begun
            if time.monotonic() > deadline:
                raise DataError(
                    f"no collection has begun in {self.frames} for {PATIENCE_SECONDS:.0f} seconds: start "
                    f"`python -m scripts.collect_frames --task TASK.yaml --out {self.frames}` beside this command"
                )
            time.sleep(POLL_SECONDS)
        if not (self.frames / MANIFEST).exists() and self._progress.begun:
            raise DataError(
                f"the collection in {self.frames} is unfinished: let scripts.collect_frames end, or add --follow to "
                "label while it runs"
            )
        return self._finished()

    def _finished(self) -> Manifest:
        manifest = read_manifest(self.frames)
        if manifest.teacher is not None:
            raise DataError(
                f"{self.frames} is labelled already, by {manifest.teacher.name}: give the folder of collect_frames"
            )
        return manifest

    @property
    def identity(self) -> Manifest:
        """What is collected, without shards."""
        return Manifest(task=self.task, collection=self.collection, shards=())

    @property
    def expected_samples(self) -> int:
        """Samples of the whole collection, those that are not collected yet included."""
        collected = self.look()
        return collected.samples if collected.manifest else int(self.collection.get("frames", collected.samples))

    def look(self) -> Collected:
        """What is there now."""
        # The lock before the manifest: a collector lets go of it only after the manifest is written.
        if self._manifest is None and is_locked(folder_lock(self.frames)):
            self._last_at_work = time.monotonic()
        if self._manifest is None and (self.frames / MANIFEST).exists():
            self._manifest = self._finished()
        if self._manifest is not None:
            return Collected(self._manifest.shards, self._manifest)
        for name in self._progress.names():
            if name not in self._known and (found := self._progress.find(name)) is not None:
                self._known[name] = found.entry
        stopped = time.monotonic() - self._last_at_work > PATIENCE_SECONDS
        return Collected(tuple(self._known[name] for name in sorted(self._known)), None, stopped)

    def stopped_error(self) -> DataError:
        """What to say when the collector died."""
        return DataError(
            f"the collection in {self.frames} stopped before its end, and nobody goes on with it: repeat its "
            "scripts.collect_frames command and then this one; both go on where they stood"
        )
