"""A fit's run in MLflow: whose it is, what it keeps whole, and what it says when there is no store."""

import json
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient

from datamodules.errors import SettingsError
from datamodules.manifest import read_manifest
from datamodules.tasks import Prompts
from lightning_modules.reward_function import StudentReward
from lightning_modules.runs import Run
from lightning_modules.student_files import save_student
from lightning_modules.tracking import FitLogger, OwnRunLogger
from tests.lightning_modules.students import PIXELS, frame_of, made_student, write_labels

SENTENCE = "a pole standing upright " * 40
PROMPTS = Prompts((SENTENCE,), ("a pole",), 0.5)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store whose folder does not exist yet."""
    return f"sqlite:///{tmp_path_factory.mktemp('tracking') / 'runs' / 'mlflow.db'}"


def begun(store: str, folder: Path, resumed: bool = False) -> OwnRunLogger:
    logger = OwnRunLogger(store, "students", "a fit", folder)
    logger.begin(resumed)
    return logger


def run_of(folder: Path) -> str:
    run_id: str = json.loads((folder / "mlflow.json").read_text())["run_id"]
    return run_id


def test_long_values_and_prompts_are_kept_whole_as_tags_and_the_labels_as_input(store: str, tmp_path: Path) -> None:
    logger = begun(store, tmp_path)
    config, labels = tmp_path / "config.yaml", write_labels(tmp_path / "labels", episodes=1, steps=2)
    config.write_text("model: {}")
    settings = {"model.backbone": "resnet18", "model.goal": SENTENCE, "model.alpha": None}
    logger.log_fit(settings, {"pole": PROMPTS}, config, [(str(labels), read_manifest(labels))])
    run = MlflowClient(store).get_run(run_of(tmp_path))
    assert run.data.params == {"student.model.backbone": "resnet18"}
    assert run.data.tags["student.model.goal"] == SENTENCE
    assert run.data.tags["prompts.goal"] == str([SENTENCE])
    assert run.data.tags["prompts.alpha"] == "0.5"
    assert run.data.tags["student_folder"] == str(tmp_path)
    [data] = run.inputs.dataset_inputs
    assert data.dataset.digest == read_manifest(labels).digest[:36]


def test_run_of_its_own_ends_with_the_fit(store: str, tmp_path: Path) -> None:
    begun(store, tmp_path).finalize("success")
    assert MlflowClient(store).get_run(run_of(tmp_path)).info.status == "FINISHED"


def test_run_of_a_caller_goes_on_after_the_fit(store: str, tmp_path: Path) -> None:
    with Run(store, "students", "a trial") as run:
        logger = FitLogger(run)
        logger.begin(resumed=False)
        logger.log_metrics({"student/validation_loss": 0.5}, step=3)
        logger.finalize("success")
        found = MlflowClient(store).get_run(str(run.run_id))
        assert found.info.status == "RUNNING"
        assert found.data.metrics["student/validation_loss"] == 0.5


def test_resumed_fit_goes_on_with_its_folders_run(store: str, tmp_path: Path) -> None:
    begun(store, tmp_path / "a").finalize("failed")
    first = run_of(tmp_path / "a")
    begun(store, tmp_path / "b")
    begun(store, tmp_path / "a", resumed=True)
    assert run_of(tmp_path / "a") == first
    assert MlflowClient(store).get_run(first).info.status == "RUNNING"
    begun(store, tmp_path / "a")
    assert run_of(tmp_path / "a") != first  # not resumed: a run of its own


def test_resumed_fit_without_a_run_begins_one(store: str, tmp_path: Path) -> None:
    begun(store, tmp_path, resumed=True)
    assert run_of(tmp_path)


def test_store_that_cannot_be_used_is_a_plain_error(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("this is no database")
    with pytest.raises(SettingsError, match=r"the MLflow store 'sqlite:.*cannot be used"):
        begun(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path)


@pytest.fixture
def student(tmp_path: Path) -> Path:
    """A finished student's folder."""
    folder = tmp_path / "student"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints/best.ckpt").write_text("not for the registry")
    save_student(folder, *made_student())
    return folder


def test_a_student_becomes_a_version_with_its_files_and_tags(store: str, student: Path) -> None:
    logger = begun(store, student)
    logger.finalize("success")
    logger.register("student-cartpole-tiny", student, PIXELS, {"seed": 3, "fidelity.spearman_pooled": 0.97})
    client, run_id = MlflowClient(store), run_of(student)
    [version] = client.search_model_versions(f"run_id = '{run_id}'")
    assert (version.name, int(version.version), version.status) == ("student-cartpole-tiny", 1, "READY")
    assert version.tags == {"seed": "3", "fidelity.spearman_pooled": "0.97"}
    kept = Path(client.get_model_version_download_uri(version.name, version.version).removeprefix("file://"))
    assert {path.name for path in kept.iterdir()} == {"student.safetensors", "student.json", "MLmodel"}
    assert (kept / "student.safetensors").read_bytes() == (student / "student.safetensors").read_bytes()
    assert client.get_run(run_id).info.status == "FINISHED"


@pytest.mark.filterwarnings("ignore:.*type hint is inferred as AnyType:UserWarning")  # of MLflow's own, at its import
def test_a_version_is_loaded_by_mlflow_and_gives_the_students_rewards(store: str, student: Path) -> None:
    begun(store, student).register("student-loaded-tiny", student, PIXELS, {})
    mlflow.set_tracking_uri(store)
    try:
        loaded = mlflow.pyfunc.load_model("models:/student-loaded-tiny/1")
    finally:
        mlflow.set_tracking_uri(None)
    frames = np.stack([frame_of(0, step) for step in range(5)])
    np.testing.assert_array_equal(loaded.predict(frames), StudentReward.load(student, "torch")(frames))
    [taken], [given] = loaded.metadata.signature.inputs.inputs, loaded.metadata.signature.outputs.inputs
    assert (taken.type, taken.shape) == (np.uint8, (-1, PIXELS, PIXELS, 3))
    assert (given.type, given.shape) == (np.float32, (-1,))
    with pytest.raises(mlflow.MlflowException, match="uint8"):
        loaded.predict(frames.astype(np.float64))


def test_another_run_is_another_version_and_the_same_run_is_none(store: str, student: Path) -> None:
    for number in (1, 2):
        logger = begun(store, student)
        for _ in range(2):
            logger.register("student-walker-tiny", student, PIXELS, {"fit": number})
    again = OwnRunLogger(store, "students", "a fit", student)  # a finished fit whose command is given again
    again.register("student-walker-tiny", student, PIXELS, {"fit": 3})
    found = MlflowClient(store).search_model_versions("name = 'student-walker-tiny'")
    assert {(int(version.version), version.tags["fit"]) for version in found} == {(1, "1"), (2, "2")}


def test_a_fit_that_ended_before_it_was_registered_is_when_its_command_is_given_again(
    store: str, student: Path
) -> None:
    begun(store, student).finalize("success")
    again = OwnRunLogger(store, "students", "a fit", student)
    again.register("student-late-tiny", student, PIXELS, {})
    [version] = MlflowClient(store).search_model_versions("name = 'student-late-tiny'")
    assert version.run_id == run_of(student)
    assert MlflowClient(store).get_run(run_of(student)).info.status == "FINISHED"


def test_a_callers_run_takes_the_version(store: str, student: Path) -> None:
    with Run(store, "students", "a trial") as run:
        FitLogger(run).register("student-trial-tiny", student, PIXELS, {})
    [version] = MlflowClient(store).search_model_versions("name = 'student-trial-tiny'")
    assert version.run_id == run.run_id


def test_a_store_without_a_registry_is_a_warning(
    store: str, student: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "nowhere://registry")
    logger = begun(store, student)
    logger.register("student-cartpole-tiny", student, PIXELS, {})
    assert f"{student} is finished, and not registered" in caplog.text
    assert "Model Registry features are not supported by the store with URI: 'nowhere://registry'" in caplog.text


def test_a_file_is_kept_in_the_run_also_when_the_command_is_given_again(store: str, student: Path) -> None:
    begun(store, student).finalize("success")
    OwnRunLogger(store, "students", "a fit", student).keep(student / "student.json")
    client = MlflowClient(store)
    assert [each.path for each in client.list_artifacts(run_of(student), "student")] == ["student/student.json"]
    [experiment] = client.search_experiments(filter_string="name = 'students'")
    assert len(client.search_runs([experiment.experiment_id], f"tags.student_folder = '{student}'")) == 1


def test_a_file_that_the_store_cannot_take_any_more_is_a_warning(
    student: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logger = begun(f"sqlite:///{tmp_path / 'mlflow.db'}", student)
    (tmp_path / "mlflow.db").write_text("no database")
    logger.keep(student / "student.json")
    assert (
        "MLflow does not take all records of this fit ((sqlite3.DatabaseError) file is not a database)" in caplog.text
    )
