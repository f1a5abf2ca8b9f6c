"""Checkpoints are whole, whatever happens while they are written, and the user's own plugins stay."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.plugins import AsyncCheckpointIO, TorchSyncBatchNorm

from datamodules.whole_files import NoRoomError
from lightning_modules.fit_checkpoints import WholeCheckpoints, with_whole_checkpoints


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
