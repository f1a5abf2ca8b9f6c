"""Fitting as a LightningCLI command: parse, check everything cheap, fit or go on, test on held-out episodes, export."""

import json
import signal
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from jsonargparse import ArgumentError
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import EarlyStopping
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI

from datamodules.differences import first_difference, flatten
from datamodules.errors import DataError, SettingsError, SuiteError
from datamodules.frames_datamodule import FramesDataModule
from datamodules.progress import Report, silent
from datamodules.results import read_json, write_atomically, write_json
from datamodules.storage import is_address
from datamodules.tasks import Prompts
from datamodules.whole_files import remove_partial_files
from lightning_modules.fit_callbacks import FitProgress, OnEpoch, quiet_lightning
from lightning_modules.fit_checkpoints import (
    TrainingEnd,
    best_checkpoint,
    checkpoint_path,
    last_checkpoint,
    with_whole_checkpoints,
)
from lightning_modules.fit_export import RESULT, FitResult, export_student, read_fit
from lightning_modules.student_files import CARD
from lightning_modules.student_module import MONITOR, StudentModule
from lightning_modules.tracking import FitLogger, OwnRunLogger, prompt_tags

if TYPE_CHECKING:
    from lightning_modules.runs import Run

SETTINGS, CONFIG, CHECKPOINTS = "fit.json", "config.yaml", "checkpoints"
PLACES = {"config", "out", "tracking_uri", "experiment", "data.labels", "data.cache", "data.num_workers"}
"""settings that say where things are; a fit is the same fit when only they differ"""
LOGGED = ("model.", "data.", "seed_everything", "labels", "trainer.max_epochs")
"""settings worth a column in MLflow's table; config.yaml, logged as a file, holds all"""
SILENT = nullcontext(silent)


class FitParser(LightningArgumentParser):
    """A parser whose errors are this suite's."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise the SuiteError behind `ex`, or a new one with the message."""
        if not self.exit_on_error:  # jsonargparse asks a question of its own and handles the answer
            raise ArgumentError(None, message) from ex
        cause: BaseException | None = ex
        while cause is not None:
            if isinstance(cause, SuiteError):
                raise cause
            cause = cause.__cause__
        raise SettingsError(f"{message}\nall options: python -m scripts.fit_student fit --help") from ex


class FitCLI(LightningCLI):
    """`fit`: parse, check, fit, test on held-out episodes, export; done when the constructor returns."""

    result: FitResult
    """in the first process of a distributed fit"""

    def __init__(
        self,
        arguments: Sequence[str],
        progress: AbstractContextManager[Report],
        run: "Run | None" = None,
        reading: AbstractContextManager[Report] = SILENT,
        on_epoch: OnEpoch | None = None,
    ) -> None:
        """Run the command line `arguments`, as ['fit', '--config=...'], showing its progress.

        Args:
            arguments: what a shell would pass.
            progress: entered when the fit begins.
            run: an MLflow run of the caller's, in place of one of its own in the store `--tracking_uri`.
            reading: entered before that, where labels are read first.
            on_epoch: called after each epoch, as `fit_student` says.
        """
        self._progress, self._run, self._reading = progress, run, reading
        self._logger: FitLogger | None = None
        self._clock = FitProgress(on_epoch)
        with quiet_lightning():
            super().__init__(
                StudentModule,
                FramesDataModule,
                save_config_callback=None,  # it needs a log_dir, which MLFlowLogger has not (`fit` writes the file)
                trainer_defaults={
                    "devices": 1,  # auto would take every GPU, and run the caller's command once more for each
                    "num_sanity_val_steps": 0,
                    "enable_model_summary": False,
                    "enable_progress_bar": False,
                },
                seed_everything_default=0,
                parser_class=FitParser,
                args=list(arguments),
                auto_configure_optimizers=False,
                load_from_checkpoint_support=False,
            )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """`fit` alone; where to go on from is found in the folder."""
        return {"fit": {*LightningCLI.subcommands()["fit"], "ckpt_path", "weights_only"}}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """What a fit needs beside model, data and trainer."""
        parser.add_argument(
            "--out", type=Path | None, help="the student folder; `student` beside the labels unless given"
        )
        parser.add_argument(
            "--tracking_uri",
            type=str | None,
            default="sqlite:///runs/mlflow.db",
            help="an MLflow store or server; null: no MLflow",
        )
        parser.add_argument("--experiment", type=str, default="students", help="the MLflow experiment")
        parser.add_lightning_class_args(EarlyStopping, "early_stopping")
        parser.set_defaults({"early_stopping.monitor": MONITOR, "early_stopping.patience": 5})
        parser.link_arguments("seed_everything", "data.seed", compute_fn=int)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Without Lightning's warning that this process has arguments of its own."""
        self.config = parser.parse_args(args)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The trainer, with this fit's checkpoints and logger; all that can be wrong is found out before."""
        data: FramesDataModule = self.datamodule
        self.model.build(data)
        self.out = self._get(self.config, "out") or _beside(data.labels[0])
        self._check_folder()
        configured = self._get(self.config_init, "trainer")
        self._logger = self._make_logger()
        checkpoints = self.out / CHECKPOINTS
        return super().instantiate_trainer(
            **kwargs,
            callbacks=[
                *(configured["callbacks"] or []),
                self._clock,
                best_checkpoint(checkpoints, MONITOR),
                last_checkpoint(checkpoints),
            ],
            logger=self._logger or configured["logger"] or False,
            plugins=with_whole_checkpoints(configured["plugins"]),
        )

    def fit(self, model: StudentModule, datamodule: FramesDataModule) -> None:
        """Fit from scratch or from the last epoch, test the best epoch, export; what is done is not done again."""
        if (done := read_fit(self.out)) is not None:
            self.result = done
            self._register()
            return
        checkpoints = self.out / CHECKPOINTS
        last, best = (checkpoint_path(checkpoints, name) for name in ("last", "best"))
        end = TrainingEnd.read(checkpoints)
        settings = self._settings()
        first = self.trainer.is_global_zero
        if first:
            for checkpoint in (last, best):
                remove_partial_files(checkpoint)  # of a fit that was killed
            self._begin(settings, resumed=last.exists())
        if first and not datamodule.prepared:
            with self._reading as report:
                datamodule.prepare_data(report)
        with self._progress if first else SILENT as self._clock.report, _interrupts():
            if end is None:
                resumed = last if last.exists() else None
                self.trainer.fit(model, datamodule=datamodule, ckpt_path=resumed, weights_only=True)
                # noted now, because loading the best checkpoint takes the clock back as well
                end = TrainingEnd(self._clock.epochs, round(self._clock.seconds, 2), list(self._clock.curves))
                if first:
                    end.write(checkpoints)
            self.trainer.test(model, datamodule=datamodule, ckpt_path=best, weights_only=True, verbose=False)
        if first:
            self.result = export_student(self.out, model, datamodule, **vars(end), settings=settings)
            self._register()

    def _begin(self, settings: dict[str, Any], resumed: bool) -> None:
        """Note what is to be fitted, in the folder and in MLflow."""
        if self._logger:
            self._logger.begin(resumed)
        write_json(self.out / SETTINGS, settings)
        write_atomically(self.out / CONFIG, self._parser("fit").dump(self.config["fit"]).encode())
        if self._logger:
            logged = {name: value for name, value in settings.items() if name.startswith(LOGGED)}
            data = zip(self.datamodule.labels, self.datamodule.manifests, strict=True)
            self._logger.log_fit(logged, self._prompts, self.out / CONFIG, data)

    def _register(self) -> None:
        """Enter the finished student into MLflow's model registry, under its task and backbone."""
        if not self._logger or not self.trainer.is_global_zero:
            return
        tasks = "+".join(target.task for target in self.model.targets.all)
        about = {
            "backbone": self.model.backbone,
            "seed": self._get(self.config, "seed_everything"),
            "labels": self.datamodule.digest,
            "fidelity": asdict(self.result.fidelity),
        }
        tags = {**flatten(about), **prompt_tags(self._prompts)}
        pixels = self.datamodule.task.render.frame_pixels
        self._logger.register(f"student-{tasks}-{self.model.backbone}", self.out, pixels, tags)

    @property
    def _prompts(self) -> dict[str, Prompts]:
        """The prompts of each task."""
        return {target.task: target.prompts for target in self.model.targets.all}

    def _settings(self) -> dict[str, Any]:
        """Flat settings that decide the student, the labels' digest among them, as plain JSON values."""
        flat = vars(self.config["fit"].as_flat())
        decisive = {name: value for name, value in flat.items() if name not in PLACES}
        plain: dict[str, Any] = json.loads(json.dumps({**decisive, "labels": self.datamodule.digest}, default=str))
        return plain

    def _check_folder(self) -> None:
        """Raise DataError if the output folder holds another fit, finished or begun."""
        begun = (self.out / CHECKPOINTS, self.out / RESULT, self.out / CARD)
        if not any(path.exists() for path in begun):
            return
        before, now = read_json(self.out / SETTINGS) if (self.out / SETTINGS).exists() else {}, self._settings()
        difference = first_difference(before, now)
        if difference:
            raise DataError(f"{self.out} holds another fit: {difference}; choose another --out, or remove that folder")

    def _make_logger(self) -> FitLogger | None:
        if self._run is not None:
            return FitLogger(self._run)
        tracking_uri = self._get(self.config, "tracking_uri")
        if not tracking_uri:
            return None
        tasks = "+".join(target.task for target in self.model.targets.all)
        name = f"{tasks} {self.model.backbone} seed {self._get(self.config, 'seed_everything')}"
        return OwnRunLogger(tracking_uri, self._get(self.config, "experiment"), name, self.out)


def _beside(labels: str) -> Path:
    if is_address(labels):
        raise SettingsError(f"out is not given and the labels lie behind an address ({labels}): give --out FOLDER")
    return Path(labels).parent / "student"


@contextmanager
def _interrupts() -> Iterator[None]:
    """Let Ctrl-C arrive as KeyboardInterrupt: Lightning makes it SystemExit and ignores the signal from then on."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as stop:
        if isinstance(stop.__context__, KeyboardInterrupt):
            signal.signal(signal.SIGINT, handler)
            raise KeyboardInterrupt from stop
        raise
