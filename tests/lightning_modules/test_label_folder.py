"""Several labellers on one folder, as real processes; a folder on a full disk."""

import json
import os
import resource
import signal
import subprocess
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from datamodules.errors import DataError
from datamodules.manifest import read_manifest
from datamodules.shards import read_samples
from datamodules.whole_files import NoRoomError
from lightning_modules.label_folder import LabelFolder
from lightning_modules.label_source import FrameSource
from lightning_modules.labelling import LabelResult, label_frames
from lightning_modules.teacher import ClipTeacher
from tests.data_sets import write_frames
from tests.lightning_modules.tiny_teacher import contents, write_teacher

EPISODES, STEPS, SHARD = 20, 20, 10  # 400 samples in 40 shards


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> ClipTeacher:
    return ClipTeacher(write_teacher(tmp_path_factory.mktemp("teacher")))


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_frames(tmp_path_factory.mktemp("frames"), EPISODES, STEPS, SHARD)


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory, frames: Path, teacher: ClipTeacher) -> Path:
    """Labelled by one labeller; nobody changes it."""
    out = tmp_path_factory.mktemp("labels")
    label_frames(frames, teacher, out)
    return out


def in_processes(count: int, work: Callable[[int], object]) -> list[object]:
    """What `work(number)` gives in processes that begin at the same time: its value, a DataError's message, or None."""
    context = get_context("fork")
    gate = context.Barrier(count)

    def run(number: int, pipe: Connection) -> None:
        gate.wait(60)
        try:
            pipe.send(work(number))
        except DataError as error:
            pipe.send(str(error))

    pipes, processes = [], []
    for number in range(count):
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=run, args=(number, sender))
        process.start()
        sender.close()
        pipes.append(receiver)
        processes.append(process)
    answers: list[object] = []
    for pipe in pipes:
        try:
            answers.append(pipe.recv())
        except EOFError:  # it was killed
            answers.append(None)
    for process in processes:
        process.join(60)
    return answers


def test_labellers_on_one_folder_share_the_work(
    frames: Path, labels: Path, teacher: ClipTeacher, tmp_path: Path
) -> None:
    sentences = ["a red pole", "a blue pole"]
    results = in_processes(2, lambda number: label_frames(frames, teacher, tmp_path, [sentences[number]]))
    queries = []
    for result in results:
        assert isinstance(result, LabelResult)
        assert (result.samples, result.total_teacher_queries) == (400, 400)
        queries.append(result.teacher_queries)
    assert sum(queries) == 400  # no shard was labelled twice
    assert min(queries) >= 2 * SHARD
    assert contents(tmp_path) == contents(labels)
    manifest = read_manifest(tmp_path)
    assert (manifest.teacher_queries, manifest.digest) == (400, read_manifest(labels).digest)
    assert set(manifest.prompts) == {"a pole upright", "a pole", *sentences}
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in labels.iterdir())


def test_what_a_killed_labeller_had_taken_is_done_by_the_other(
    frames: Path, labels: Path, teacher: ClipTeacher, tmp_path: Path
) -> None:
    def work(number: int) -> LabelResult:
        def report(done: int, total: int, note: str = "") -> None:
            if number == 0 and done >= 2 * SHARD:
                os.kill(os.getpid(), signal.SIGKILL)

        return label_frames(frames, teacher, tmp_path, report=report)

    killed, survivor = in_processes(2, work)
    assert killed is None
    assert isinstance(survivor, LabelResult)
    assert survivor.teacher_queries < 400
    assert survivor.total_teacher_queries == 400
    assert contents(tmp_path) == contents(labels)


def test_a_second_labeller_with_another_teacher_is_refused(
    frames: Path, labels: Path, teacher: ClipTeacher, tmp_path: Path
) -> None:
    out = tmp_path / "labels"
    teachers = [teacher, ClipTeacher(write_teacher(tmp_path, seed=1))]
    answers = in_processes(2, lambda number: label_frames(frames, teachers[number], out))
    refused = [answer for answer in answers if isinstance(answer, str)]
    assert len(refused) == 1
    assert "belongs to the teacher" in refused[0]
    assert sum(1 for _ in read_samples(out)) == 400


def test_a_shard_that_is_damaged_and_taken_back_meanwhile_is_labelled_again(
    frames: Path, labels: Path, teacher: ClipTeacher, tmp_path: Path
) -> None:
    damaged: list[int] = []

    def damage_once(done: int, total: int, note: str = "") -> None:
        shard = tmp_path / "shard-000004.tar"
        if done == total and not damaged:
            damaged.append(done)
            shard.write_bytes(b"?")
            LabelFolder(tmp_path, FrameSource(frames, follow=False)).take_damaged_back()  # another labeller begins

    result = label_frames(frames, teacher, tmp_path, report=damage_once)
    assert (result.teacher_queries, result.total_teacher_queries) == (400 + SHARD, 400 + SHARD)
    assert contents(tmp_path) == contents(labels)


def test_an_unfinished_folder_of_another_number_format_is_refused(
    frames: Path, teacher: ClipTeacher, tmp_path: Path
) -> None:
    def stop(done: int, total: int, note: str = "") -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        label_frames(frames, teacher, tmp_path, report=stop)
    path = tmp_path / "unfinished/data_set.json"
    begun = json.loads(path.read_text())
    begun["teacher"]["precision"] = "bfloat16"
    path.write_text(json.dumps(begun))
    with pytest.raises(DataError, match=r"begun with .* in bfloat16, here it runs in float32"):
        label_frames(frames, teacher, tmp_path)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB; the labels need more."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a file system needs root")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_is_a_message_and_nothing_is_lost(
    frames: Path, labels: Path, teacher: ClipTeacher, small_disk: Path
) -> None:
    out = small_disk / "labels"
    with pytest.raises(NoRoomError, match=r"the disk is full \([\d.]+ MiB are free in .*make room and repeat"):
        label_frames(frames, teacher, out)
    assert contents(out).items() <= contents(labels).items()
    assert not list(out.rglob("*.part")) + list(out.rglob("*.lock"))
    finished = len(list(out.glob("unfinished/shard-*.json")))
    assert 0 < finished < 40
    subprocess.run(["mount", "-o", "remount,size=4m", str(small_disk)], check=True)
    assert label_frames(frames, teacher, out).teacher_queries == 400 - SHARD * finished
    assert contents(out) == contents(labels)


def test_a_limit_of_file_size_is_a_message_and_nothing_is_lost(
    frames: Path, labels: Path, teacher: ClipTeacher, tmp_path: Path
) -> None:
    smallest = min(len(content) for content in contents(labels).values())

    def work(_: int) -> str:
        resource.setrlimit(resource.RLIMIT_FSIZE, (smallest - 1, resource.RLIM_INFINITY))
        with pytest.raises(NoRoomError, match="larger than this process may write"):
            label_frames(frames, teacher, tmp_path)
        return "refused"

    assert in_processes(1, work) == ["refused"]
    assert not contents(tmp_path)
    assert label_frames(frames, teacher, tmp_path).samples == 400
    assert contents(tmp_path) == contents(labels)
