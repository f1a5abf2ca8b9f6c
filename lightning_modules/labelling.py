"""Shard in, labelled shard out: the teacher looks at every frame once, and any sentence can be asked for later.

A shard is the unit of work. Each labeller takes shards that are neither finished nor taken, one after the other, so
that one that is stopped costs no more than the shard in work, and several on one folder share what there is to do. The
same frames and the same teacher give the same bytes. `manifest.json` comes last.
"""

import logging
import time
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event

import numpy as np
from numpy.typing import NDArray

from datamodules.locks import Lock
from datamodules.manifest import Manifest, ShardEntry, TeacherEntry
from datamodules.progress import Report, silent
from datamodules.records import EMBEDDING, FIELDS, FRAME, STATE, Members, encode_embedding, member
from datamodules.shards import verify, write_shard
from datamodules.tasks import Task
from lightning_modules.label_batches import DECODERS, FrameBatch, frame_batches, one_ahead
from lightning_modules.label_folder import Claim, LabelFolder
from lightning_modules.label_source import POLL_SECONDS, FrameSource
from lightning_modules.teacher import ClipTeacher

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelResult:
    """What one call labelled, and what the folder holds now."""

    samples: int
    """labelled samples in the folder"""
    teacher_queries: int
    """frames the teacher scored in this call, counted once for each of its CLIPs; 0 where only sentences were added"""
    total_teacher_queries: int
    """the same for this folder, earlier calls and other labellers included"""
    seconds: float
    """duration of this call, loading included where workers load the teacher"""
    frames_per_second: float
    """frames scored a second, all workers together, without loading (frames/s)"""
    teacher_busy: float
    """time inside the teacher's models over wall time, mean of the workers (0 to 1)"""
    workers: int
    """teachers that worked side by side"""
    prompts: tuple[str, ...]
    """every sentence whose text embedding the manifest now holds"""
    warnings: tuple[str, ...]
    """what may make the labels worse than they could be"""


@dataclass(frozen=True)
class Tally:
    """Where one labeller stands; all numbers count from its start."""

    scored: int = 0
    """frames its teacher scored"""
    teacher_seconds: float = 0.0
    """time inside the teacher's models (s)"""
    seconds: float = 0.0
    """wall time, waiting included (s)"""
    done: int = 0
    """frames labelled in the folder, by whomever"""
    total: int = 0
    """frames that had to be labelled when it began"""
    note: str = ""
    """finished shards, in words"""


def label_frames(
    frames: Path,
    teacher: ClipTeacher,
    out: Path,
    prompts: Sequence[str] = (),
    report: Report = silent,
    *,
    follow: bool = False,
) -> LabelResult:
    """Label a data set of frames, go on with a stopped run, repair damaged shards, or add sentences to a finished one.

    Other processes may label into the same folder at the same time; each returns when everything is labelled.

    Args:
        frames: folder of collected frames.
        teacher: who labels.
        out: folder for the labelled shards.
        prompts: sentences to embed beside the goal and baseline prompts of the task.
        report: called with the frames done and to do in this call.
        follow: label shards as their collector finishes them.

    Raises:
        DataError: `frames` is damaged, or unfinished while nobody collects, or `out` belongs to other frames or
            another teacher.
        SettingsError: a sentence is empty or too long for the teacher.
        NoRoomError: the disk is full.
    """
    start = time.monotonic()
    source = FrameSource(frames, follow)
    folder = LabelFolder(out, source)
    sentences = wanted_sentences(source.task, prompts)
    teacher.check_prompts(sentences)
    prepare(source, folder, teacher.entry)
    warnings = warnings_for(source.task, teacher)
    labeller, tally = Labeller(source, teacher, folder, sentences), Tally()
    with closing(labeller.run()) as tallies:
        for tally in tallies:
            report(tally.done, tally.total, tally.note)
    return result_of(labeller.labels, [tally], 1, time.monotonic() - start, warnings)


def wanted_sentences(task: Task, extra: Sequence[str]) -> list[str]:
    """The goal and baseline prompts of a task, and others, each once."""
    return list(dict.fromkeys((*task.prompts.goal, *task.prompts.baseline, *extra)))


def prepare(source: FrameSource, folder: LabelFolder, teacher: TeacherEntry | None = None) -> None:
    """Take damaged labels back and verify the frames still to be labelled, before any is scored.

    Raises DataError: frames are damaged, or the folder belongs to other frames or, where it is given, another teacher.
    """
    folder.check(teacher)  # without its lock, which a collector holds while it runs
    folder.take_damaged_back(teacher)
    verify(source.frames, replace(source.identity, shards=folder.waiting()))


def result_of(
    labels: Manifest, tallies: Sequence[Tally], workers: int, seconds: float, warnings: Sequence[str]
) -> LabelResult:
    """Sum up what labellers did side by side."""
    scored = sum(tally.scored for tally in tallies)
    assert labels.teacher is not None, "labelled data sets have one"
    wall = sum(tally.seconds for tally in tallies)
    longest = max((tally.seconds for tally in tallies), default=0.0)
    return LabelResult(
        samples=labels.samples,
        teacher_queries=scored * len(labels.teacher.dims),
        total_teacher_queries=labels.teacher_queries,
        seconds=round(seconds, 3),
        frames_per_second=round(scored / longest, 3) if scored else 0.0,
        teacher_busy=round(sum(tally.teacher_seconds for tally in tallies) / wall, 4) if scored else 0.0,
        workers=workers,
        prompts=tuple(labels.prompts),
        warnings=tuple(warnings),
    )


class Labeller:
    """One teacher that labels shards until every one is labelled, by itself or by others."""

    def __init__(
        self, source: FrameSource, teacher: ClipTeacher, folder: LabelFolder, sentences: Sequence[str]
    ) -> None:
        self._source, self._teacher, self._folder, self._sentences = source, teacher, folder, sentences
        self._stop = Event()
        self._held: dict[str, Lock] = {}  # shards in work: the one being scored and the one being read
        self._settled: set[str] = set()  # shards that are finished or in work here
        self._by_others = 0  # frames
        self._labels: Manifest | None = None

    @property
    def labels(self) -> Manifest:
        """The manifest, once `run` came to its end."""
        assert self._labels is not None
        return self._labels

    def run(self) -> Generator[Tally, None, None]:
        """Label; yields after every batch. Closing it gives up what is in work and leaves the rest to others.

        Raises DataError, NoRoomError: as `label_frames`.
        """
        self._folder.join(self._teacher.entry)
        collected, waiting = self._source.look(), self._folder.waiting()
        before = collected.samples - sum(shard.samples for shard in waiting)
        start, tally = time.perf_counter(), Tally(total=self._source.expected_samples - before)
        while self._labels is None:  # more than once only where a finished shard was found damaged in the meantime
            self._settled = {shard.name for shard in self._source.look().shards if self._folder.is_labelled(shard)}
            with closing(self._scored()) as scored:
                for frames, teacher_seconds in scored:
                    tally = replace(
                        tally,
                        scored=tally.scored + frames,
                        teacher_seconds=tally.teacher_seconds + teacher_seconds,
                        seconds=time.perf_counter() - start,
                        done=min(tally.scored + frames + self._by_others, tally.total),
                        note=f"{len(self._settled) - len(self._held)} shards finished",
                    )
                    yield tally
            self._labels = self._folder.conclude(self._sentences, self._embed)

    def _scored(self) -> Generator[tuple[int, float], None, None]:
        """Score batch after batch, write shard after shard; yields frames and seconds of each call of the teacher."""
        labelled: list[tuple[str, Members]] = []
        with closing(self._work()) as work:
            for claim, batch in work:
                before = self._teacher.model_seconds
                embeddings = self._teacher.embed_frames(batch.frames)
                seconds = self._teacher.model_seconds - before
                labelled += labelled_samples(batch, embeddings)
                if batch.last:
                    entry = write_shard(self._folder.out / claim.shard.name, labelled)
                    self._folder.finish(claim, entry, queries=entry.samples * len(self._teacher.dims))
                    del self._held[claim.shard.name]
                    labelled = []
                yield len(batch.samples), seconds

    def _work(self) -> Generator[tuple[Claim, FrameBatch], None, None]:
        """The batches of the shards taken, read one ahead; lets go of those that are not finished in the end."""
        self._stop.clear()
        try:
            with (
                ThreadPoolExecutor(DECODERS, thread_name_prefix="decoder") as decoders,
                closing(self._read(decoders)) as batches,
                closing(one_ahead(batches, self._stop)) as ahead,
            ):
                yield from ahead
        finally:
            for lock in self._held.values():
                lock.release()
            self._held.clear()

    def _read(self, decoders: ThreadPoolExecutor) -> Generator[tuple[Claim, FrameBatch], None, None]:
        for claim in self._claims():
            for batch in frame_batches(self._source.frames, claim.shard, self._teacher.batch_size, decoders):
                yield claim, batch

    def _claims(self) -> Iterator[Claim]:
        """Take shard after shard until all are settled, waiting for those that others have or that are not there yet.

        Raises DataError when the collector died.
        """
        while not self._stop.is_set():
            collected = self._source.look()
            waiting = [shard for shard in collected.shards if shard.name not in self._settled]
            taken = False
            for shard in waiting:
                try:
                    claim = self._take(shard)
                except FileNotFoundError:  # another labeller was quicker to conclude
                    return
                if claim is not None:
                    taken = True
                    yield claim
            if waiting and taken:
                continue
            if not waiting and collected.manifest is not None:
                return
            if not waiting and collected.stopped:
                raise self._source.stopped_error()
            self._stop.wait(POLL_SECONDS)

    def _take(self, shard: ShardEntry) -> Claim | None:
        """Claim a shard, unless another labeller has it or has finished it."""
        claim = None if self._folder.is_labelled(shard) else self._folder.claim(shard)
        if self._folder.is_labelled(shard):  # looked at again: it may have been finished before the claim
            if claim is not None:
                claim.lock.release()
            self._settled.add(shard.name)
            self._by_others += shard.samples
            return None
        if claim is not None:
            self._settled.add(shard.name)
            self._held[shard.name] = claim.lock
        return claim

    def _embed(self, sentences: Sequence[str]) -> list[list[float]]:
        embeddings: list[list[float]] = self._teacher.embed_prompts(sentences).tolist()
        return embeddings


def labelled_samples(batch: FrameBatch, embeddings: NDArray[np.float32]) -> list[tuple[str, Members]]:
    """The samples of a labelled shard: the student's frame as it is, an embedding in place of the teacher's frame."""
    return [
        (
            key,
            {
                FRAME: member(members, FRAME, key),
                EMBEDDING: encode_embedding(embedding, key),
                STATE: member(members, STATE, key),
                FIELDS: member(members, FIELDS, key),
            },
        )
        for (key, members), embedding in zip(batch.samples, embeddings.astype(np.float16), strict=True)
    ]


def warnings_for(task: Task, teacher: ClipTeacher) -> tuple[str, ...]:
    """What may make labels of this task by this teacher worse than they could be; said in the log, too."""
    pixels, simulator = task.render.teacher_pixels, task.simulator
    warnings = []
    if pixels < teacher.input_pixels:
        warnings.append(
            f"frames for the teacher are {pixels} pixels wide but {teacher.name} looks at {teacher.input_pixels}: it "
            f"sees them blown up and blurred; set render.teacher_pixels to {teacher.input_pixels} in the task and "
            "collect again"
        )
    known = teacher.simulators
    if known and simulator not in known and simulator.split("-")[0] not in known:  # dm_control: DOMAIN-TASK
        warnings.append(
            f"{teacher.name} was trained on frames of {', '.join(known)} and has never seen {simulator!r}: its labels "
            "will mean nothing there; take a real CLIP (conf/teacher/vit_b32.yaml)"
        )
    for warning in warnings:
        log.warning(warning)
    return tuple(warnings)
