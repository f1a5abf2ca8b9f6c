"""Teachers side by side as Ray actors: one for each GPU, or on CPUs with the cores divided among them.

The workers share a folder exactly as independent commands would (label_folder.py): what they do is agreed upon through
files, Ray only starts them where there is room, brings back their figures and replaces those that died. On a cluster
every machine must see frames, labels, checkpoint and this code under the same paths, on a file system that keeps locks
(locks.py).
"""

import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
import torch
from ray.exceptions import RayActorError

from datamodules.errors import MissingDependencyError, SettingsError, SuiteError
from datamodules.manifest import read_manifest
from datamodules.progress import Report, silent
from lightning_modules.label_folder import LabelFolder
from lightning_modules.label_source import FrameSource
from lightning_modules.labelling import (
    Labeller,
    LabelResult,
    Tally,
    prepare,
    result_of,
    wanted_sentences,
    warnings_for,
)
from lightning_modules.ray_session import ray_session
from lightning_modules.settings import TeacherSettings
from lightning_modules.teacher import ClipTeacher

START_SECONDS = 120.0
"""how long a worker's process may take to start; a cluster that is busy with other work would keep it waiting"""
REPLACEMENTS = 3
"""workers replaced in one call; what kills more of them kills all"""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """What every worker is asked to do."""

    frames: Path
    """folder of collected frames, absolute"""
    teacher: TeacherSettings
    """who labels"""
    place: Path
    """working directory of the command, in which relative paths of the settings start"""
    out: Path
    """folder for the labels, absolute"""
    prompts: tuple[str, ...]
    """sentences to embed beside the task's own"""
    follow: bool
    """whether the collector may still be at work"""


@dataclass(frozen=True)
class Share:
    """What each worker gets."""

    workers: int
    """how many there are"""
    cpus: int
    """cores of each one, and its torch threads"""
    gpus: int
    """GPUs of each one, 0 or 1"""


@dataclass(frozen=True)
class Ended:
    """A worker's last word."""

    warnings: tuple[str, ...] = ()
    """of LabelResult"""
    mistake: str | None = None
    """message of the SuiteError that ended it"""


class LabelWorker:
    """One teacher in a process of its own."""

    def __init__(self, threads: int) -> None:
        self._threads = threads

    def ready(self) -> int:
        """Its process id, once it has started."""
        return os.getpid()

    def label(self, request: Request) -> Iterator[Tally | Ended]:
        """Load the teacher and label until everything is labelled; yields after every batch and at the end."""
        torch.set_num_threads(self._threads)
        os.chdir(request.place)
        try:
            source = FrameSource(request.frames, request.follow)
            teacher = ClipTeacher(request.teacher)
            sentences = wanted_sentences(source.task, request.prompts)
            labeller = Labeller(source, teacher, LabelFolder(request.out, source), sentences)
            with closing(labeller.run()) as tallies:
                yield from tallies
            yield Ended(warnings_for(source.task, teacher))
        except SuiteError as mistake:  # as a value: not every exception survives the way between two processes
            yield Ended(mistake=str(mistake))


@dataclass
class Team:
    """The workers of one call, alive or dead."""

    request: Request
    share: Share
    tallies: dict[int, Tally] = field(default_factory=dict)  # by number of the worker, replaced ones included
    at_work: dict[Any, int] = field(default_factory=dict)  # Ray's stream of a worker's reports -> its number
    actors: dict[int, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    replaced: int = 0

    def start(self, count: int) -> None:
        """Start workers. Raises SuiteError if the cluster has no room for them at the moment."""
        actor_class = ray.remote(LabelWorker).options(num_cpus=self.share.cpus, num_gpus=self.share.gpus)
        first = len(self.actors)
        new = {number: actor_class.remote(self.share.cpus) for number in range(first, first + count)}
        self.actors |= new
        ready, missing = ray.wait(
            [actor.ready.remote() for actor in new.values()], num_returns=count, timeout=START_SECONDS
        )
        if missing:
            raise SuiteError(
                f"{len(ready)} of {count} workers started within {START_SECONDS:.0f} seconds: the Ray cluster is busy "
                "with other work; wait for that, or ask for fewer --workers"
            )
        for number, actor in new.items():
            stream = actor.label.options(num_returns="streaming").remote(self.request)
            self.at_work[stream] = number

    def listen(self) -> None:
        """Take one report of each worker that has one, waiting for the first. Raises a worker's SuiteError."""
        ready, _ = ray.wait(list(self.at_work), num_returns=1, fetch_local=False)
        for stream in ready:
            try:
                word = ray.get(next(stream))
            except StopIteration:
                del self.at_work[stream]
            except RayActorError as death:
                del self.at_work[stream]
                self._replace(death)
            else:
                self._take(self.at_work[stream], word)

    def _take(self, number: int, word: Tally | Ended) -> None:
        if isinstance(word, Tally):
            self.tallies[number] = word
        elif word.mistake is not None:
            raise SuiteError(word.mistake)
        else:
            self.warnings = word.warnings

    def _replace(self, death: RayActorError) -> None:
        self.replaced += 1
        if self.replaced > REPLACEMENTS:
            raise SuiteError(
                f"{self.replaced} workers died while labelling, most often for want of memory: take fewer --workers or "
                "a smaller teacher.batch_size and repeat the command; finished shards are kept"
            ) from death
        log.warning("a worker died and is replaced (%d of at most %d)", self.replaced, REPLACEMENTS)
        self.start(1)

    def dismiss(self) -> None:
        """End all workers at once: whatever they have in work is lost, and nothing else."""
        for actor in self.actors.values():
            with suppress(Exception):  # the session itself may be gone
                ray.kill(actor)


def label_with_workers(
    frames: Path,
    settings: TeacherSettings,
    out: Path,
    prompts: Sequence[str] = (),
    *,
    workers: int | None = None,
    report: Report = silent,
    follow: bool = False,
) -> LabelResult:
    """Label as `label_frames` does, with several teachers side by side.

    Args:
        frames: folder of collected frames.
        settings: who labels; each worker loads it.
        out: folder for the labelled shards.
        prompts: sentences to embed beside the goal and baseline prompts of the task.
        workers: how many teachers; None: one for each GPU of the Ray session, or for each machine without GPUs.
        report: called with the frames done and to do in this call.
        follow: label shards as their collector finishes them.

    Raises:
        SuiteError: as `label_frames`; more workers than GPUs or cores; no room on the cluster; workers that keep dying.
    """
    start = time.monotonic()
    request = Request(frames.resolve(), settings, Path.cwd(), out.resolve(), tuple(prompts), follow)
    source = FrameSource(request.frames, follow)
    folder = LabelFolder(request.out, source)
    prepare(source, folder)
    waiting = folder.waiting()
    total = source.expected_samples - source.look().samples + sum(shard.samples for shard in waiting)
    with ray_session():
        machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        team = Team(request, plan_workers(settings, workers, machines))
        try:
            team.start(team.share.workers)
            while team.at_work:
                team.listen()
                tallies = team.tallies.values()
                done = max([sum(tally.scored for tally in tallies), *(tally.done for tally in tallies)])
                report(min(done, total), total, f"{team.share.workers} workers")
        finally:
            team.dismiss()
    for warning in team.warnings:
        log.warning(warning)
    labels, seconds = read_manifest(request.out), time.monotonic() - start
    return result_of(labels, list(team.tallies.values()), team.share.workers, seconds, team.warnings)


def plan_workers(settings: TeacherSettings, workers: int | None, machines: Sequence[Mapping[str, float]]) -> Share:
    """Divide machines among workers.

    Args:
        settings: its `device` says whether GPUs are wanted.
        workers: how many are wanted; None: as many as make sense.
        machines: the resources of each machine, as {'CPU': 8.0, 'GPU': 1.0}.

    Raises:
        SettingsError: there are more workers than GPUs, or than cores where there is no GPU.
        MissingDependencyError: `device` is cuda, and no machine has a GPU.
    """
    gpus = sum(int(machine.get("GPU", 0)) for machine in machines)
    if settings.device == "cuda" and not gpus:
        raise MissingDependencyError("teacher.device is 'cuda' but the Ray cluster has no GPU: set device: auto")
    if gpus and settings.device != "cpu":
        if workers is not None and workers > gpus:
            raise SettingsError(
                f"workers is {workers}, but the Ray cluster has {gpus} GPUs: ask for at most {gpus}, or set "
                "teacher.device to cpu"
            )
        return Share(workers or gpus, cpus=1, gpus=1)
    cores = [int(machine.get("CPU", 0)) for machine in machines]
    wanted = workers or sum(1 for count in cores if count)
    if wanted > sum(cores):
        raise SettingsError(f"workers is {wanted}, but there are {sum(cores)} CPU cores: ask for at most {sum(cores)}")
    each = next(size for size in range(max(cores), 0, -1) if sum(count // size for count in cores) >= wanted)
    return Share(wanted, cpus=each, gpus=0)
