"""Runs against a real sqlite store, read back with MLflow's own client."""

from pathlib import Path

import mlflow
import pytest

from datamodules.errors import SettingsError
from sweeps.runs import PARAMETER_CHARACTERS, Run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def store(folder: Path) -> str:  # making an sqlite store takes seconds, so the tests share one
    return f"sqlite:///{folder}/mlflow.db"


def test_a_run_holds_its_curve_parameters_and_files(store: str, folder: Path, tmp_path: Path) -> None:
    figure = tmp_path / "note.txt"
    figure.write_text("kept")
    with Run(store, "curves", "first") as run:
        run.log_settings({"sac": {"gamma": 0.99}})
        run.log_metrics({"eval/true_return": 10.0}, step=0)
        run.log_metrics({"eval/true_return": 500.0}, step=1000)
        run.log_file(figure, "notes")
        run.log_image("curve", b"png bytes")
    client = mlflow.MlflowClient(tracking_uri=store)
    read = client.get_run(run.run_id)
    assert read.info.status == "FINISHED"
    assert read.info.run_name == "first"
    assert read.data.params == {"sac.gamma": "0.99"}
    history = client.get_metric_history(run.run_id, "eval/true_return")
    assert [(point.step, point.value) for point in history] == [(0, 10.0), (1000, 500.0)]
    assert (folder / "mlartifacts/curves" / run.run_id / "artifacts/notes/note.txt").read_text() == "kept"
    assert (folder / "mlartifacts/curves" / run.run_id / "artifacts/figures/curve.png").exists()


def test_a_long_value_is_kept_whole_as_a_tag(store: str) -> None:
    prompt = "a pole " * PARAMETER_CHARACTERS
    with Run(store, "question", "long") as run:
        run.log_settings({"prompts.goal": prompt, "seed": 3})
    data = mlflow.MlflowClient(tracking_uri=store).get_run(run.run_id).data
    assert data.tags["prompts.goal"] == prompt
    assert data.params == {"seed": "3"}


def test_going_on_with_a_run_makes_no_second_one(store: str) -> None:
    with pytest.raises(RuntimeError, match="stopped"), Run(store, "resumed", "resumed") as run:
        raise RuntimeError("stopped")
    client = mlflow.MlflowClient(tracking_uri=store)
    assert client.get_run(run.run_id).info.status == "FAILED"
    with Run(store, "resumed", "resumed", run_id=run.run_id) as again:
        assert client.get_run(run.run_id).info.status == "RUNNING"
    assert again.run_id == run.run_id
    assert len(client.search_runs([run.experiment_id])) == 1


def test_a_server_that_does_not_answer_is_named() -> None:
    with pytest.raises(SettingsError, match=r"http://127\.0\.0\.1:9'.*local store"):
        Run("http://127.0.0.1:9", "question", "lost")
