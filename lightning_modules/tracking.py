"""A fit in MLflow: a Lightning logger that records into a `Run`, whose records wait while a server is away."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_fabric.utilities.rank_zero import rank_zero_only
from pytorch_lightning.loggers.logger import Logger

from datamodules.manifest import Manifest
from datamodules.results import read_json, write_json
from datamodules.tasks import Prompts
from lightning_modules.run_spool import SPOOL

if TYPE_CHECKING:
    from lightning_modules.runs import Run

FOLDER_TAG = "student_folder"
FILES = "student"
"""where in a run's artifacts the files of its fit lie"""
RUN = "mlflow.json"
"""in the student's folder: the run of its fit, which a fit that was stopped goes on with"""
log = logging.getLogger(__name__)


class FitLogger(Logger):
    """Logs a fit into a run that somebody else begins and ends."""

    def __init__(self, run: "Run | None") -> None:
        """Log into this run, or nothing."""
        super().__init__()
        self._run = run
        self._warned = False

    @property
    def name(self) -> str | None:
        """None: Lightning would name folders after it."""
        return None

    @property
    def version(self) -> str | None:
        """None, likewise."""
        return None

    def begin(self, resumed: bool) -> None:
        """Open the run."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """A point of the fit's curves."""
        if self._run is not None:
            with self._no_harm():
                self._run.log_metrics(metrics, step or 0)

    @rank_zero_only
    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """Nothing: `log_fit` logs what counts."""

    def log_fit(
        self,
        settings: Mapping[str, Any],
        prompts: Mapping[str, Prompts],
        config: Path,
        data: Iterable[tuple[str, Manifest]],
    ) -> None:
        """Log what is to be fitted.

        Args:
            settings: flat; parameters of the run.
            prompts: of each task; tags, which are not cut.
            config: the configuration file, which is kept.
            data: place and manifest of each labelled data set; inputs of the run.
        """
        if self._run is None:
            return
        self._run.log_settings({f"student.{name}": value for name, value in settings.items() if value is not None})
        self._run.set_tags(prompt_tags(prompts))
        self._run.log_file(config, FILES)
        for place, manifest in data:
            self._run.log_data(place, manifest)

    def register(self, name: str, folder: Path, pixels: int, tags: Mapping[str, Any]) -> None:
        """Keep the student's files in its run, and make it the next version of a model; `Run.log_student` says how."""
        if self._run is not None:
            self._run.log_student(name, folder, FILES, pixels, tags)

    def keep(self, path: Path) -> None:
        """Keep a file of the student's in its run."""
        if self._run is not None:
            with self._no_harm():
                self._run.log_file(path, FILES)

    @contextmanager
    def _no_harm(self) -> Iterator[None]:
        """Make a record that the store refuses a warning, once: the student's folder holds the same."""
        try:
            yield
        except Exception as error:  # of MLflow, its database driver or its HTTP client
            if not self._warned:
                log.warning(f"MLflow does not take all records of this fit ({str(error).splitlines()[0]})")
            self._warned = True


class OwnRunLogger(FitLogger):
    """Logs a fit as a run of its own."""

    def __init__(self, tracking_uri: str, experiment: str, name: str, folder: Path) -> None:
        """Address the run of the fit in `folder`, where it has one; nothing is written before the first log.

        Args:
            tracking_uri: an MLflow store or server.
            experiment: made when it does not exist.
            name: the run's name in the table.
            folder: the student's folder, in which records wait for a server that is away.

        Raises:
            SettingsError: there is no such kind of store.
        """
        self._folder, self._names = folder, (tracking_uri, experiment, name)
        before = read_json(folder / RUN) if (folder / RUN).exists() else {}
        run_id = before.get("run_id") if before.get("tracking_uri") == tracking_uri else None
        super().__init__(self._address(run_id) if run_id or (folder / SPOOL).exists() else None)

    def begin(self, resumed: bool) -> None:
        """Begin a run; a resumed fit goes on with that of its folder, where it has one.

        Raises:
            SettingsError: the store cannot be used. A server that does not answer is only waited for.
        """
        if not resumed:
            (self._folder / SPOOL).unlink(missing_ok=True)
        if not resumed or self._run is None:
            self._run = self._address(None)
        self._run.begin()
        self._run.set_tags({FOLDER_TAG: self._folder.resolve()})

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """End the run."""
        if self._run is not None:
            self._run.end("FINISHED" if status == "success" else "FAILED")

    def _address(self, run_id: str | None) -> "Run":
        from lightning_modules.runs import Run  # mlflow takes seconds to load

        return Run(*self._names, run_id, spool=self._folder / SPOOL, on_begin=self._remember)

    def _remember(self, run_id: str) -> None:
        write_json(self._folder / RUN, {"tracking_uri": self._names[0], "run_id": run_id})


def prompt_tags(prompts: Mapping[str, Prompts]) -> dict[str, Any]:
    """Prompts by task as tags: `prompts.goal` and so on of a single task, `prompts.TASK.goal` of several."""
    return {
        f"prompts.{field}" if len(prompts) == 1 else f"prompts.{task}.{field}": value
        for task, own in prompts.items()
        for field, value in (("goal", list(own.goal)), ("baseline", list(own.baseline)), ("alpha", own.alpha))
    }
