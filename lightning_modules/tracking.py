"""A fit in MLflow: Lightning's logger, with the few things it gets wrong for us put right."""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import MLFlowLogger

from datamodules.errors import SettingsError
from datamodules.tasks import Prompts

PARAMETER_CHARACTERS = 250
"""Lightning's logger cuts longer parameters silently; they become tags instead."""
FOLDER_TAG = "student_folder"
FILES = "student"
"""where in a run's artifacts the files of its fit lie"""
log = logging.getLogger(__name__)


class FitLogger(MLFlowLogger):
    """Logs a fit as a run of its own, or into a run that somebody else began and will end."""

    def __init__(self, tracking_uri: str, experiment: str, name: str, folder: Path, run_id: str | None = None) -> None:
        """Address a run; nothing is written before the first log.

        Args:
            tracking_uri: an MLflow store or server, as 'sqlite:///runs/mlflow.db' (its folder is made).
            experiment: made when it does not exist; its artifacts lie beside an sqlite store, in `mlartifacts/`.
            name: the run's name in the table.
            folder: the student's folder; with its tag a fit that was stopped finds its run again.
            run_id: log into this run of a caller's, and leave ending it to the caller.

        Raises:
            SettingsError: the store cannot be used.
        """
        # MLflow tells of every table it creates; it sets its level when the next line imports it
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
        with _store_errors(tracking_uri):
            super().__init__(
                experiment_name=experiment,
                run_name=name,
                tracking_uri=tracking_uri,
                tags={FOLDER_TAG: str(folder.resolve())},
                artifact_location=local_artifacts(tracking_uri, experiment),
                run_id=run_id,
            )
        self._ends_run = run_id is None
        self._warned = False

    def begin(self, resumed: bool) -> None:
        """Open the run; a resumed fit goes on with the latest run of its folder, where the store has one.

        Raises SettingsError when the store cannot be used.
        """
        with _store_errors(self._tracking_uri):
            if resumed and self._run_id is None:
                self._run_id = self._earlier_run()
                if self._run_id is not None:
                    self._mlflow_client.update_run(self._run_id, status="RUNNING")
            _ = self.experiment  # Lightning makes or finds the run when it is asked for its client

    def _earlier_run(self) -> str | None:
        found = self._mlflow_client.get_experiment_by_name(self._experiment_name)
        if found is None:
            return None
        mine = f'tags.{FOLDER_TAG} = "{(self.tags or {})[FOLDER_TAG]}"'
        runs = self._mlflow_client.search_runs([found.experiment_id], mine, order_by=["start_time DESC"], max_results=1)
        return runs[0].info.run_id if runs else None

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """A point of the fit's curves, which the student's folder holds as well: a lost store is a warning, once."""
        try:
            super().log_metrics(metrics, step)
        except Exception as error:  # as in `register`
            if not self._warned:
                log.warning(f"the fit's curves are not kept in {self._tracking_uri} ({str(error).splitlines()[0]})")
            self._warned = True

    def log_fit(self, settings: Mapping[str, Any], prompts: Mapping[str, Prompts], config: Path) -> None:
        """Log what is to be fitted: settings as parameters, each task's prompts as tags, the configuration file."""
        flat = {f"student.{name}": value for name, value in settings.items() if value is not None}
        whole = {name: value for name, value in flat.items() if len(str(value)) > PARAMETER_CHARACTERS}
        self.log_hyperparams({name: value for name, value in flat.items() if name not in whole})
        for name, value in {**whole, **prompt_tags(prompts)}.items():
            self.experiment.set_tag(self.run_id, name, value)
        self.experiment.log_artifact(self.run_id, str(config), FILES)

    def register(self, name: str, folder: Path, tags: Mapping[str, Any]) -> None:
        """Keep the student's files in its run and make them the next version of a registered model, once for each run.

        A store that has no registry or cannot be reached any more is a warning, for the student is none the worse for
        it; giving the fit's command again makes up for it.

        Args:
            name: of the registered model, made when it does not exist.
            folder: the finished student; the files in it are kept, and not those in folders of it (checkpoints).
            tags: what the version says about itself.
        """
        try:
            run_id = self._run_id or self._earlier_run()
            if run_id is None or self._mlflow_client.search_model_versions(f"run_id = '{run_id}'"):
                return
            for path in sorted(path for path in folder.iterdir() if path.is_file()):
                self._mlflow_client.log_artifact(run_id, str(path), FILES)
            source = f"{self._mlflow_client.get_run(run_id).info.artifact_uri}/{FILES}"
            with suppress(Exception):  # it is there, made by another fit perhaps; if not, the next line says so
                self._mlflow_client.create_registered_model(name)
            self._mlflow_client.create_model_version(name, source, run_id, {key: str(tags[key]) for key in tags})
        except Exception as error:  # of MLflow, its database driver or its HTTP client
            reason = (str(error) or type(error).__name__).splitlines()[0]
            log.warning(
                f"{folder} is finished, and not registered in {self._tracking_uri} ({reason}): give the same command "
                "again once that store has a model registry"
            )

    def keep(self, path: Path) -> None:
        """Keep a file in the student's run, where it has one; a store that cannot be reached any more is a warning."""
        try:
            if (run_id := self._run_id or self._earlier_run()) is not None:
                self._mlflow_client.log_artifact(run_id, str(path), FILES)
        except Exception as error:  # as in `register`
            log.warning(f"{path} is written, and not kept in {self._tracking_uri} ({str(error).splitlines()[0]})")

    def finalize(self, status: str = "success") -> None:
        """End the run, unless it is a caller's."""
        if self._ends_run:
            super().finalize(status)


def prompt_tags(prompts: Mapping[str, Prompts]) -> dict[str, Any]:
    """Prompts by task as tags: `prompts.goal` and so on of a single task, `prompts.TASK.goal` of several."""
    return {
        f"prompts.{field}" if len(prompts) == 1 else f"prompts.{task}.{field}": value
        for task, own in prompts.items()
        for field, value in (("goal", list(own.goal)), ("baseline", list(own.baseline)), ("alpha", own.alpha))
    }


@contextmanager
def _store_errors(tracking_uri: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # MLflow, its database driver and its HTTP client raise their own each
        reason = str(error).splitlines()[0]
        raise SettingsError(
            f"tracking_uri is {tracking_uri!r} and cannot be used ({reason}): start that server, use a local store as "
            "'sqlite:///runs/mlflow.db', or log nothing with null"
        ) from error


def local_artifacts(tracking_uri: str, experiment: str) -> str | None:
    """Make the folder of an sqlite store; return where the experiment's files belong (None: the server decides)."""
    scheme, separator, path = tracking_uri.partition(":///")
    if scheme != "sqlite" or not separator:
        return None
    folder = Path(path).resolve().parent
    folder.mkdir(parents=True, exist_ok=True)
    return (folder / "mlartifacts" / experiment).as_uri()
