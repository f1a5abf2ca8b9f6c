"""A fit's checkpoints, written whole, in a folder that may move, and the note that its training has ended."""

from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Self

import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.plugins import CheckpointIO, TorchCheckpointIO

from datamodules.results import read_json, write_json
from datamodules.storage import is_address
from datamodules.whole_files import whole_file

ENDED = "ended.json"
PATHS = ("best_model_path", "kth_best_model_path", "last_model_path")
"""paths in the state of a ModelCheckpoint, empty where there is no such file"""


class MovableCheckpoint(ModelCheckpoint):
    """Goes on where its folder has moved; Lightning would forget the best score, and the next epoch would be best."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the state, with every path in the present folder."""
        moved = {name: self._here(state_dict[name]) for name in PATHS}
        kept = {self._here(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict({**state_dict, **moved, "best_k_models": kept, "dirpath": self.dirpath})

    def _here(self, path: str) -> str:
        return str(Path(self.dirpath or "") / Path(path).name) if path else ""


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
    return MovableCheckpoint(
        folder, filename=name, save_top_k=1, save_on_train_epoch_end=True, enable_version_counter=False, **settings
    )


class WholeCheckpoints(TorchCheckpointIO):
    """Checkpoints that appear whole or not at all.

    Lightning copies them from its temporary folder, which may lie on another disk: a kill or a full disk would leave
    half a checkpoint in the place of a good one.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Mapping[str, Any] | None = None
    ) -> None:
        """Write a checkpoint; at an address, where a callback of the user's may keep some, as Lightning does.

        Raises NoRoomError when the disk is full.
        """
        if storage_options is not None or is_address(str(path)):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        buffer = BytesIO()
        torch.save(checkpoint, buffer)  # into the file it would make a RuntimeError of the system's error
        with whole_file(Path(path)) as stream:
            stream.write(buffer.getbuffer())


def with_whole_checkpoints(plugins: Any) -> list[Any]:
    """A trainer's `plugins` (None, one or a list), and WholeCheckpoints unless one of them writes checkpoints."""
    given = plugins if isinstance(plugins, list) else [] if plugins is None else [plugins]
    return given if any(isinstance(each, CheckpointIO) for each in given) else [*given, WholeCheckpoints()]


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
