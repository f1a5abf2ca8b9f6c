"""Labelling with a small real open_clip model: right labels, stopped anywhere, never a frame asked twice."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import open_clip
import pytest
from safetensors.torch import save_file

from datamodules.errors import DataError, SettingsError
from datamodules.frames_datamodule import FramesDataModule
from datamodules.manifest import read_manifest
from datamodules.progress import Report, silent
from datamodules.shards import read_samples, verify
from lightning_modules.label_job import check_request
from lightning_modules.labelling import label_frames
from lightning_modules.settings import TeacherSettings
from lightning_modules.teacher import ClipTeacher
from tests.data_sets import frame_of, write_frames, write_labels
from tests.lightning_modules.tiny_teacher import CONFIG, contents, write_teacher

EPISODES, STEPS, SHARD, BATCH = 10, 3, 8, 3  # 30 samples in shards of 8, 8, 8 and 6; three teacher calls a full shard


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> TeacherSettings:
    return write_teacher(tmp_path_factory.mktemp("teacher"), batch_size=BATCH)


@pytest.fixture(scope="module")
def teacher(settings: TeacherSettings) -> ClipTeacher:
    return ClipTeacher(settings)


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_frames(tmp_path_factory.mktemp("frames"), EPISODES, STEPS, SHARD)


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory, frames: Path, teacher: ClipTeacher) -> Path:
    """Labelled without a stop; nobody changes it."""
    out = tmp_path_factory.mktemp("labels")
    label_frames(frames, teacher, out)
    return out


def label_until(calls: int, frames: Path, teacher: ClipTeacher, out: Path) -> None:
    """Label in a process of its own that is killed, as by `kill -9`, after some teacher calls."""

    def work() -> None:
        done = 0

        def kill_in_time(*_: object) -> None:
            nonlocal done
            done += 1
            if done == calls:
                os.kill(os.getpid(), signal.SIGKILL)

        label_frames(frames, teacher, out, report=kill_in_time)

    process = get_context("fork").Process(target=work)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def noting(notes: list[tuple[int, int]]) -> Report:
    def report(done: int, total: int, note: str = "") -> None:
        notes.append((done, total))

    return report


def test_each_label_is_the_embedding_of_its_own_teacher_frame(labels: Path, teacher: ClipTeacher) -> None:
    samples = list(read_samples(labels))
    keys = [(sample.episode, sample.step) for sample in samples]
    assert keys == [(episode, step) for episode in range(EPISODES) for step in range(STEPS)]
    expected = teacher.embed_frames(np.stack([frame_of(*key, 24) for key in keys]))
    for sample, embedding in zip(samples, expected, strict=True):
        assert sample.embedding is not None
        np.testing.assert_allclose(sample.embedding, embedding, atol=1e-3)
        np.testing.assert_array_equal(sample.frame, frame_of(sample.episode, sample.step))
        assert sample.teacher_frame is None
        assert (sample.true_reward, sample.policy, sample.seed) == (sample.episode + sample.step / 100, "random", 7)


def test_the_manifest_says_who_labelled_what(labels: Path, frames: Path, teacher: ClipTeacher) -> None:
    manifest, source = read_manifest(labels), read_manifest(frames)
    assert manifest.teacher is not None
    assert (manifest.teacher.name, manifest.teacher.digest, manifest.teacher.dim) == (teacher.name, teacher.digest, 24)
    assert (manifest.source, manifest.task, manifest.collection) == (source.digest, source.task, source.collection)
    assert manifest.samples == 30
    verify(labels, manifest)


def test_the_task_s_prompts_are_embedded_and_others_on_request(
    frames: Path, teacher: ClipTeacher, tmp_path: Path
) -> None:
    result = label_frames(frames, teacher, tmp_path, ["a red pole", "a pole"])
    assert result.prompts == ("a pole upright", "a pole", "a red pole")
    expected = teacher.embed_prompts(result.prompts)
    np.testing.assert_array_equal(FramesDataModule(tmp_path).prompt_embeddings(result.prompts), expected)


def test_teacher_queries_and_progress_count_frames(frames: Path, teacher: ClipTeacher, tmp_path: Path) -> None:
    notes: list[tuple[int, int]] = []
    result = label_frames(frames, teacher, tmp_path, report=noting(notes))
    assert (result.samples, result.teacher_queries, result.total_teacher_queries) == (30, 30, 30)
    assert notes[:4] == [(3, 30), (6, 30), (8, 30), (11, 30)]
    assert notes[-1] == (30, 30)


def test_new_sentences_for_finished_labels_ask_for_no_frame(frames: Path, teacher: ClipTeacher, tmp_path: Path) -> None:
    label_frames(frames, teacher, tmp_path)
    before, digest = contents(tmp_path), read_manifest(tmp_path).digest
    for prompts in (["a red pole"], ["a blue pole"]):
        result = label_frames(frames, teacher, tmp_path, prompts)
        assert (result.teacher_queries, result.total_teacher_queries) == (0, 30)
    assert result.prompts == ("a pole upright", "a pole", "a red pole", "a blue pole")
    assert (contents(tmp_path), read_manifest(tmp_path).digest) == (before, digest)


@pytest.mark.parametrize(("calls", "finished"), [(1, 0), (4, 1), (7, 2), (10, 3), (11, 4)])
def test_a_killed_run_goes_on_after_the_last_finished_shard(
    frames: Path, labels: Path, teacher: ClipTeacher, tmp_path: Path, *, calls: int, finished: int
) -> None:
    label_until(calls, frames, teacher, tmp_path)
    assert len(contents(tmp_path)) == finished
    (tmp_path / ".shard-000003.tar.1.part").write_bytes(b"killed while it wrote")
    with pytest.raises(DataError, match=r"manifest\.json is missing"):
        read_manifest(tmp_path)
    result = label_frames(frames, teacher, tmp_path)
    assert result.teacher_queries == max(30 - SHARD * finished, 0)
    assert contents(tmp_path) == contents(labels)
    assert read_manifest(tmp_path) == read_manifest(labels)
    assert names_in(tmp_path) == names_in(labels)


def test_killed_again_and_again_it_still_ends_with_the_same_bytes(
    frames: Path, labels: Path, teacher: ClipTeacher, tmp_path: Path
) -> None:
    for _ in range(3):
        label_until(4, frames, teacher, tmp_path)  # one shard and a call further each time
    assert label_frames(frames, teacher, tmp_path).teacher_queries == 6
    assert contents(tmp_path) == contents(labels)


def test_a_finished_shard_that_was_damaged_before_going_on_is_labelled_again(
    frames: Path, labels: Path, teacher: ClipTeacher, tmp_path: Path
) -> None:
    label_until(7, frames, teacher, tmp_path)
    first = tmp_path / "shard-000000.tar"
    first.write_bytes(first.read_bytes()[:-512])
    assert label_frames(frames, teacher, tmp_path).teacher_queries == 30 - SHARD
    assert contents(tmp_path) == contents(labels)


def test_damaged_shards_of_finished_labels_are_repaired_and_prompts_stay(
    frames: Path, labels: Path, teacher: ClipTeacher, tmp_path: Path
) -> None:
    label_frames(frames, teacher, tmp_path, ["a red pole"])
    (tmp_path / "shard-000003.tar").unlink()
    result = label_frames(frames, teacher, tmp_path)
    assert (result.teacher_queries, result.total_teacher_queries) == (6, 36)
    assert "a red pole" in result.prompts
    assert contents(tmp_path) == contents(labels)


def test_a_repair_that_was_killed_goes_on_and_its_queries_are_counted_once(
    frames: Path, labels: Path, teacher: ClipTeacher, tmp_path: Path
) -> None:
    label_frames(frames, teacher, tmp_path, ["a red pole"])
    for name in ("shard-000000.tar", "shard-000002.tar"):
        (tmp_path / name).write_bytes(b"damaged")
    label_until(4, frames, teacher, tmp_path)  # one of the two and a call of the other
    result = label_frames(frames, teacher, tmp_path)
    assert (result.teacher_queries, result.total_teacher_queries) == (8, 30 + 8 + 8)
    assert result.prompts == ("a pole upright", "a pole", "a red pole")
    assert contents(tmp_path) == contents(labels)


def test_a_run_killed_between_manifest_and_end_is_concluded(
    frames: Path, labels: Path, teacher: ClipTeacher, tmp_path: Path
) -> None:
    label_until(11, frames, teacher, tmp_path)  # everything labelled, nothing concluded
    shutil.copytree(tmp_path / "unfinished", tmp_path / "kept")
    label_frames(frames, teacher, tmp_path, ["a red pole"])
    (tmp_path / "kept").rename(tmp_path / "unfinished")
    result = label_frames(frames, teacher, tmp_path)
    assert (result.teacher_queries, result.total_teacher_queries) == (0, 30)
    assert result.prompts == ("a pole upright", "a pole", "a red pole")
    assert names_in(tmp_path) == names_in(labels)


def test_frames_collected_anew_are_labelled_anew(teacher: ClipTeacher, tmp_path: Path) -> None:
    """The same settings do not prove the same frames: another version of a simulator may have drawn them."""
    frames, out = tmp_path / "frames", tmp_path / "labels"
    write_frames(frames, EPISODES, STEPS, SHARD)
    label_until(4, frames, teacher, out)
    shutil.rmtree(frames)
    write_frames(frames, EPISODES, STEPS, samples_per_shard=10)
    assert label_frames(frames, teacher, out).teacher_queries == 30
    assert read_manifest(out).source == read_manifest(frames).digest
    assert [sample.key for sample in read_samples(out)] == [sample.key for sample in read_samples(frames)]


def test_time_inside_the_teacher_is_measured(frames: Path, teacher: ClipTeacher, tmp_path: Path) -> None:
    start = time.perf_counter()
    result = label_frames(frames, teacher, tmp_path)
    assert 0 < result.teacher_busy < 1
    assert result.frames_per_second > 30 / (time.perf_counter() - start)
    again = label_frames(frames, teacher, tmp_path)
    assert (again.teacher_busy, again.frames_per_second) == (0, 0)


def test_a_stop_lets_go_of_what_is_in_work(frames: Path, labels: Path, teacher: ClipTeacher, tmp_path: Path) -> None:
    def interrupt(done: int, total: int, note: str = "") -> None:
        if done > SHARD:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        label_frames(frames, teacher, tmp_path, report=interrupt)
    assert not list(tmp_path.rglob("*.lock"))
    assert label_frames(frames, teacher, tmp_path).teacher_queries == 30 - SHARD
    assert contents(tmp_path) == contents(labels)


def test_damaged_frames_are_refused_before_any_is_scored(teacher: ClipTeacher, tmp_path: Path) -> None:
    frames = write_frames(tmp_path / "frames", EPISODES, STEPS, SHARD)
    damaged = frames / "shard-000002.tar"
    damaged.write_bytes(damaged.read_bytes()[:-512])
    before = teacher.queries
    with pytest.raises(DataError, match=r"shard-000002\.tar: [\d,]+ bytes instead of"):
        label_frames(frames, teacher, tmp_path / "labels")
    assert teacher.queries == before


@pytest.mark.parametrize("calls", [4, None], ids=["unfinished", "finished"])
def test_labels_of_another_teacher_are_refused(
    frames: Path, teacher: ClipTeacher, tmp_path: Path, calls: int | None
) -> None:
    out = tmp_path / "labels"
    if calls is None:
        label_frames(frames, teacher, out)
    else:
        label_until(calls, frames, teacher, out)
    other = ClipTeacher(write_teacher(tmp_path, seed=1))
    with pytest.raises(DataError, match=r"belongs to the teacher .*tiny-0.*not to .*tiny-1.*choose another"):
        label_frames(frames, other, out)
    assert other.queries == 0


def test_labels_of_other_frames_are_refused(frames: Path, labels: Path, teacher: ClipTeacher, tmp_path: Path) -> None:
    others = write_frames(tmp_path, episodes=2)
    with pytest.raises(DataError, match="holds labels of other frames"):
        label_frames(others, teacher, labels)


def test_frames_are_not_labelled_in_place_nor_twice(
    frames: Path, labels: Path, teacher: ClipTeacher, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="holds frames without labels"):
        label_frames(frames, teacher, frames)
    with pytest.raises(DataError, match="is labelled already"):
        label_frames(labels, teacher, tmp_path)


@pytest.mark.parametrize(("prompts", "message"), [(["pole " * 100], "77"), ([" "], "empty")], ids=["too long", "empty"])
def test_a_bad_sentence_is_refused_before_any_work(
    frames: Path,
    settings: TeacherSettings,
    teacher: ClipTeacher,
    tmp_path: Path,
    *,
    prompts: Sequence[str],
    message: str,
) -> None:
    with pytest.raises(SettingsError, match=message):
        check_request(frames, settings, tmp_path / "labels", prompts)
    with pytest.raises(SettingsError, match=message):
        label_frames(frames, teacher, tmp_path, prompts)
    assert not list(tmp_path.iterdir())


def test_unfinished_frames_are_refused_before_the_teacher_is_loaded(settings: TeacherSettings, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"manifest\.json is missing"):
        check_request(tmp_path, settings, tmp_path / "labels")
    with pytest.raises(DataError, match="is labelled already"):
        check_request(write_labels(tmp_path), settings, tmp_path / "labels")


def test_frames_smaller_than_the_teacher_looks_at_are_warned_of(
    frames: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = {**CONFIG, "vision_cfg": {**CONFIG["vision_cfg"], "image_size": 32}}  # type: ignore[dict-item]  # a dict
    path = tmp_path / "tiny-larger-clip.json"
    path.write_text(json.dumps(config))
    open_clip.add_model_config(path)
    save_file(open_clip.create_model("tiny-larger-clip").state_dict(), tmp_path / "larger.safetensors")
    larger = ClipTeacher(TeacherSettings(str(path), str(tmp_path / "larger.safetensors"), device="cpu"))
    result = label_frames(frames, larger, tmp_path / "labels")
    told = [record.getMessage() for record in caplog.records if record.name == "lightning_modules.labelling"]
    assert [*result.warnings] == told
    assert "24 pixels wide" in result.warnings[0]
    assert "looks at 32" in result.warnings[0]


def test_frames_of_the_teachers_size_bring_no_warning(frames: Path, teacher: ClipTeacher, tmp_path: Path) -> None:
    assert label_frames(frames, teacher, tmp_path, report=silent).warnings == ()


def test_a_teacher_that_never_saw_a_simulator_says_so(frames: Path, settings: TeacherSettings, tmp_path: Path) -> None:
    stranger = ClipTeacher(replace(settings, simulators=("acrobot",)))
    (warning,) = label_frames(frames, stranger, tmp_path / "labels").warnings
    assert "was trained on frames of acrobot and has never seen 'cartpole-swingup'" in warning
    friend = ClipTeacher(replace(settings, simulators=("acrobot", "cartpole")))
    assert label_frames(frames, friend, tmp_path / "labels").warnings == ()


def test_a_folder_of_unlabelled_frames_is_refused_before_the_teacher_is_loaded(
    frames: Path, settings: TeacherSettings
) -> None:
    with pytest.raises(DataError, match="holds frames without labels"):
        check_request(frames, settings, frames)


@pytest.mark.slow
def test_the_command_labels_and_refuses_plainly(frames: Path, settings: TeacherSettings, tmp_path: Path) -> None:
    yaml = tmp_path / "teacher.yaml"
    yaml.write_text(f"model: {settings.model}\nweights: {settings.weights}\nbatch_size: {BATCH}\ndevice: cpu\n")
    command = [sys.executable, "-m", "scripts.label_frames", "--teacher", str(yaml), "--out", str(tmp_path / "labels")]
    good = subprocess.run(
        [*command, "--frames", str(frames), "--prompts", '["a red pole", "a pole, leaning"]'],
        capture_output=True,
        text=True,
        check=False,
    )
    assert good.returncode == 0, good.stderr
    result = json.loads(Path(good.stdout.splitlines()[-1]).read_text())
    assert (result["samples"], result["teacher_queries"]) == (30, 30)
    assert result["prompts"] == ["a pole upright", "a pole", "a red pole", "a pole, leaning"]
    bad = subprocess.run([*command, "--frames", str(tmp_path)], capture_output=True, text=True, check=False)
    assert bad.returncode == 2
    assert "scripts.collect_frames" in bad.stderr
    assert "Traceback" not in bad.stderr
