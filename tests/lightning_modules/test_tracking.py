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
