"""A fit's run in MLflow: whose it is, what it keeps whole, and what it says when there is no store."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

from datamodules.errors import SettingsError
from datamodules.tasks import Prompts
from lightning_modules.tracking import FitLogger

SENTENCE = "a pole standing upright " * 20
PROMPTS = Prompts((SENTENCE,), ("a pole",), 0.5)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store whose folder does not exist yet."""
    return f"sqlite:///{tmp_path_factory.mktemp('tracking') / 'runs' / 'mlflow.db'}"


def begun(store: str, folder: Path, run_id: str | None = None, resumed: bool = False) -> FitLogger:
    logger = FitLogger(store, "students", "a fit", folder, run_id)
    logger.begin(resumed)
    return logger


def test_long_values_and_prompts_are_kept_whole_as_tags(store: str, tmp_path: Path) -> None:
    logger = begun(store, tmp_path)
    config = tmp_path / "config.yaml"
    config.write_text("model: {}")
    logger.log_fit(
        {"model.backbone": "resnet18", "model.goal": SENTENCE, "model.alpha": None}, {"pole": PROMPTS}, config
    )
    data = MlflowClient(store).get_run(logger.run_id).data
    assert data.params == {"student.model.backbone": "resnet18"}
    assert data.tags["student.model.goal"] == SENTENCE
    assert data.tags["prompts.goal"] == str([SENTENCE])
    assert data.tags["prompts.alpha"] == "0.5"


def test_run_of_its_own_ends_with_the_fit(store: str, tmp_path: Path) -> None:
    logger = begun(store, tmp_path)
    logger.finalize("success")
    assert MlflowClient(store).get_run(logger.run_id).info.status == "FINISHED"


def test_run_of_a_caller_goes_on_after_the_fit(store: str, tmp_path: Path) -> None:
    client = MlflowClient(store)
    run_id = client.create_run(begun(store, tmp_path).experiment_id).info.run_id
    logger = begun(store, tmp_path, run_id)
    logger.log_metrics({"student/validation_loss": 0.5}, step=3)
    logger.finalize("success")
    run = client.get_run(run_id)
    assert run.info.status == "RUNNING"
    assert run.data.metrics == {"student/validation_loss": 0.5}


def test_resumed_fit_goes_on_with_its_folders_latest_run(store: str, tmp_path: Path) -> None:
    first = begun(store, tmp_path / "a")
    begun(store, tmp_path / "b")
    first.finalize("failed")
    resumed = begun(store, tmp_path / "a", resumed=True)
    assert resumed.run_id == first.run_id
    assert MlflowClient(store).get_run(first.run_id).info.status == "RUNNING"
    assert begun(store, tmp_path / "a").run_id != first.run_id  # not resumed: a run of its own


def test_resumed_fit_without_a_run_begins_one(store: str, tmp_path: Path) -> None:
    assert begun(store, tmp_path, resumed=True).run_id


def test_store_that_cannot_be_used_is_a_plain_error(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("this is no database")
    with pytest.raises(SettingsError, match=r"tracking_uri is 'sqlite:.*cannot be used"):
        begun(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path)


@pytest.fixture
def student(tmp_path: Path) -> Path:
    """A finished student's folder, as far as a registry is concerned."""
    folder = tmp_path / "student"
    (folder / "checkpoints").mkdir(parents=True)
    for name in ("student.safetensors", "student.json", "more.safetensors", "checkpoints/best.ckpt"):
        (folder / name).write_text(f"content of {name}")
    return folder


def test_a_student_becomes_a_version_with_its_files_and_tags(store: str, student: Path) -> None:
    logger = begun(store, student)
    logger.finalize("success")
    logger.register("student-cartpole-tiny", student, {"seed": 3, "fidelity.spearman_pooled": 0.97})
    client = MlflowClient(store)
    [version] = client.search_model_versions(f"run_id = '{logger.run_id}'")
    assert (version.name, int(version.version), version.status) == ("student-cartpole-tiny", 1, "READY")
    assert version.tags == {"seed": "3", "fidelity.spearman_pooled": "0.97"}
    kept = Path(client.get_model_version_download_uri(version.name, version.version).removeprefix("file://"))
    assert {path.name: path.read_text() for path in kept.iterdir()} == {
        name: f"content of {name}" for name in ("student.safetensors", "student.json", "more.safetensors")
    }
    assert client.get_run(logger.run_id).info.status == "FINISHED"


def test_another_run_is_another_version_and_the_same_run_is_none(store: str, student: Path) -> None:
    for number in (1, 2):
        logger = begun(store, student)
        for _ in range(2):
            logger.register("student-walker-tiny", student, {"fit": number})
    again = FitLogger(store, "students", "a fit", student)  # a finished fit whose command is given again
    again.register("student-walker-tiny", student, {"fit": 3})
    found = MlflowClient(store).search_model_versions("name = 'student-walker-tiny'")
    assert {(int(version.version), version.tags["fit"]) for version in found} == {(1, "1"), (2, "2")}


def test_a_fit_that_ended_before_it_was_registered_is_when_its_command_is_given_again(
    store: str, student: Path
) -> None:
    first = begun(store, student)
    first.finalize("success")
    again = FitLogger(store, "students", "a fit", student)
    again.register("student-late-tiny", student, {})
    [version] = MlflowClient(store).search_model_versions("name = 'student-late-tiny'")
    assert version.run_id == first.run_id
    assert MlflowClient(store).get_run(first.run_id).info.status == "FINISHED"


def test_a_callers_run_takes_the_version(store: str, student: Path) -> None:
    run_id = MlflowClient(store).create_run(begun(store, student).experiment_id).info.run_id
    begun(store, student, run_id).register("student-trial-tiny", student, {})
    [version] = MlflowClient(store).search_model_versions("name = 'student-trial-tiny'")
    assert version.run_id == run_id


def test_a_store_without_a_registry_is_a_warning(
    store: str, student: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "nowhere://registry")
    logger = begun(store, student)
    logger.register("student-cartpole-tiny", student, {})
    assert f"{student} is finished, and not registered" in caplog.text
    assert "Model Registry features are not supported by the store with URI: 'nowhere://registry'" in caplog.text


def test_a_file_is_kept_in_the_run_also_when_the_command_is_given_again(store: str, student: Path) -> None:
    first = begun(store, student)
    first.finalize("success")
    FitLogger(store, "students", "a fit", student).keep(student / "student.json")
    client = MlflowClient(store)
    assert [each.path for each in client.list_artifacts(first.run_id, "student")] == ["student/student.json"]
    assert len(client.search_runs([first.experiment_id], f"tags.student_folder = '{student}'")) == 1


def test_a_file_that_the_store_cannot_take_any_more_is_a_warning(
    student: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logger = begun(f"sqlite:///{tmp_path / 'mlflow.db'}", student)
    (tmp_path / "mlflow.db").write_text("no database")
    logger.keep(student / "student.json")
    assert f"{student / 'student.json'} is written, and not kept in sqlite:///" in caplog.text
