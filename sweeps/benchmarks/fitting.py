"""Frames a second of a fit beside a plain PyTorch loop over PNG files, with the same network, recipe and rewards.

Ours is the data module's cache and the student module under a Lightning Trainer, as a student configuration sets them.
The plain loop is what one writes first: a Dataset that opens PNGs with PIL, torchvision's ToTensor and Normalize, a
DataLoader, stored rewards, the same loss, AdamW, batches and clipping. Its fastest setting of loader processes counts.
All run on the CPU, with as many threads as torch takes, and take turns, an epoch each, without validation. `ours_bf16`
is the same fit with `trainer.precision` bf16-mixed.
"""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, Literal

import torch
import yaml
from PIL import Image
from pytorch_lightning import Trainer
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from datamodules.frames_datamodule import FramesDataModule
from datamodules.pixels import CHANNEL_MEAN, CHANNEL_STD
from datamodules.progress import Report, progress_bar
from datamodules.records import encode_frame
from lightning_modules.fit_callbacks import FitProgress, quiet_lightning
from lightning_modules.student_module import StudentModule
from sweeps.benchmarks.loading import make_labels

SAMPLES, EPISODE_STEPS = 1_600, 80
LOADER_PROCESSES = (0, 1, 2)
LOSSES: Mapping[str, Callable[..., Tensor]] = {"huber": F.huber_loss, "mse": F.mse_loss}


@dataclass(frozen=True)
class Fit:
    """What is fitted, and for how long."""

    config: Path
    """a student configuration"""
    data_fraction: float
    """share of the training frames that make up an epoch"""
    rounds: int
    """turns of each peer that count, after one that warms it up"""


FITS: Mapping[str, Fit] = {
    "test_efficientnet": Fit(Path("conf/student/default.yaml"), 1.0, 4),
    "efficientnet_b0": Fit(Path("conf/student/plan.yaml"), 0.2, 2),
}


def measure() -> dict[str, Any]:
    """Median frames a second of each peer, and how many times those of the fastest plain loop ours are."""
    medians: dict[str, float] = {}
    ratios: dict[str, float] = {}
    with TemporaryDirectory(prefix="fitting-") as folder, progress_bar("fitting", "turns") as report:
        labels = Path(folder) / "labels"
        make_labels(labels, SAMPLES, EPISODE_STEPS)
        for name, fit in FITS.items():
            rates = _by_turns(name, _peers(fit, labels, Path(folder) / name), fit.rounds, report)
            plain = max(rate for peer, rate in rates.items() if peer.startswith("plain"))
            ratios |= {f"{peer}_over_plain_loop_{name}": rates[peer] / plain for peer in ("ours", "ours_bf16")}
            medians |= {f"{name}_{peer}_frames_per_second": rate for peer, rate in rates.items()}
    return {"medians": medians, "ratios": ratios, "threads": torch.get_num_threads()}


def _by_turns(name: str, peers: Mapping[str, Callable[[], float]], rounds: int, report: Report) -> dict[str, float]:
    taken: dict[str, list[float]] = {peer: [] for peer in peers}
    for number in range((rounds + 1) * len(peers)):
        report(number, (rounds + 1) * len(peers), name)
        peer = list(peers)[number % len(peers)]
        taken[peer].append(peers[peer]())
    return {peer: median(rates[1:]) for peer, rates in taken.items()}


def _peers(fit: Fit, labels: Path, pictures: Path) -> dict[str, Callable[[], float]]:
    """Each call fits an epoch and returns its frames a second."""
    config = yaml.safe_load(fit.config.read_text())
    clip = config["trainer"].get("gradient_clip_val")
    data = FramesDataModule(str(labels), **config["data"], data_fraction=fit.data_fraction)
    data.prepare_data()
    module = StudentModule(**config["model"])
    module.build(data)
    train = [data.train_embeddings()]
    module.targets.freeze(train)
    (rewards,) = module.targets.of_each_set(train)
    _write_pictures(data, pictures)
    loop = PlainLoop(module.network, config["model"], clip)
    loaders = {
        f"plain_{processes}_processes": DataLoader(
            PngFrames(pictures, torch.from_numpy(rewards)),
            batch_size=min(data.batch_size, len(rewards)),
            shuffle=True,
            drop_last=True,
            num_workers=processes,
            persistent_workers=processes > 0,
        )
        for processes in LOADER_PROCESSES
    }
    return {
        "ours": partial(_fit_epoch, module, data, clip, "32-true"),
        "ours_bf16": partial(_fit_epoch, deepcopy(module), data, clip, "bf16-mixed"),
        **{name: partial(loop.epoch, loader) for name, loader in loaders.items()},
    }


def _write_pictures(data: FramesDataModule, folder: Path) -> None:
    """The training frames as PNG files, in order."""
    folder.mkdir()
    for number, row in enumerate(data.rows("train")):
        (folder / f"{number:06d}.png").write_bytes(encode_frame(data.sets[0].decoded.frames[row]))


def _fit_epoch(
    module: StudentModule, data: FramesDataModule, clip: float | None, precision: Literal["32-true", "bf16-mixed"]
) -> float:
    clock = FitProgress()
    with quiet_lightning():
        trainer = Trainer(
            max_epochs=1,
            accelerator="cpu",
            precision=precision,
            gradient_clip_val=clip,
            limit_val_batches=0,
            callbacks=[clock],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, datamodule=data)
    return trainer.global_step * min(data.batch_size, len(data.rows("train"))) / clock.seconds


class PngFrames(Dataset[tuple[Tensor, Tensor]]):
    """A folder of PNG files, each decoded when it is asked for, with its reward."""

    def __init__(self, folder: Path, rewards: Tensor) -> None:
        self._paths, self._rewards = sorted(folder.glob("*.png")), rewards
        self._transform = transforms.Compose(
            [transforms.ToTensor(), transforms.Normalize(list(CHANNEL_MEAN), list(CHANNEL_STD))]
        )

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        with Image.open(self._paths[number]) as picture:
            return self._transform(picture.convert("RGB")), self._rewards[number]


class PlainLoop:
    """A copy of a network, in torch's own memory layout, trained step by step."""

    def __init__(self, network: nn.Module, model: Mapping[str, Any], clip: float | None) -> None:
        self.network = deepcopy(network).to(memory_format=torch.contiguous_format)
        self._optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=model["learning_rate"], weight_decay=model["weight_decay"]
        )
        self._loss, self._clip = LOSSES[model.get("loss", "huber")], clip

    def epoch(self, loader: DataLoader[tuple[Tensor, Tensor]]) -> float:
        """Train for an epoch; returns its frames a second."""
        start, frames = perf_counter(), 0
        for inputs, rewards in loader:
            self._optimizer.zero_grad()
            loss = self._loss(self.network(inputs)[:, 0], rewards)
            loss.backward()  # type: ignore[no-untyped-call]  # torch's own stub
            if self._clip is not None:
                nn.utils.clip_grad_norm_(self.network.parameters(), self._clip)
            self._optimizer.step()
            frames += len(inputs)
        return frames / (perf_counter() - start)
