"""The labels that a training has asked for: a data set of its own, which any later fit can learn from as well.

    labels/shard-000002.tar   the answers to one question, written before anything is made of them
    labels/asked.json         queries so far, counted before they are asked: those of a process that was killed, too
    labels/manifest.json      the same schema as every labelled data set

Every sample is an episode of its own, because frames that a strategy chose have little to do with each other. So ten
answers are enough for a data set with its three splits.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.labelled_rows import decode_pixels, decode_row
from datamodules.manifest import MANIFEST, Manifest, ShardEntry
from datamodules.records import Sample, encode
from datamodules.results import read_json, write_json
from datamodules.shards import SHARD_NAME, find_shard, read_shard, write_shard
from datamodules.whole_files import remove_partial_files
from lightning_modules.fine_tuning import Labelled
from lightning_modules.reward_function import Teacher
from rllib_envs.visits import Draw, Visits

ASKED = "asked.json"


class RefinedLabels:
    """Asks the teacher within a budget, and keeps what it says."""

    def __init__(
        self, folder: Path, like: Manifest, collection: dict[str, Any], budget: int, teacher: Callable[[], Teacher]
    ) -> None:
        """Begin, or go on with what is there.

        Args:
            folder: the data set's.
            like: manifest of the labels that the student learned from: task, teacher and sentences are the same here.
            collection: what chose the frames, plain JSON values, kept in the manifest.
            budget: most queries.
            teacher: loads the teacher; called when it is first asked.
        """
        assert like.teacher is not None, "only labels have one"
        self._folder, self._budget, self._load = folder, budget, teacher
        self._clips = len(like.teacher.dims)
        self._teacher: Teacher | None = None
        self._manifest = replace(like, shards=(), collection=collection, source=None, teacher_queries=0)
        self._shards: dict[str, ShardEntry] = {}
        for path in sorted(folder.glob("shard-*.tar")):
            entry = find_shard(path)
            assert entry is not None, "it was just found"
            self._shards[path.name] = entry
        self._write_manifest()  # of an answer whose process was killed before it did

    @property
    def queries(self) -> int:
        """Frames that the teacher has scored, once for each of its CLIPs, lost answers included."""
        path = self._folder / ASKED
        return int(read_json(path)["queries"]) if path.exists() else 0

    @property
    def affordable(self) -> int:
        """Frames that it can still be asked about."""
        return max(0, self._budget - self.queries) // self._clips

    def has(self, question: int) -> bool:
        """Whether this question was answered."""
        return SHARD_NAME.format(question) in self._shards

    def ask(self, question: int, visits: Visits, draw: Draw, policy: str, seed: int) -> Labelled:
        """Ask the teacher; returns its answers once they are on disk.

        Args:
            question: its number, which names the shard.
            visits: the states and frames to ask about, no more than are affordable; there may be none.
            draw: draws them at the teacher's size.
            policy: what the samples say they come from.
            seed: of the training.
        """
        count = len(visits.states)
        if count > self.affordable:
            raise ValueError(f"{count} frames are too many: {self.affordable} can be afforded")
        if count:
            frames = draw(visits.states, self._manifest.task.render.teacher_pixels)
            if self._teacher is None:
                self._teacher = self._load()
            write_json(self._folder / ASKED, {"queries": self.queries + count * self._clips})
            self._keep(question, visits, self._teacher.embed_frames(frames).astype(np.float16), policy, seed)
        return self.answers([question])

    def answers(self, questions: list[int]) -> Labelled:
        """The answers to these questions, in order; none for those that were never asked."""
        pixels, dim = self._manifest.task.render.frame_pixels, self._dim
        entries = [self._shards[name] for name in map(SHARD_NAME.format, questions) if name in self._shards]
        samples = [sample for entry in entries for sample in read_shard(self._folder, entry)]
        frames = np.empty((len(samples), pixels, pixels, 3), np.uint8)
        embeddings = np.empty((len(samples), dim), np.float16)
        for number, (key, members) in enumerate(samples):
            frames[number] = decode_pixels(key, members, pixels)
            embeddings[number] = decode_row(key, members, dim).embeddings
        return Labelled(frames, embeddings)

    def _write_manifest(self) -> None:
        """Make what is there a data set for others."""
        if self._shards:
            shards = tuple(self._shards[name] for name in sorted(self._shards))
            replace(self._manifest, shards=shards, teacher_queries=self.queries).write(self._folder, MANIFEST)

    @property
    def _dim(self) -> int:
        assert self._manifest.teacher is not None, "only labels have one"
        return self._manifest.teacher.dim

    def _keep(self, question: int, visits: Visits, embeddings: NDArray[np.float16], policy: str, seed: int) -> None:
        first = sum(entry.samples for entry in self._shards.values())
        samples = [
            Sample(
                episode=first + number,
                step=0,
                state=visits.states[number],
                true_reward=float(visits.true_rewards[number]),
                policy=policy,
                seed=seed,
                task=self._manifest.task.name,
                frame=visits.frames[number],
                embedding=embeddings[number],
            )
            for number in range(len(embeddings))
        ]
        path = self._folder / SHARD_NAME.format(question)
        remove_partial_files(path)
        self._shards[path.name] = write_shard(path, [(sample.key, encode(sample)) for sample in samples])
        self._write_manifest()
