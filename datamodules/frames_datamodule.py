"""The LightningDataModule: labelled shards in, batches of frames and teacher embeddings out.

Labels are embeddings. Goal, baseline and alpha, and so the reward, belong to the student module, which asks this data
module for what it needs in its `setup`: `task.prompts`, `prompt_embeddings` and `train_embeddings`.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from datamodules.decoded_cache import DecodedFrames, open_decoded
from datamodules.errors import DataError, SettingsError
from datamodules.manifest import Manifest, read_manifest
from datamodules.splits import Split, share_of, split_of
from datamodules.tasks import Task


class FrameBatch(NamedTuple):
    """B labelled frames."""

    frames: Tensor
    """uint8 (B, P, P, 3) RGB; `pixels.to_model_input` makes them a model's input"""
    embeddings: Tensor
    """float32 (B, D) the teacher's unit-norm image embeddings"""
    episode: Tensor
    """int64 (B,)"""
    step: Tensor
    """int64 (B,) agent decisions since the reset"""
    true_reward: Tensor
    """float32 (B,) the simulator's own reward: for reports, never for training"""


class FramesDataModule(LightningDataModule):
    """Batches of a labelled data set, split by whole episode (80/10/10, the same episodes for every seed)."""

    def __init__(
        self,
        labels: Path,
        *,
        batch_size: int = 128,
        data_fraction: float = 1.0,
        seed: int = 0,
        num_workers: int = 0,
        cache: Path | None = None,
    ) -> None:
        """Nothing is read before `prepare_data`, `setup` or a property asks for it.

        Args:
            labels: folder of labelled shards, as scripts.label_frames writes it.
            batch_size: frames in a batch (1 to 65536).
            data_fraction: share of the training episodes (above 0, to 1); a smaller share is part of a larger one.
            seed: decides which episodes make up a share, and the order of the training frames.
            num_workers: loader processes; 0 reads in the main process, which is fastest for decoded frames.
            cache: folder for decoded frames, where the labels folder cannot be written to.

        Raises:
            SettingsError: a value outside its range.
        """
        super().__init__()
        if not 1 <= batch_size <= 65536:
            raise SettingsError(f"data.batch_size is {batch_size}: it must lie between 1 and 65536")
        if not 0.0 < data_fraction <= 1.0:
            raise SettingsError(f"data.data_fraction is {data_fraction}: it must lie above 0 and not above 1")
        if num_workers < 0:
            raise SettingsError(f"data.num_workers is {num_workers}: it must be 0 or more")
        self.labels = Path(labels)
        self.batch_size = batch_size
        self.data_fraction = data_fraction
        self.seed = seed
        self.num_workers = num_workers
        self.cache = Path(cache) if cache is not None else None

    @cached_property
    def manifest(self) -> Manifest:
        """The labels' manifest. Raises DataError if the folder is unfinished or not labelled yet."""
        manifest = read_manifest(self.labels)
        if manifest.teacher is None:
            raise DataError(
                f"{self.labels} holds frames without labels: label them with `python -m scripts.label_frames "
                f"--frames {self.labels} --teacher TEACHER.yaml --out LABELS` and give that folder"
            )
        return manifest

    @property
    def task(self) -> Task:
        """The task as it was collected; its prompts are the defaults."""
        return self.manifest.task

    def prompt_embeddings(self, sentences: Sequence[str]) -> NDArray[np.float32]:
        """The teacher's unit-norm text embeddings (N, D) of these sentences, from the manifest.

        Raises:
            DataError: the teacher was never asked about one of them; the message names the command that asks.
        """
        known, teacher = self.manifest.prompts, self.manifest.teacher
        assert teacher is not None, "`manifest` checks it"
        missing = [sentence for sentence in sentences if sentence not in known]
        if missing:
            raise DataError(
                f"{self.labels} has no text embedding of {', '.join(map(repr, missing))}. Add it, without scoring any "
                f"frame again, with `python -m scripts.label_frames --frames FRAMES --teacher TEACHER.yaml "
                f"--out {self.labels} --prompts '{_yaml_list(missing)}'`; or use one of: {', '.join(map(repr, known))}"
            )
        embeddings = [known[sentence] for sentence in sentences]
        return np.array(embeddings, np.float32).reshape(len(sentences), teacher.dim)

    def train_embeddings(self) -> NDArray[np.float32]:
        """The teacher's image embeddings (N, D) of the training split, `data_fraction` applied."""
        return self._decoded.embeddings[self.rows("train")].astype(np.float32)

    def rows(self, split: Split) -> NDArray[np.int64]:
        """Numbers of a split's samples, in order; of the training split only the `data_fraction`.

        Raises:
            DataError: the split is empty.
        """
        episode = np.asarray(self._decoded.episode)
        known = np.unique(episode).tolist()
        chosen = {number for number in known if split_of(number) == split}
        if not chosen:
            raise DataError(
                f"{self.labels} has no {split} episode among its {len(known)}: collect at least ten episodes"
            )
        if split == "train":
            chosen = share_of(chosen, self.data_fraction, self.seed)
        return np.flatnonzero(np.isin(episode, sorted(chosen))).astype(np.int64)

    def prepare_data(self) -> None:
        """Fill the cache of decoded frames; Lightning calls this in one process before `setup` in all."""
        open_decoded(self.labels, self.manifest, self.cache)

    def setup(self, stage: str) -> None:
        """Find every split, so that a data set that is too small fails here and not after the first epoch."""
        for split in ("train", "validation", "test"):
            self.rows(split)

    def train_dataloader(self) -> DataLoader[FrameBatch]:
        """Shuffled anew in every epoch; an incomplete last batch is left out."""
        return self._loader("train", shuffle=True)

    def val_dataloader(self) -> DataLoader[FrameBatch]:
        """Every validation sample once, in order."""
        return self._loader("validation", shuffle=False)

    def test_dataloader(self) -> DataLoader[FrameBatch]:
        """Every test sample once, in order."""
        return self._loader("test", shuffle=False)

    @cached_property
    def _decoded(self) -> DecodedFrames:
        return open_decoded(self.labels, self.manifest, self.cache)

    def _loader(self, split: Split, shuffle: bool) -> DataLoader[FrameBatch]:
        return DataLoader(
            BatchReader(self._decoded),
            sampler=BatchOrder(self.rows(split), self.batch_size, shuffle, self.seed),
            batch_size=None,  # the sampler gives whole batches, read from the arrays at once
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
        )


class BatchReader(Dataset[FrameBatch]):
    """Reads whole batches from the decoded arrays."""

    def __init__(self, decoded: DecodedFrames) -> None:
        self._decoded = decoded

    def __getitem__(self, rows: NDArray[np.int64]) -> FrameBatch:
        """The batch of these samples, copied out of the arrays."""
        decoded = self._decoded
        return FrameBatch(
            frames=torch.from_numpy(decoded.frames[rows]),
            embeddings=torch.from_numpy(decoded.embeddings[rows].astype(np.float32)),
            episode=torch.from_numpy(decoded.episode[rows]),
            step=torch.from_numpy(decoded.step[rows]),
            true_reward=torch.from_numpy(decoded.true_reward[rows]),
        )


class BatchOrder(Sampler[NDArray[np.int64]]):
    """Row numbers of each batch: in order, or shuffled by (seed, epoch) with the incomplete last batch left out."""

    def __init__(self, rows: NDArray[np.int64], batch_size: int, shuffle: bool, seed: int) -> None:
        self._rows, self._batch_size, self._shuffle, self._seed = rows, batch_size, shuffle, seed
        # batch normalisation fails on a last batch of one frame
        self._drop_last = shuffle and len(rows) >= batch_size
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before each epoch, so that a resumed fit goes on with the order it would have had."""
        self._epoch = epoch

    def __len__(self) -> int:
        full, rest = divmod(len(self._rows), self._batch_size)
        return full if self._drop_last or not rest else full + 1

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        rows = self._rows
        if self._shuffle:
            rows = np.random.default_rng((self._seed, self._epoch)).permutation(rows)
            self._epoch += 1
        for batch in range(len(self)):
            yield rows[batch * self._batch_size : (batch + 1) * self._batch_size]


def _yaml_list(sentences: Sequence[str]) -> str:
    return "[" + ", ".join(f'"{sentence}"' for sentence in sentences) + "]"
