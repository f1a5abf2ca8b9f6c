"""Fitting from labels to a student folder: what it leaves, how it goes on after a kill, and what it refuses."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datamodules.errors import DataError, SettingsError, SuiteError, UnknownNameError
from datamodules.frames_datamodule import FramesDataModule
from datamodules.progress import silent
from datamodules.splits import split_of
from datamodules.tasks import Prompts
from lightning_modules.fit import check_fit, fit_student
from lightning_modules.fit_cli import FitCLI
from lightning_modules.fit_export import FitResult
from lightning_modules.reward_function import StudentReward
from lightning_modules.student_files import read_card
from tests.lightning_modules.students import BASELINE, GOAL, OTHER, PIXELS, TASK, frame_of, reward_of, write_labels
from tests.loopback import loopback

ROOT = Path(__file__).parents[2]
CONFIG: dict[str, Any] = {
    "model": {"backbone": "test_efficientnet", "head_width": 16},
    "data": {"batch_size": 16},
    "trainer": {"max_epochs": 4, "accelerator": "cpu", "gradient_clip_val": 1.0},
}
HELD_OUT = [(episode, step) for episode in range(20) for step in range(16) if split_of(episode) == "test"]


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_labels(tmp_path_factory.mktemp("squares") / "labels")


def config_file(folder: Path, **changes: dict[str, Any]) -> Path:
    """A student configuration; JSON is YAML."""
    content = {group: {**CONFIG.get(group, {}), **changes.get(group, {})} for group in CONFIG.keys() | changes.keys()}
    path = folder / "student.yaml"
    path.write_text(json.dumps(content))
    return path


@pytest.fixture(scope="module")
def fitted(
    labels: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, FitResult, list[tuple[int, int, str]]]:
    """A student folder, its result, and what was reported."""
    folder = tmp_path_factory.mktemp("fitted")
    reports: list[tuple[int, int, str]] = []
    out = folder / "student"
    result = fit_student(
        config_file(folder), labels, out, seed=0, report=lambda done, total, note: reports.append((done, total, note))
    )
    return out, result, reports


def test_student_learns_its_teacher(fitted: tuple[Path, FitResult, Any]) -> None:
    out, result, _ = fitted
    assert result.fidelity.spearman_pooled > 0.8
    assert result.fidelity.samples == len(HELD_OUT)
    student = StudentReward.load(out)
    raw = student.raw(np.stack([frame_of(*key) for key in HELD_OUT]))
    assert np.corrcoef(raw, [reward_of(*key) for key in HELD_OUT])[0, 1] == pytest.approx(
        result.fidelity.pearson, abs=0.01
    )


def test_result_and_card_hold_the_same_fidelity(fitted: tuple[Path, FitResult, Any]) -> None:
    out, result, _ = fitted
    content = json.loads((out / "result.json").read_text())
    assert content["fidelity"]["spearman_pooled"] == result.fidelity.spearman_pooled
    assert (content["backbone"], content["epochs"]) == ("test_efficientnet", 4)
    assert content["parameters"] == result.parameters > 90_000
    assert read_card(out).fidelity == result.fidelity


def test_a_fit_keeps_to_one_device_unless_told_otherwise(fitted: tuple[Path, FitResult, Any]) -> None:
    assert json.loads((fitted[0] / "fit.json").read_text())["trainer.devices"] == 1


def test_held_out_file_shows_extreme_frames_by_teacher_reward(fitted: tuple[Path, FitResult, Any]) -> None:
    with np.load(fitted[0] / "held_out.npz", allow_pickle=False) as arrays:
        held_out = dict(arrays)
    by_reward = sorted(HELD_OUT, key=lambda key: reward_of(*key))
    np.testing.assert_array_equal(held_out["bottom_frames"], np.stack([frame_of(*key) for key in by_reward[:8]]))
    np.testing.assert_array_equal(held_out["top_frames"], np.stack([frame_of(*key) for key in by_reward[:-9:-1]]))
    train = [reward_of(e, s) for e in range(20) for s in range(16) if split_of(e) == "train"]
    standardised = (np.array([reward_of(*key) for key in HELD_OUT]) - np.mean(train)) / np.std(train)
    np.testing.assert_allclose(held_out["teacher"], standardised, atol=2e-2)  # embeddings are float16
    assert held_out["top"].tolist() == [HELD_OUT.index(key) for key in by_reward[:-9:-1]]
    assert held_out["worst"][0] == np.argmax(np.abs(held_out["student"] - held_out["teacher"]))
    np.testing.assert_array_equal(held_out["worst_frames"][0], frame_of(*HELD_OUT[held_out["worst"][0]]))
    assert held_out["student"].shape == held_out["true_reward"].shape == (len(HELD_OUT),)
    assert not held_out["spread"].any()


def test_progress_counts_batches_to_the_end(fitted: tuple[Path, FitResult, list[tuple[int, int, str]]]) -> None:
    done, total, note = fitted[2][-1]
    assert done == total == 4 * (16 * 16 // 16)
    assert note.startswith("epoch 4, validation Spearman 0.")


def test_finished_fit_is_not_done_again(fitted: tuple[Path, FitResult, Any], labels: Path) -> None:
    out, result, _ = fitted
    before = (out / "student.safetensors").stat().st_mtime_ns

    def no_work(done: int, total: int, note: str) -> None:
        raise AssertionError("the fit began again")

    assert fit_student(out.parent / "student.yaml", labels, out, seed=0, report=no_work) == result
    assert (out / "student.safetensors").stat().st_mtime_ns == before


def test_folder_of_another_fit_is_refused(fitted: tuple[Path, FitResult, Any], labels: Path, tmp_path: Path) -> None:
    wider = config_file(tmp_path, model={"head_width": 17})
    with pytest.raises(DataError, match=r"holds another fit: there model\.head_width is 16, here it is 17"):
        fit_student(wider, labels, fitted[0], seed=0, report=silent)
    with pytest.raises(DataError, match="there seed_everything is 0, here it is 1"):
        fit_student(config_file(tmp_path), labels, fitted[0], seed=1, report=silent)


def test_prompts_of_the_caller_are_learned(labels: Path, tmp_path: Path) -> None:
    prompts = Prompts((OTHER,), (BASELINE,), 0.5)
    config = config_file(tmp_path, trainer={"max_epochs": 1})
    fit_student(config, labels, tmp_path / "student", seed=0, report=silent, prompts=prompts)
    assert read_card(tmp_path / "student").target_of().prompts == prompts


def test_a_fit_that_early_stopping_ended_goes_on_with_its_test(labels: Path, tmp_path: Path) -> None:
    config = config_file(
        tmp_path,
        model={"learning_rate": 1e-12, "schedule": "constant"},
        trainer={"max_epochs": 50},
        early_stopping={"patience": 2, "min_delta": 10.0},
    )
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    expected = fit_student(config, labels, whole, seed=0, report=silent)
    assert expected.epochs == 3
    (stopped / "held_out.npz").mkdir(parents=True)  # no file can take its place: the export ends here
    with pytest.raises(OSError, match=r"held_out\.npz"):
        fit_student(config, labels, stopped, seed=0, report=silent)
    last = stopped / "checkpoints" / "last.ckpt"
    written = last.stat().st_mtime_ns
    partial = last.with_name(".last.ckpt.1.part")
    partial.touch()  # as a fit leaves it that is killed while it writes
    (stopped / "held_out.npz").rmdir()
    result = fit_student(config, labels, stopped, seed=0, report=silent)
    assert last.stat().st_mtime_ns == written
    assert not partial.exists()
    assert (result.epochs, result.fidelity) == (3, expected.fidelity)
    ours, theirs = (json.loads((folder / "result.json").read_text()) for folder in (stopped, whole))
    assert ours["seconds"] == ours["curves"][-1]["seconds"]
    for curves in (ours["curves"], theirs["curves"]):
        assert [epoch.pop("seconds") > 0 for epoch in curves] == [True] * 3
    assert {name: ours[name] for name in ("curves", "mse")} == {name: theirs[name] for name in ("curves", "mse")}


@pytest.mark.slow
def test_killed_fit_goes_on_to_the_same_student(labels: Path, tmp_path: Path) -> None:
    config = config_file(tmp_path, trainer={"max_epochs": 3})
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    fit_student(config, labels, whole, seed=0, report=silent)
    command = [sys.executable, "-m", "scripts.fit_student", "fit", f"--config={config}", f"--data.labels={labels}"]
    command += [f"--out={killed}", "--seed_everything=0", "--tracking_uri=null"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    last = killed / "checkpoints" / "last.ckpt"
    while not last.exists() and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / "result.json").exists(), "the fit was faster than the kill"
    assert torch.load(last, weights_only=True)["epoch"] < 2
    outcome = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert outcome.stdout.splitlines()[-1] == str(killed / "result.json")
    frames = np.stack([frame_of(0, step) for step in range(8)])
    np.testing.assert_allclose(StudentReward.load(killed)(frames), StudentReward.load(whole)(frames), atol=1e-4)
    assert json.loads((killed / "result.json").read_text())["epochs"] == 3


@pytest.mark.slow
def test_command_logs_one_run_and_keeps_quiet(labels: Path, tmp_path: Path) -> None:
    config, store = config_file(tmp_path, trainer={"max_epochs": 2}), tmp_path / "store" / "mlflow.db"
    command = [sys.executable, "-m", "scripts.fit_student", "fit", f"--config={config}", f"--data.labels={labels}"]
    command += [f"--out={tmp_path / 'student'}", f"--tracking_uri=sqlite:///{store}"]
    for _ in range(2):  # the second time it is finished
        outcome = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        # matplotlib says once a machine that it looks for fonts
        said = ("read: ", "fit: ", "Matplotlib is building the font cache")
        noise = [line for line in outcome.stderr.splitlines() if not line.startswith(said)]
        assert noise == []
    with sqlite3.connect(store) as database:
        runs = database.execute("select name, status, artifact_uri from runs").fetchall()
        tags = dict(database.execute("select key, value from tags").fetchall())
        parameters = dict(database.execute("select key, value from params").fetchall())
        metrics = dict(database.execute("select key, count(*) from metrics group by key").fetchall())
        versions = database.execute("select name, version, storage_location from model_versions").fetchall()
        said = dict(database.execute("select key, value from model_version_tags").fetchall())
    [(name, status, artifacts)] = runs
    assert (name, status) == ("cartpole_swingup test_efficientnet seed 0", "FINISHED")
    assert tags["prompts.goal"] == str([GOAL])
    assert parameters["student.model.backbone"] == "test_efficientnet"
    assert {
        "student/train_loss",
        "student/validation_loss",
        "student/spearman_pooled",
        "student/epic",
    } <= metrics.keys()
    assert metrics["student/train_loss"] == metrics["student/validation_loss"] == 2  # epochs
    assert (Path(artifacts.removeprefix("file://")) / "student" / "config.yaml").is_file()
    assert versions == [("student-cartpole_swingup-test_efficientnet", 1, f"{artifacts}/student")]
    kept = StudentReward.load(Path(artifacts.removeprefix("file://")) / "student").card
    assert kept == read_card(tmp_path / "student")
    assert said["seed"] == "0"
    assert said["labels"] == kept.manifest_digest
    assert said["prompts.goal"] == str([GOAL])
    assert float(said["fidelity.spearman_pooled"]) == kept.fidelity.spearman_pooled


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"model": {"backbone": "test_eficientnet"}}, UnknownNameError, "did you mean .*'test_efficientnet'"),
        ({"model": {"backbone": "inception_v3"}}, SettingsError, "cannot take frames of 32 x 32"),
        ({"model": {"loss": "hubert"}}, SuiteError, "hubert"),
        ({"model": {"head_wide": 3}}, SuiteError, "head_wide"),
        ({"data": {"batch_size": 0}}, SettingsError, "batch_size is 0"),
        ({"trainer": {"max_epoch": 3}}, SuiteError, "max_epoch"),
    ],
)
def test_wrong_settings_are_refused_before_any_work(
    labels: Path, tmp_path: Path, changes: dict[str, Any], kind: type[Exception], message: str
) -> None:
    config = config_file(tmp_path, **changes)
    with pytest.raises(kind, match=message):
        check_fit(config, PIXELS)
    with pytest.raises(kind, match=message):
        fit_student(config, labels, tmp_path / "student", seed=0, report=silent)
    assert not (tmp_path / "student").exists()


def test_missing_labels_name_the_command(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"scripts.label_frames"):
        fit_student(config_file(tmp_path), tmp_path / "nothing", tmp_path / "student", seed=0, report=silent)


@pytest.mark.parametrize("path", sorted((ROOT / "conf" / "student").glob("*.yaml")), ids=lambda path: path.name)
def test_shipped_configurations_fit_the_shipped_frames(path: Path) -> None:
    assert check_fit(path, 84) == 1


def test_a_check_tells_the_members_of_an_ensemble(tmp_path: Path) -> None:
    assert check_fit(config_file(tmp_path, model={"members": 3}), PIXELS) == 3


@pytest.mark.slow
def test_mistake_at_the_command_line_ends_with_code_2_and_no_traceback(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "scripts.fit_student",
        "fit",
        "--model.backbone=resnet_18",
        "--data.labels=nothing",
    ]
    outcome = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "200"}
    )
    assert outcome.returncode == 2
    assert outcome.stderr.startswith("error: unknown backbone 'resnet_18': did you mean 'resnet18'")
    assert "Traceback" not in outcome.stderr


def test_a_fit_from_several_data_sets_of_one_task(labels: Path, tmp_path: Path) -> None:
    more = write_labels(tmp_path / "more", episodes=10)
    config = config_file(tmp_path, trainer={"max_epochs": 1})
    arguments = [f"--config={config}", f"--data.labels=[{labels}, {more}]", "--tracking_uri=null"]
    out = FitCLI(["fit", *arguments, f"--out={tmp_path / 'student'}"], nullcontext(silent)).out
    assert json.loads((out / "result.json").read_text())["fidelity"]["samples"] == len(HELD_OUT) + 16
    card = read_card(out)
    assert card.manifest_digest == FramesDataModule([str(labels), str(more)]).digest
    assert card.target_of().task == "cartpole_swingup"


def test_student_of_two_tasks_knows_the_reward_of_each(labels: Path, tmp_path: Path) -> None:
    dark = replace(TASK, name="dark_squares", prompts=Prompts((OTHER,)))
    other = write_labels(tmp_path / "other", episodes=10, task=dark)
    arguments = [f"--config={config_file(tmp_path)}", f"--data.labels=[{labels}, {other}]", "--tracking_uri=null"]
    FitCLI(["fit", *arguments, f"--out={tmp_path / 'student'}"], nullcontext(silent))
    card, result = read_card(tmp_path / "student"), json.loads((tmp_path / "student/result.json").read_text())
    assert [(target.task, target.prompts) for target in card.targets] == [
        ("cartpole_swingup", TASK.prompts),
        ("dark_squares", dark.prompts),
    ]
    train = [reward_of(e, s) for e in range(10) for s in range(16) if split_of(e) == "train"]
    assert card.target_of("dark_squares").standardisation.mean == pytest.approx(-np.mean(train), abs=1e-3)
    assert [card.target_of(task).fidelity.samples for task in card.tasks] == [len(HELD_OUT), 16]
    assert list(result["by_task"]) == ["cartpole_swingup", "dark_squares"]
    with np.load(tmp_path / "student/held_out.npz") as arrays:
        assert np.bincount(arrays["target"]).tolist() == [len(HELD_OUT), 16]


def test_two_prompts_of_one_task_are_refused_before_the_fit(labels: Path, tmp_path: Path) -> None:
    other = write_labels(tmp_path / "other", episodes=10, task=replace(TASK, prompts=Prompts((OTHER,))))
    arguments = [f"--config={config_file(tmp_path)}", f"--data.labels=[{labels}, {other}]", "--tracking_uri=null"]
    with pytest.raises(SettingsError, match="several data sets of task 'cartpole_swingup' with different prompts"):
        FitCLI(["fit", *arguments, f"--out={tmp_path / 'student'}"], nullcontext(silent))
    assert not (tmp_path / "student").exists()


def test_result_has_the_curves_and_the_errors_of_each_split(fitted: tuple[Path, FitResult, Any]) -> None:
    result = json.loads((fitted[0] / "result.json").read_text())
    assert [epoch["epoch"] for epoch in result["curves"]] == [1, 2, 3, 4]
    assert {"train_loss", "validation_loss", "validation_spearman_pooled"} <= result["curves"][0].keys()
    assert result["curves"][-1]["train_loss"] < result["curves"][0]["train_loss"]
    assert result["mse"].keys() == {"train", "validation", "test"}
    assert result["mse"]["test"] == pytest.approx(result["fidelity"]["mse"], rel=1e-4)


def test_skipped_shards_stand_in_the_result(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    labels = write_labels(tmp_path / "labels", samples_per_shard=16)
    shard = labels / "shard-000003.tar"
    shard.write_bytes(shard.read_bytes()[:-512])
    config = config_file(tmp_path, trainer={"max_epochs": 1})
    with pytest.raises(DataError, match=r"shard-000003\.tar"):
        fit_student(config, labels, tmp_path / "student", seed=0, report=silent)
    config = config_file(tmp_path, trainer={"max_epochs": 1}, data={"damaged": "skip"})
    fit_student(config, labels, tmp_path / "skipped", seed=0, report=silent)
    skipped = json.loads((tmp_path / "skipped" / "result.json").read_text())["skipped_shards"]
    assert [damage["shard"] for damage in skipped[str(labels)]] == ["shard-000003.tar"]
    assert "1 of 20 shards" in caplog.text


def test_labels_behind_an_address_need_an_output_folder(labels: Path, tmp_path: Path) -> None:
    with loopback(labels) as server:
        arguments = [f"--config={config_file(tmp_path, trainer={'max_epochs': 1})}", "--tracking_uri=null"]
        arguments += [f"--data.labels={server.address}", "--data.cache=false"]
        with pytest.raises(SettingsError, match=r"behind an address .*give --out"):
            FitCLI(["fit", *arguments], nullcontext(silent))
        result = FitCLI(["fit", *arguments, f"--out={tmp_path / 'student'}"], nullcontext(silent)).result
    assert result.fidelity.samples == len(HELD_OUT)


@pytest.mark.slow
def test_two_processes_fit_one_student(labels: Path, tmp_path: Path) -> None:
    devices = {"max_epochs": 1, "devices": 2, "strategy": "ddp"}
    config = config_file(tmp_path, trainer=devices, data={"batch_size": 7})
    command = [sys.executable, "-m", "scripts.fit_student", "fit", f"--config={config}", f"--data.labels={labels}"]
    command += [f"--out={tmp_path / 'student'}", "--tracking_uri=null"]
    subprocess.run(command, cwd=ROOT, check=True, timeout=240)
    assert json.loads((tmp_path / "student" / "fit.json").read_text())["trainer.devices"] == 2
    result = json.loads((tmp_path / "student" / "result.json").read_text())
    assert result["fidelity"]["samples"] == len(HELD_OUT)
    with np.load(tmp_path / "student" / "held_out.npz", allow_pickle=False) as held_out:
        assert list(zip(held_out["episode"].tolist(), held_out["step"].tolist(), strict=True)) == HELD_OUT
        frames = np.stack([frame_of(*key) for key in HELD_OUT])
        np.testing.assert_allclose(
            StudentReward.load(tmp_path / "student", "torch")(frames), held_out["student"], atol=1e-3
        )
