"""A fit's checkpoints, and the note that its training has ended."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pytorch_lightning.callbacks import ModelCheckpoint

from datamodules.results import read_json, write_json

ENDED = "ended.json"


def best_checkpoint(folder: Path, monitor: str) -> ModelCheckpoint:
    """Keeps `best.ckpt`, of the epoch with the smallest `monitor`."""
    return _checkpoint(folder, "best", monitor=monitor, mode="min")


def last_checkpoint(folder: Path) -> ModelCheckpoint:
    """Keeps `last.ckpt`, of the latest epoch; must follow the best checkpoint, whose state it holds.

    Lightning's own `save_last` is written only when an epoch was the best, so early stopping would forget.
    """
    return _checkpoint(folder, "last")


def checkpoint_path(folder: Path, name: str) -> Path:
    """Where one of the two lies."""
    return folder / f"{name}.ckpt"


def _checkpoint(folder: Path, name: str, **settings: Any) -> ModelCheckpoint:
    return ModelCheckpoint(
        folder, filename=name, save_top_k=1, save_on_train_epoch_end=True, enable_version_counter=False, **settings
    )


@dataclass(frozen=True)
class TrainingEnd:
    """How a training ended. Once it is noted, a fit that was stopped goes on with its test.

    Lightning would train on from the last checkpoint, one epoch more each time, where early stopping had ended it.
    """

    epochs: int
    """epochs fitted, those before a stop included"""
    seconds: float
    """wall time of the epochs"""
    curves: list[dict[str, float]]
    """figures of each epoch"""

    def write(self, folder: Path) -> None:
        """Note it beside the checkpoints. NoRoomError: the disk is full."""
        write_json(folder / ENDED, vars(self))

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """What was noted; None where the training goes on."""
        return cls(**read_json(folder / ENDED)) if (folder / ENDED).exists() else None
