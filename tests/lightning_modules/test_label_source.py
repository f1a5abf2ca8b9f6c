"""Labels that follow a collection, whose collector is a real process."""

import pickle
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from datamodules.errors import DataError
from datamodules.manifest import MANIFEST, read_manifest
from datamodules.tasks import Prompts, RenderSettings, Task
from lightning_modules import label_source
from lightning_modules.label_job import check_request
from lightning_modules.label_source import FrameSource
from lightning_modules.labelling import label_frames
from lightning_modules.settings import TeacherSettings
from lightning_modules.teacher import ClipTeacher
from tests.lightning_modules.tiny_teacher import contents, write_teacher

TASK = Task(
    "pole",
    "dm_control",
    "cartpole-swingup",
    Prompts(goal=("a pole",)),
    render=RenderSettings(32, 32),
    episode_frames=10,
)
FRAMES = 600  # shards of 256, 256 and 88
COLLECTOR = f"""
import os, pickle, signal, sys
from rllib_envs.collect import collect_frames
from rllib_envs.settings import CollectSettings

task, out, last = pickle.load(sys.stdin.buffer)

def kill_in_time(done, total, note=""):
    if done == last:
        os.kill(os.getpid(), signal.SIGKILL)

collect_frames(task, CollectSettings(frames={FRAMES}, episode_steps=20), out, 0, kill_in_time)
"""


def start_collector(out: Path, last: int = FRAMES + 1) -> subprocess.Popen[bytes]:
    """Collect in a process of its own, which kills itself after frame `last`."""
    process = subprocess.Popen([sys.executable, "-c", COLLECTOR], stdin=subprocess.PIPE)
    assert process.stdin is not None
    with closing(process.stdin) as stdin:
        stdin.write(pickle.dumps((TASK, out, last)))
    return process


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> TeacherSettings:
    return write_teacher(tmp_path_factory.mktemp("teacher"), batch_size=16)


@pytest.fixture(scope="module")
def teacher(settings: TeacherSettings) -> ClipTeacher:
    return ClipTeacher(settings)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection that was killed in its third shard; nobody changes it."""
    frames = tmp_path_factory.mktemp("stopped")
    assert start_collector(frames, last=530).wait(120) == -signal.SIGKILL
    return frames


def test_shards_are_labelled_while_their_collector_goes_on(teacher: ClipTeacher, tmp_path: Path) -> None:
    frames, out = tmp_path / "frames", tmp_path / "labels"
    collectors = [start_collector(frames, last=300)]  # killed within the second shard
    labelled_early: list[int] = []

    def report(done: int, total: int, note: str = "") -> None:
        assert total == FRAMES
        if not (frames / MANIFEST).exists():
            labelled_early.append(done)
        if done == 256 and len(collectors) == 1:  # all that is there: go on with the collection
            assert collectors[0].wait(60) == -signal.SIGKILL
            collectors.append(start_collector(frames))

    result = label_frames(frames, teacher, out, report=report, follow=True)
    assert [collector.wait(60) for collector in collectors] == [-signal.SIGKILL, 0]
    assert max(labelled_early) >= 256
    assert (result.samples, result.teacher_queries) == (FRAMES, FRAMES)
    label_frames(frames, teacher, tmp_path / "afterwards")
    assert contents(out) == contents(tmp_path / "afterwards")
    assert read_manifest(out) == read_manifest(tmp_path / "afterwards")


def test_a_collector_that_died_is_reported_and_finished_labels_are_kept(
    stopped: Path, teacher: ClipTeacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(label_source, "PATIENCE_SECONDS", 0.5)
    with pytest.raises(DataError, match=r"stopped before its end.*repeat its scripts\.collect_frames command"):
        label_frames(stopped, teacher, tmp_path, follow=True)
    assert len(contents(tmp_path)) == 2
    queries = teacher.queries
    with pytest.raises(DataError, match="stopped before its end"):
        label_frames(stopped, teacher, tmp_path, follow=True)
    assert teacher.queries == queries


def test_a_collection_that_never_begins_is_reported(
    settings: TeacherSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(label_source, "PATIENCE_SECONDS", 0.3)
    start = time.monotonic()
    with pytest.raises(DataError, match=r"no collection has begun in .*scripts\.collect_frames"):
        check_request(tmp_path, settings, tmp_path / "labels", follow=True)
    assert time.monotonic() - start >= 0.3


def test_an_unfinished_collection_is_refused_unless_it_is_followed(stopped: Path, settings: TeacherSettings) -> None:
    with pytest.raises(DataError, match=r"is unfinished: .*add --follow"):
        check_request(stopped, settings, stopped / "labels")
    check_request(stopped, settings, stopped / "labels", follow=True)


def test_a_collector_at_work_is_seen_by_its_lock(stopped: Path) -> None:
    source = FrameSource(stopped, follow=True)
    collected = source.look()
    assert [shard.samples for shard in collected.shards] == [256, 256]
    assert (collected.manifest, collected.stopped, source.expected_samples) == (None, False, FRAMES)
