"""What goes along with a fit: its progress, and quiet from Lightning."""

import logging
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback

from datamodules.progress import Report, silent

CHATTY = ("pytorch_lightning", "lightning_fabric", "lightning.pytorch")
ADVICE = (
    ".*does not have many workers.*",  # decoded frames are read fastest in the main process
    ".*is not empty.*",  # the checkpoint folder of a fit that goes on
    ".*number of training batches.*logging interval.*",
    ".*isinstance.treespec, LeafSpec.*",  # inside Lightning, nothing that we call
    r"\s*(By default only one JsonargparseDeprecationWarning|``instantiate_classes`` was deprecated)",  # likewise
    ".*ckpt_path.*doesn't match.*",
    ".*in eval mode at the start of training.*",  # a frozen backbone
)


OnEpoch = Callable[[float, float], None]
"""Called with the share of the batches done and the validation's Spearman inside an episode."""


class FitProgress(Callback):
    """Reports batches and the validation figures, keeps those of each epoch, counts seconds and epochs across stops."""

    def __init__(self, on_epoch: OnEpoch | None = None) -> None:
        """Say nothing until `report` is set."""
        self.report: Report = silent
        self._on_epoch = on_epoch
        self.seconds = 0.0
        self.epochs = 0
        self.curves: list[dict[str, float]] = []
        self._resumed_at = 0.0
        self._total = 0
        self._note = ""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._resumed_at = time.monotonic() - self.seconds
        self._total = int(trainer.estimated_stepping_batches)
        self.report(trainer.global_step, self._total, self._note)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """One batch more."""
        self.report(trainer.global_step, self._total, self._note)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note what validation found."""
        self.seconds = time.monotonic() - self._resumed_at
        self.epochs = trainer.current_epoch + 1
        figures = {
            name.removeprefix("student/"): round(float(value), 6)
            for name, value in trainer.callback_metrics.items()
            if name.startswith(("student/train_", "student/validation_"))
        }
        self.curves.append({"epoch": self.epochs, "seconds": round(self.seconds, 2), **figures})
        spearman = trainer.callback_metrics.get("student/validation_spearman_pooled")
        self._note = f"epoch {self.epochs}" + (
            "" if spearman is None else f", validation Spearman {float(spearman):.3f}"
        )
        self.report(trainer.global_step, self._total, self._note)
        within = trainer.callback_metrics.get("student/validation_spearman_within_episode")
        if self._on_epoch is not None and within is not None:
            self._on_epoch(trainer.global_step / self._total, float(within))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """All done, also where early stopping left batches out."""
        self.report(trainer.global_step, trainer.global_step, self._note)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed fit must know."""
        return {"seconds": self.seconds, "epochs": self.epochs, "note": self._note, "curves": list(self.curves)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self.seconds, self.epochs, self._note = state_dict["seconds"], state_dict["epochs"], state_dict["note"]
        self.curves = list(state_dict["curves"])


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """While the block runs, silence advice and notes that mean nothing to a user; errors and our own warnings stay."""
    loggers = [logging.getLogger(name) for name in CHATTY]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        for message in ADVICE:
            warnings.filterwarnings("ignore", message)
        try:
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
