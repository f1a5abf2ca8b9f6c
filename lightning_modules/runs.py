"""Runs in MLflow: the one vocabulary of parameters, metrics and tags.

Metric names: `eval/...` are curves over agent steps, `final/...` the figures a table compares, `student/...` the
student's fidelity, `cost/...` seconds and teacher queries, `system/...` how busy the machine is.
"""

import base64
import io
import json
import logging
import os
import platform
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

# A server that is down must not hold a run up for a quarter of an hour (MLflow's default: 7 retries of 120 s), and one
# that is slow must not be asked for a new run again without a look: it would make two. The spool looks and tries again.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")

import mlflow
import numpy as np
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types.schema import Schema, TensorSpec
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT, MLFLOW_PARENT_RUN_ID
from PIL import Image

from datamodules.differences import flatten
from datamodules.errors import SettingsError, StoppedError
from datamodules.manifest import Manifest
from datamodules.storage import is_address
from lightning_modules.run_spool import Spool
from lightning_modules.system_metrics import SystemMetrics

logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)  # says at length that it makes tables
logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # the spool tells of an outage, once
log = logging.getLogger(__name__)

PARAMETER_CHARACTERS = 500
"""Longer values go into tags, which MLflow does not cut."""

TOKEN = "begin_token"
"""tag by which a run is found again whose making was not answered in time"""
ALREADY_THERE, REFUSED = "RESOURCE_ALREADY_EXISTS", "INVALID_PARAMETER_VALUE"
"""codes of MLflow's errors"""
LOST = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED")
"""codes of MLflow's errors where the store, and not the record, is to blame"""

DIGEST_CHARACTERS = 36
"""as many as MLflow's database has room for"""
VIEW = "sweep"
"""name of the view that an address of MLflow's table asks for, as `?viewStateShareKey=sweep`"""
SHOWN = (
    "final/score",
    "final/true_return",
    "final/student_spearman_within_episode",
    "cost/total_seconds",
    "cost/teacher_queries",
)
"""metrics that the view has a column for"""
LOADER = "lightning_modules.served_student"
"""the module by which MLflow loads a student: it needs this package, and nothing in the registry is executable"""

STATUS_RUNNING, STATUS_FINISHED, STATUS_FAILED, STATUS_KILLED = "RUNNING", "FINISHED", "FAILED", "KILLED"


class Run:
    """One MLflow run, addressed by its id, without MLflow's global active run.

    `with` begins and ends it; without that, records are added to a run that exists.

    Args:
        tracking_uri: store or server, as 'sqlite:///runs/mlflow.db' (its folder is made) or 'http://127.0.0.1:5000'.
        experiment: made when it does not exist; its artifacts lie beside an sqlite store, in `mlartifacts/`.
        name: the run's name in the table.
        run_id: go on with this run, as after a killed trial.
        parent: id of the run that a new one belongs to, in the same experiment.
        spool: a file for records that the store does not take while it cannot be reached; they are delivered later, or
            when the run is gone on with. Without it, a store that is lost is an error.
        on_begin: called with the run's id when the store has made it, which may be long after `begin`.

    Raises:
        SettingsError: there is no such kind of store.
    """

    run_id: str | None
    """None while the server has not been reached yet"""
    experiment_id: str | None = None
    """known once the run was begun"""

    def __init__(
        self,
        tracking_uri: str,
        experiment: str,
        name: str,
        run_id: str | None = None,
        *,
        parent: str | None = None,
        spool: Path | None = None,
        on_begin: Callable[[str], None] = lambda run_id: None,
    ) -> None:
        self.tracking_uri, self.run_id = tracking_uri, run_id
        self._experiment, self._name, self._parent, self._on_begin = experiment, name, parent, on_begin
        try:
            self._artifacts = local_artifacts(tracking_uri, experiment)
            self._client = mlflow.MlflowClient(tracking_uri=tracking_uri)
        except Exception as error:
            raise self._unusable(error) from error
        self._spool = Spool(spool, self._deliver, self._may_return)
        self._begun = False
        self._began_at: int | None = None  # milliseconds since 1970
        self._system: SystemMetrics | None = None

    def begin(self) -> None:
        """Make the run, or go on with it, and watch the machine; a server that is away is left for later with a spool.

        Raises:
            SettingsError: the store cannot be used, or does not answer and there is no spool.
        """
        self._spool.send("begin", time=_milliseconds(), token=uuid4().hex)
        self._begun = True
        if self._system is None:
            self._system = SystemMetrics(self._log_system)

    def end(self, status: str) -> None:
        """End the run."""
        if self._system is not None:
            self._system.stop()
            self._system = None
        self._spool.send("end", status=status, time=_milliseconds())
        self.deliver()

    def deliver(self) -> Path | None:
        """Try to deliver what waits; returns the file that it waits in, if it still does."""
        return self._spool.flush()

    def __enter__(self) -> Self:
        self.begin()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        stopped = kind is not None and issubclass(kind, KeyboardInterrupt | StoppedError)
        self.end(STATUS_FINISHED if kind is None else STATUS_KILLED if stopped else STATUS_FAILED)

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

    def log_image(self, name: str, png: bytes, step: int | None = None) -> None:
        """Keep a PNG figure as an artifact under `figures/`; of a series that MLflow shows step by step with a step."""
        content = base64.b64encode(png).decode()
        if step is None:
            self._spool.send("image", name=name, png=content)
        else:
            self._spool.send("image_at_step", name=name, png=content, step=step, time=_milliseconds())

    def log_data(self, place: str, manifest: Manifest) -> None:
        """Name a labelled data set as the run's input, once however often it is named."""
        about = {"samples": manifest.samples, "digest": manifest.digest, "teacher_queries": manifest.teacher_queries}
        if manifest.teacher is not None:
            about["teacher"] = manifest.teacher.name
        digest = manifest.digest[:DIGEST_CHARACTERS]
        self._spool.send("data", place=place, name=manifest.task.name, digest=digest, profile=about)

    def log_student(self, name: str, folder: Path, place: str, pixels: int, tags: Mapping[str, Any]) -> None:
        """Keep a student's files and make them the next version of a registered model, once for each run.

        `mlflow.pyfunc.load_model("models:/NAME/1").predict(frames)` is then the student's reward. A store that has no
        registry is a warning, for the student is none the worse for it.

        Args:
            name: of the registered model, made when it does not exist.
            folder: the finished student; the files in it are kept, and not those in folders of it (checkpoints).
            place: where in the run's artifacts they go.
            pixels: side of the frames that it takes.
            tags: what the version says about itself.
        """
        said = {key: str(value) for key, value in tags.items()}
        self._spool.send("student", name=name, folder=str(folder), place=place, pixels=pixels, tags=said)

    def share_view(self, varied: Sequence[str]) -> None:
        """Make the view VIEW of the experiment's table: grouped by these parameters, and the columns that count.

        It is what the button "Share" of MLflow's page makes.
        """
        columns = [f"params.`{name}`" for name in varied] + [f"metrics.`{name}`" for name in SHOWN]
        keys = [{"mode": "param", "groupByData": name} for name in varied]
        groups = {"aggregateFunction": "average", "groupByKeys": keys} if varied else None
        self._spool.send("view", value=json.dumps({"selectedColumns": columns, "groupBy": groups}))

    def _log_system(self, sample: Mapping[str, float]) -> None:
        self._spool.send("system", values=sample, time=_milliseconds())

    def _deliver(self, call: str, record: dict[str, Any]) -> None:
        """One record, as `Spool` keeps it, to the store."""
        if call == "begin":
            self._deliver_begin(record["time"], record.get("token", ""))
            return
        client, run_id = self._client, self.run_id
        assert run_id is not None, "the record of its begin is delivered before all others"
        match call:
            case "metrics" | "system":
                at = record["time"]
                step = record["step"] if call == "metrics" else (at - self._start_of(run_id)) // 1000
                client.log_batch(run_id, metrics=[Metric(k, v, at, step) for k, v in record["values"].items()])
            case "parameters":
                self._deliver_parameters(run_id, record["values"])
            case "tag":
                client.set_tag(run_id, record["key"], record["value"])
            case "file":
                client.log_artifact(run_id, record["path"], record["folder"] or None)
            case "image":
                with tempfile.TemporaryDirectory() as folder:
                    path = Path(folder) / f"{record['name']}.png"
                    path.write_bytes(base64.b64decode(record["png"]))
                    client.log_artifact(run_id, str(path), "figures")
            case "image_at_step":
                with Image.open(io.BytesIO(base64.b64decode(record["png"]))) as image:
                    image.load()
                client.log_image(
                    run_id, image, key=record["name"], step=record["step"], timestamp=record["time"], synchronous=True
                )
            case "data":
                kind, source = (
                    "fsspec" if is_address(record["place"]) else "local",
                    json.dumps({"uri": record["place"]}),
                )
                profile = json.dumps(record["profile"])
                data = Dataset(record["name"], record["digest"], kind, source, profile=profile)
                client.log_inputs(run_id, [DatasetInput(data, [InputTag(MLFLOW_DATASET_CONTEXT, "labels")])])
            case "view":
                experiment_id = client.get_run(run_id).info.experiment_id
                client.set_experiment_tag(experiment_id, f"mlflow.sharedViewState.{VIEW}", record["value"])
            case "student":
                self._deliver_student(run_id, record)
            case "end":
                client.set_terminated(run_id, status=record["status"], end_time=record["time"])

    def _deliver_begin(self, at: int, token: str) -> None:
        client = self._client
        try:
            self.experiment_id = self._find_experiment()
            if self.run_id is not None:
                client.update_run(self.run_id, status=STATUS_RUNNING)
                return
            # a server that was too slow may have made the run after we gave up waiting
            found = client.search_runs([self.experiment_id], f"tags.`{TOKEN}` = '{token}'", max_results=1)
            if found:
                made = found[0]
            else:
                tags = {TOKEN: token, **({MLFLOW_PARENT_RUN_ID: self._parent} if self._parent else {})}
                made = client.create_run(self.experiment_id, start_time=at, run_name=self._name, tags=tags)
        except Exception as error:
            if self._may_return(error):
                raise
            raise self._unusable(error) from error
        self.run_id = made.info.run_id
        self._on_begin(made.info.run_id)

    def _find_experiment(self) -> str:
        """The experiment's id; it is made when it does not exist."""
        found = self._client.get_experiment_by_name(self._experiment)
        if found:
            return str(found.experiment_id)
        try:
            return str(self._client.create_experiment(self._experiment, artifact_location=self._artifacts))
        except MlflowException as error:
            if error.error_code != ALREADY_THERE:
                raise
            return self._find_experiment()  # another trial made it in between

    def _deliver_parameters(self, run_id: str, values: Mapping[str, str]) -> None:
        """MLflow never changes a parameter: of a run that goes on with other settings, those become tags."""
        try:
            self._client.log_batch(run_id, params=[Param(key, value) for key, value in values.items()])
        except MlflowException as error:
            if error.error_code != REFUSED:
                raise
            known = self._client.get_run(run_id).data.params
            changed = {key: value for key, value in values.items() if known.get(key, value) != value}
            if not changed:
                raise
            new = [Param(key, value) for key, value in values.items() if key not in known]
            self._client.log_batch(run_id, params=new, tags=[RunTag(key, value) for key, value in changed.items()])

    def _start_of(self, run_id: str) -> int:
        """When the run was first begun, in milliseconds since 1970, however often it was gone on with."""
        if self._began_at is None:
            self._began_at = int(self._client.get_run(run_id).info.start_time)
        return self._began_at

    def _deliver_student(self, run_id: str, record: dict[str, Any]) -> None:
        client, name, folder, place = self._client, record["name"], Path(record["folder"]), record["place"]
        try:
            if client.search_model_versions(f"run_id = '{run_id}'"):
                return
            for path in sorted(folder.iterdir()):
                if path.is_file() and not path.name.startswith("mlflow."):  # records that wait, and whose run this is
                    client.log_artifact(run_id, str(path), place)
            with tempfile.TemporaryDirectory() as made:
                model = Model(run_id=run_id, signature=signature_of(record["pixels"]))
                flavor = {"loader_module": LOADER, "python_version": platform.python_version(), "data": "."}
                model.add_flavor("python_function", **flavor, config={"task": None})
                model.save(f"{made}/MLmodel")
                client.log_artifact(run_id, f"{made}/MLmodel", place)
            source = f"{client.get_run(run_id).info.artifact_uri}/{place}"
            with suppress(MlflowException):  # it is there, made by another fit perhaps; if not, the next line says so
                client.create_registered_model(name)
            client.create_model_version(name, source, run_id, record["tags"])
        except Exception as error:
            if self._may_return(error):
                raise
            log.warning(
                f"{folder} is finished, and not registered in {self.tracking_uri} ({_reason(error)}): give the same "
                "command again once that store has a model registry"
            )

    def _may_return(self, error: Exception) -> bool:
        """Whether the record can wait: a local store that cannot even be opened at the start will not come back."""
        return self._spool.keeps and is_lost(error) and (self._begun or self.tracking_uri.startswith("http"))

    def _unusable(self, error: Exception) -> SettingsError:
        return SettingsError(
            f"the MLflow store {self.tracking_uri!r} cannot be used ({_reason(error)}): start that server, or use a "
            "local store as 'sqlite:///runs/mlflow.db'"
        )


def signature_of(pixels: int) -> ModelSignature:
    """What a student takes and gives: frames uint8 (N, P, P, 3), rewards float32 (N,)."""
    frames = TensorSpec(np.dtype(np.uint8), (-1, pixels, pixels, 3))
    return ModelSignature(Schema([frames]), Schema([TensorSpec(np.dtype(np.float32), (-1,))]))


def end_run(tracking_uri: str, run_id: str, status: str) -> None:
    """End a run whose own process could not, unless it has ended; a store that is lost is a warning."""
    client = mlflow.MlflowClient(tracking_uri=tracking_uri)
    try:
        if client.get_run(run_id).info.status == STATUS_RUNNING:
            client.set_terminated(run_id, status=status)
    except Exception as error:
        if not is_lost(error):
            raise
        log.warning(
            f"run {run_id} in {tracking_uri} is not ended there ({_reason(error)}); it looks as if it still ran"
        )


def is_lost(error: Exception) -> bool:
    """Whether a store cannot be reached or is too busy, and may be there again later."""
    if isinstance(error, MlflowException):
        return error.error_code in LOST
    return isinstance(error, OSError) and not isinstance(error, FileNotFoundError)


def local_artifacts(tracking_uri: str, experiment: str) -> str | None:
    """Make the folder of an sqlite store; return where the experiment's files belong (None: the server decides)."""
    scheme, separator, path = tracking_uri.partition(":///")
    if scheme != "sqlite" or not separator:
        return None
    folder = Path(path).resolve().parent
    folder.mkdir(parents=True, exist_ok=True)
    return (folder / "mlartifacts" / experiment).as_uri()


def _reason(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _milliseconds() -> int:
    return int(time.time() * 1000)
