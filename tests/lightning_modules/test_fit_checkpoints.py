"""Checkpoints are whole, whatever happens while they are written, and a fit goes on where its folder has moved."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.plugins import AsyncCheckpointIO, TorchSyncBatchNorm
from torch.utils.data import DataLoader

from datamodules.whole_files import NoRoomError
from lightning_modules.fit_callbacks import quiet_lightning
from lightning_modules.fit_checkpoints import (
    WholeCheckpoints,
    best_checkpoint,
    checkpoint_path,
    last_checkpoint,
    with_whole_checkpoints,
)


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """As `ulimit -f`, in bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("tensors", [1, 100])
def test_a_checkpoint_without_room_leaves_the_one_before(tmp_path: Path, tensors: int) -> None:
    path = tmp_path / "checkpoints" / "last.ckpt"
    checkpoints = WholeCheckpoints()
    checkpoints.save_checkpoint({"epoch": 1}, path)
    larger = {f"layer {number}": torch.zeros(200_000 // tensors) for number in range(tensors)}
    with files_up_to(100_000), pytest.raises(NoRoomError, match=r"last\.ckpt could not be written"):
        checkpoints.save_checkpoint(larger, str(path))
    assert checkpoints.load_checkpoint(path, weights_only=True) == {"epoch": 1}
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


def test_a_trainer_writes_whole_checkpoints_unless_it_was_given_others() -> None:
    sync, others = TorchSyncBatchNorm(), AsyncCheckpointIO()
    for given, kept in ((None, []), (sync, [sync]), ([sync], [sync])):
        plugins = with_whole_checkpoints(given)
        assert plugins[:-1] == kept
        trainer = Trainer(plugins=plugins, accelerator="cpu", logger=False, enable_progress_bar=False)
        assert isinstance(trainer.strategy.checkpoint_io, WholeCheckpoints)
    assert with_whole_checkpoints(others) == [others]
    assert with_whole_checkpoints([sync, others]) == [sync, others]


class Scripted(LightningModule):
    """Learns nothing; its loss is 3, 1 and 2 in the first three epochs."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def training_step(self, batch: torch.Tensor) -> torch.Tensor:
        """Nothing."""
        return self.weight * batch.sum()

    def validation_step(self, batch: torch.Tensor) -> None:
        """What the script says."""
        self.log("loss", (3.0, 1.0, 2.0)[self.current_epoch])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Nothing is learned."""
        return torch.optim.SGD(self.parameters(), lr=0.0)


def fit_to(epochs: int, folder: Path, resume: Path | None = None) -> float:
    """Fit with the checkpoints of `folder`; the best score."""
    best, loader = best_checkpoint(folder, "loss"), DataLoader(torch.ones(2, 1))
    with quiet_lightning():
        trainer = Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            callbacks=[best, last_checkpoint(folder)],
            plugins=with_whole_checkpoints(None),
        )
        trainer.fit(Scripted(), loader, loader, ckpt_path=resume, weights_only=True)
    assert best.best_model_path == str(checkpoint_path(folder, "best"))
    assert best.best_model_score is not None
    return best.best_model_score.item()


def test_a_fit_whose_folder_has_moved_keeps_its_best_epoch(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    assert fit_to(2, before) == 1.0
    before.rename(after)
    assert fit_to(3, after, resume=checkpoint_path(after, "last")) == 1.0
    epochs = {name: torch.load(checkpoint_path(after, name), weights_only=True)["epoch"] for name in ("best", "last")}
    assert epochs == {"best": 1, "last": 2}  # counted from 0
    assert not before.exists()
