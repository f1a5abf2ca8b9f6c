"""Fit a student within this process, from labels to a student folder, and check beforehand that one could be."""

import json
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytorch_lightning import Trainer
from pytorch_lightning.cli import LightningCLI

from datamodules.differences import flatten
from datamodules.progress import Report, silent
from datamodules.tasks import Prompts
from lightning_modules.fit_callbacks import OnEpoch
from lightning_modules.fit_cli import FitCLI
from lightning_modules.fit_export import FitResult

if TYPE_CHECKING:
    from lightning_modules.runs import Run


def fit_student(
    config: Path,
    labels: Path,
    out: Path,
    *,
    seed: int,
    report: Report,
    run: "Run | None" = None,
    prompts: Prompts | None = None,
    settings: Mapping[str, Any] | None = None,
    on_epoch: OnEpoch | None = None,
) -> FitResult:
    """Fit a student within this process; the command `scripts.fit_student` does the same from a shell.

    Args:
        config: a student configuration, as conf/student/default.yaml.
        labels: folder of labelled shards.
        out: the student folder to make; run again with the same folder to go on where a fit was stopped.
        seed: of the first weights and the order of frames.
        report: called with batches done, batches in all, and the validation figures.
        run: in MLflow, which the caller begins and ends; without it nothing is logged.
        prompts: the reward to learn; the labels' task says it unless given.
        settings: settings that differ from the configuration's, as {"model": {"backbone": "resnet18"}}.
        on_epoch: called after each epoch with the share of the batches done and the validation's Spearman inside an
            episode.

    Raises:
        SuiteError: before any work, for an unknown backbone, missing labels or prompts, or a folder of another fit.
    """
    given: dict[str, Any] = {
        "config": str(config),
        **flatten(settings or {}),
        "seed_everything": seed,
        "data.labels": str(labels),
        "out": str(out),
        "tracking_uri": None,
        **({} if prompts is None else {f"model.{name}": value for name, value in asdict(prompts).items()}),
    }
    return FitCLI(["fit", *_arguments(given)], nullcontext(report), run, on_epoch=on_epoch).result


def check_fit(config: Path, pixels: int, settings: Mapping[str, Any] | None = None) -> int:
    """Check a student configuration before there are labels: its settings, its backbone, and the frames it takes.

    Returns the number of its members.

    Args:
        config: a student configuration, as conf/student/default.yaml.
        pixels: side of the frames that it will be fitted to.
        settings: as in `fit_student`.

    Returns:
        The members of its ensemble; 1 is a single student.

    Raises:
        SuiteError: an unknown setting or backbone, a value out of range, or frames that the backbone cannot take.
    """
    given = {"config": str(config), **flatten(settings or {}), "data.labels": "labels"}
    members: int = _CheckCLI(given, pixels).model.members
    return members


def _arguments(given: Mapping[str, Any]) -> list[str]:
    """A string goes as it is, everything else as JSON, which the parser reads as YAML."""
    return [f"--{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in given.items()]


class _CheckCLI(FitCLI):
    """Does everything that a fit does up to where it would read the labels."""

    def __init__(self, given: Mapping[str, Any], pixels: int) -> None:
        self._pixels = pixels
        super().__init__(["fit", *_arguments(given)], nullcontext(silent))

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        self.model.new_network(self._pixels, dims=(1,))  # whatever the teacher's dimension
        return LightningCLI.instantiate_trainer(self, **kwargs, logger=False)

    def fit(self, model: Any, datamodule: Any) -> None:
        """Nothing more to check."""
