"""A real fit in two processes, as a program of its own: each writes down which samples every epoch brought to it.

python tests/datamodules/distributed_fit.py LABELS OUT CACHE NUM_WORKERS
"""

import json
import sys
from pathlib import Path

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.strategies import DDPStrategy

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from datamodules.batches import FrameBatch  # noqa: E402  # the path comes first
from datamodules.frames_datamodule import FramesDataModule  # noqa: E402


class Witness(LightningModule):
    """Normalises batches, so that processes exchange statistics, and notes what it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.network = torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.BatchNorm1d(16 * 16 * 3), torch.nn.Linear(768, 1)
        )
        self.seen: dict[str, list[list[tuple[int, int]]]] = {}

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """A number for each frame."""
        return self.network(frames.float())

    def note(self, split: str, batch: FrameBatch) -> None:
        """Write down a batch."""
        keys = list(zip(batch.episode.tolist(), batch.step.tolist(), strict=True))
        self.seen.setdefault(f"{split} {self.current_epoch}", []).append(keys)

    def training_step(self, batch: FrameBatch) -> torch.Tensor:
        """A gradient for the processes to exchange."""
        self.note("train", batch)
        return self(batch.frames).mean()

    def validation_step(self, batch: FrameBatch) -> None:
        """A forward pass."""
        self.note("validation", batch)
        self(batch.frames)

    def test_step(self, batch: FrameBatch) -> None:
        """A forward pass."""
        self.note("test", batch)
        self(batch.frames)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Nothing is learned."""
        return torch.optim.SGD(self.parameters(), lr=0.0)


def main(labels: str, out: str, cache: str, num_workers: str) -> None:
    """Fit two epochs in two processes and test."""
    trainer = Trainer(
        max_epochs=2,
        num_sanity_val_steps=0,
        accelerator="cpu",
        devices=2,
        strategy=DDPStrategy(process_group_backend="gloo"),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    model = Witness()
    data = FramesDataModule(labels, batch_size=6, cache=cache == "cache", num_workers=int(num_workers))
    trainer.fit(model, data)
    trainer.test(model, data, verbose=False)
    (Path(out) / f"rank-{trainer.global_rank}.json").write_text(json.dumps(model.seen))


if __name__ == "__main__":
    main(*sys.argv[1:])
