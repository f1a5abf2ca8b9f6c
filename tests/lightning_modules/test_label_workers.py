"""Teachers side by side in a real, small Ray."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from datamodules.errors import MissingDependencyError, SettingsError, SuiteError
from datamodules.manifest import read_manifest
from lightning_modules import label_workers
from lightning_modules.label_job import needs_ray
from lightning_modules.label_workers import Share, label_with_workers, plan_workers
from lightning_modules.labelling import label_frames
from lightning_modules.ray_session import ray_session
from lightning_modules.settings import TeacherSettings
from lightning_modules.teacher import ClipTeacher
from tests.data_sets import write_frames
from tests.lightning_modules.tiny_teacher import contents, write_teacher

EPISODES, STEPS, SHARD = 30, 20, 10  # 600 samples in 60 shards
CPU = TeacherSettings("ViT-B-32", "openai", device="cpu")
AUTO = TeacherSettings("ViT-B-32", "openai")
CUDA = TeacherSettings("ViT-B-32", "openai", device="cuda")


@pytest.mark.parametrize(
    ("settings", "workers", "machines", "share"),
    [
        (AUTO, None, [{"CPU": 8.0}], Share(1, cpus=8, gpus=0)),
        (AUTO, 2, [{"CPU": 8.0}], Share(2, cpus=4, gpus=0)),
        (AUTO, 3, [{"CPU": 8.0}], Share(3, cpus=2, gpus=0)),
        (AUTO, None, [{"CPU": 4.0}, {"CPU": 8.0}, {"memory": 1.0}], Share(2, cpus=8 // 2, gpus=0)),
        (AUTO, 2, [{"CPU": 1.0}, {"CPU": 7.0}], Share(2, cpus=3, gpus=0)),  # 4 + 4 would find no place
        (AUTO, None, [{"CPU": 8.0, "GPU": 2.0}, {"CPU": 8.0, "GPU": 1.0}], Share(3, cpus=1, gpus=1)),
        (AUTO, 2, [{"CPU": 8.0, "GPU": 4.0}], Share(2, cpus=1, gpus=1)),
        (CPU, 2, [{"CPU": 8.0, "GPU": 4.0}], Share(2, cpus=4, gpus=0)),
    ],
)
def test_machines_are_divided_among_workers(
    settings: TeacherSettings, workers: int | None, machines: list[dict[str, float]], share: Share
) -> None:
    assert plan_workers(settings, workers, machines) == share


def test_more_workers_than_there_is_room_for_are_refused() -> None:
    with pytest.raises(SettingsError, match="workers is 3, but there are 2 CPU cores: ask for at most 2"):
        plan_workers(CPU, 3, [{"CPU": 2.0}])
    with pytest.raises(SettingsError, match="workers is 3, but the Ray cluster has 2 GPUs"):
        plan_workers(AUTO, 3, [{"CPU": 16.0, "GPU": 2.0}])
    with pytest.raises(MissingDependencyError, match="has no GPU"):
        plan_workers(CUDA, 1, [{"CPU": 16.0}])


def test_one_worker_without_a_cluster_needs_no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert [needs_ray(CPU, workers) for workers in (None, 1, 2)] == [False, False, True]
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6379")
    assert needs_ray(CPU, None)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> TeacherSettings:
    return write_teacher(tmp_path_factory.mktemp("teacher"))


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_frames(tmp_path_factory.mktemp("frames"), EPISODES, STEPS, SHARD)


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory, frames: Path, settings: TeacherSettings) -> Path:
    """Labelled in this process; nobody changes it."""
    out = tmp_path_factory.mktemp("labels")
    label_frames(frames, ClipTeacher(settings), out)
    return out


@pytest.fixture(scope="module")
def _ray() -> Iterator[None]:
    """One Ray for all tests of this file."""
    with ray_session():
        yield


def worker_processes() -> list[int]:
    """Process ids of the actors of ours that descend from this process, oldest first."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if b"LabelWorker" in (process / "cmdline").read_bytes() and descends_from(int(process.name), os.getpid()):
                found.append(int(process.name))
        except FileNotFoundError:  # it ended
            continue
    return sorted(found)


def descends_from(process: int, ancestor: int) -> bool:
    while process > 1 and process != ancestor:
        process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    return process == ancestor


@pytest.mark.slow
@pytest.mark.usefixtures("_ray")
def test_two_workers_give_the_bytes_of_one(
    frames: Path, labels: Path, settings: TeacherSettings, tmp_path: Path
) -> None:
    notes: list[tuple[int, int]] = []
    result = label_with_workers(
        frames,
        settings,
        tmp_path,
        ["a red pole"],
        workers=2,
        report=lambda done, total, note="": notes.append((done, total)),
    )
    assert (result.samples, result.teacher_queries, result.total_teacher_queries) == (600, 600, 600)
    assert (result.workers, result.prompts) == (2, ("a pole upright", "a pole", "a red pole"))
    assert 0 < result.teacher_busy < 1
    assert notes == sorted(notes)
    assert notes[-1] == (600, 600)
    assert contents(tmp_path) == contents(labels)
    deadline = time.monotonic() + 30
    while worker_processes() and time.monotonic() < deadline:  # Ray ends them in its own time
        time.sleep(0.1)
    assert not worker_processes()


@pytest.mark.slow
@pytest.mark.usefixtures("_ray")
def test_a_killed_worker_is_replaced_and_its_shard_done_again(
    frames: Path, labels: Path, settings: TeacherSettings, tmp_path: Path
) -> None:
    killed: list[int] = []

    def kill_one(done: int, total: int, note: str = "") -> None:
        if done >= 5 * SHARD and not killed:
            victim = worker_processes()[0]
            killed.append(victim)
            os.kill(victim, signal.SIGKILL)

    result = label_with_workers(frames, settings, tmp_path, workers=2, report=kill_one)
    assert len(killed) == 1
    assert result.samples == 600
    # what was scored of the shard in work counts as asked, and was asked again
    assert 600 <= result.teacher_queries < 600 + SHARD
    assert contents(tmp_path) == contents(labels)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in labels.iterdir())


@pytest.mark.slow
@pytest.mark.usefixtures("_ray")
def test_workers_that_keep_dying_end_in_a_message(
    frames: Path, labels: Path, settings: TeacherSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(label_workers, "REPLACEMENTS", 1)

    def kill_all(done: int, total: int, note: str = "") -> None:
        for victim in worker_processes():
            os.kill(victim, signal.SIGKILL)

    with pytest.raises(SuiteError, match=r"2 workers died while labelling, .* fewer --workers"):
        label_with_workers(frames, settings, tmp_path, workers=1, report=kill_all)
    assert label_frames(frames, ClipTeacher(settings), tmp_path).samples == 600
    assert contents(tmp_path) == contents(labels)


@pytest.mark.slow
@pytest.mark.usefixtures("_ray")
def test_a_mistake_in_a_worker_reaches_the_user_as_a_plain_message(
    frames: Path, labels: Path, settings: TeacherSettings, tmp_path: Path
) -> None:
    other = write_teacher(tmp_path, seed=1)
    with pytest.raises(SuiteError, match=r"belongs to the teacher .*tiny-0.*not to .*tiny-1") as caught:
        label_with_workers(frames, other, labels, workers=2)
    assert "Traceback" not in str(caught.value)
    assert read_manifest(labels).samples == 600
    with pytest.raises(SettingsError, match="ask for at most"):
        label_with_workers(frames, settings, tmp_path, workers=1000)
