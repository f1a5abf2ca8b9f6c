"""Runs in MLflow: the one vocabulary of parameters, metrics and tags, and the only file that imports mlflow.

Metric names: `eval/...` are curves over agent steps, `final/...` the figures a table compares, `student/...` the
student's fidelity, `cost/...` seconds and teacher queries.
"""

import base64
import logging
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

# A server that is down must not hold a run up for a quarter of an hour (MLflow's default: 7 retries of 120 s).
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")

import mlflow
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from datamodules.differences import flatten
from datamodules.errors import SettingsError, StoppedError
from lightning_modules.tracking import local_artifacts
from sweeps.run_spool import Spool

logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)  # says at length that it makes tables

PARAMETER_CHARACTERS = 500
"""Longer values go into tags, which MLflow does not cut."""

LOST = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED")
"""codes of MLflow's errors where the store, and not the record, is to blame"""

STATUS_RUNNING, STATUS_FINISHED, STATUS_FAILED, STATUS_KILLED = "RUNNING", "FINISHED", "FAILED", "KILLED"


class Run:
    """One MLflow run, addressed by its id, without MLflow's global active run.

    Args:
        tracking_uri: store or server, as 'sqlite:///runs/mlflow.db' (its folder is made) or 'http://127.0.0.1:5000'.
        experiment: made when it does not exist; its artifacts lie beside an sqlite store, in `mlartifacts/`.
        name: the run's name in the table.
        run_id: go on with this run, as after a killed trial.
        parent: id of the run that a new one belongs to, in the same experiment.
        spool: a file for records that the store does not take while it cannot be reached; they are delivered later, or
            when the run is gone on with. Without it, a store that is lost is an error.

    Raises:
        SettingsError: the store cannot be reached now.
    """

    def __init__(
        self,
        tracking_uri: str,
        experiment: str,
        name: str,
        run_id: str | None = None,
        *,
        parent: str | None = None,
        spool: Path | None = None,
    ) -> None:
        try:
            artifacts = local_artifacts(tracking_uri, experiment)
            self._client = mlflow.MlflowClient(tracking_uri=tracking_uri)
            found = self._client.get_experiment_by_name(experiment)
            experiment_id = (
                found.experiment_id
                if found
                else self._client.create_experiment(experiment, artifact_location=artifacts)
            )
            if run_id is None:
                tags = {MLFLOW_PARENT_RUN_ID: parent} if parent else None
                run_id = self._client.create_run(experiment_id, run_name=name, tags=tags).info.run_id
            else:
                self._client.update_run(run_id, status=STATUS_RUNNING)
        except (MlflowException, OSError) as error:
            raise SettingsError(
                f"tracking.uri is {tracking_uri!r} and cannot be used ({error}): start that server, or use a local "
                "store as 'sqlite:///runs/mlflow.db'"
            ) from error
        self.tracking_uri = tracking_uri
        self.run_id: str = run_id
        self.experiment_id: str = experiment_id
        self._spool = Spool(spool, self._deliver, is_lost)
        self._spool.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        stopped = kind is not None and issubclass(kind, KeyboardInterrupt | StoppedError)
        status = STATUS_FINISHED if kind is None else STATUS_KILLED if stopped else STATUS_FAILED
        self._spool.send("end", status=status, time=_milliseconds())
        self._spool.flush()

    def log_settings(self, settings: Mapping[str, Any]) -> None:
        """Log nested settings as flat parameters (`sac.gamma`); long values as tags, whole."""
        flat = {key: str(value) for key, value in flatten(settings).items()}
        short = {key: value for key, value in flat.items() if len(value) <= PARAMETER_CHARACTERS}
        self._spool.send("parameters", values=short)
        self.set_tags({key: value for key, value in flat.items() if key not in short})

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Set tags; the tag `mlflow.note.content` is the run's description in the UI."""
        for key, value in tags.items():
            self._spool.send("tag", key=key, value=str(value))

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Log metrics at one step; seconds in wall time are kept by MLflow."""
        self._spool.send("metrics", values={k: float(v) for k, v in metrics.items()}, time=_milliseconds(), step=step)

    def log_file(self, path: Path, folder: str = "") -> None:
        """Keep a file as an artifact."""
        self._spool.send("file", path=str(path), folder=folder)

    def log_image(self, name: str, png: bytes) -> None:
        """Keep a PNG figure as an artifact under `figures/`."""
        self._spool.send("image", name=name, png=base64.b64encode(png).decode())

    def _deliver(self, call: str, record: dict[str, Any]) -> None:
        """One record, as `Spool` keeps it, to the store."""
        client, run_id = self._client, self.run_id
        match call:
            case "metrics":
                at, step = record["time"], record["step"]
                client.log_batch(run_id, metrics=[Metric(k, v, at, step) for k, v in record["values"].items()])
            case "parameters":
                client.log_batch(run_id, params=[Param(k, v) for k, v in record["values"].items()])
            case "tag":
                client.set_tag(run_id, record["key"], record["value"])
            case "file":
                client.log_artifact(run_id, record["path"], record["folder"] or None)
            case "image":
                with tempfile.TemporaryDirectory() as folder:
                    path = Path(folder) / f"{record['name']}.png"
                    path.write_bytes(base64.b64decode(record["png"]))
                    client.log_artifact(run_id, str(path), "figures")
            case "end":
                client.set_terminated(run_id, status=record["status"], end_time=record["time"])


def end_run(tracking_uri: str, run_id: str, status: str) -> None:
    """End a run whose own process could not, unless it has ended."""
    client = mlflow.MlflowClient(tracking_uri=tracking_uri)
    if client.get_run(run_id).info.status == STATUS_RUNNING:
        client.set_terminated(run_id, status=status)


def is_lost(error: Exception) -> bool:
    """Whether a store cannot be reached or is too busy, and may be there again later."""
    if isinstance(error, MlflowException):
        return error.error_code in LOST
    return isinstance(error, OSError) and not isinstance(error, FileNotFoundError)


def _milliseconds() -> int:
    return int(time.time() * 1000)
