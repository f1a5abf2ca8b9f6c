"""The LightningDataModule: labelled shards in, batches of frames and teacher embeddings out.

Labels are embeddings. Goal, baseline and alpha, and so the reward, belong to the student module, which asks this data
module for what it needs in its `setup`: `tasks`, `prompt_embeddings` and `train_embeddings`.
"""

import hashlib
import logging
from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from datamodules.batch_order import BatchOrder, LateLoader, Turns, this_process
from datamodules.batches import CachedBatches, FrameBatch
from datamodules.errors import DataError, SettingsError
from datamodules.labelled_rows import Columns
from datamodules.labelled_set import LabelledSet, check_alike, why_not_cached
from datamodules.manifest import Manifest
from datamodules.progress import Report, silent
from datamodules.shards import Damage
from datamodules.splits import Split, episodes_of
from datamodules.strata import Strata, strata_of
from datamodules.streamed_batches import StreamedBatches
from datamodules.tasks import Task

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
log = logging.getLogger(__name__)


class FramesDataModule(LightningDataModule):
    """Batches of one or several labelled data sets, split by whole episode (80/10/10, the same for every seed).

    Frames are decoded once and kept on disk, or streamed and decoded in every epoch where they are not to be kept.
    Several data sets are mixed in proportion to their size. In a distributed fit every process gets its own share.
    """

    def __init__(
        self,
        labels: list[str] | str,
        *,
        batch_size: int = 128,
        data_fraction: float = 1.0,
        strata: int = 1,
        seed: int = 0,
        num_workers: int = 0,
        cache: bool | Path = True,
        damaged: Literal["stop", "skip"] = "stop",
        most_damaged: float = 0.05,
    ) -> None:
        """Nothing is read before `prepare_data`, `setup` or a property asks for it.

        Args:
            labels: labelled shards, as scripts.label_frames writes them: a folder or an address
                (https://..., s3://...), or a list of several, of one frame size and one teacher, to learn from all.
            batch_size: frames in a batch of each process (1 to 65536).
            data_fraction: share of the training episodes (above 0, to 1); a smaller share is part of a larger one.
            strata: into how many quantiles of the reward training frames are divided (at least 1), so that every batch
                holds all of them, rare rewards up to four times as often as common ones; 1: each frame once an epoch.
            seed: decides which episodes make up a share, and the order of the training frames.
            num_workers: loader processes; 0 reads in the main process, which is fastest for decoded frames.
            cache: true: frames are decoded once and kept beside the labels (of an address: in runs/cache) where there
                is room, and streamed otherwise; false: always streamed; a folder: kept there.
            damaged: a shard that is not what its manifest says: stop, or skip it and say so.
            most_damaged: with skip, the largest share of a data set's shards to do without (0 to 1).

        Raises:
            SettingsError: a value outside its range.
        """
        super().__init__()
        places = [labels] if isinstance(labels, (str, Path)) else list(labels)
        if not places:
            raise SettingsError("data.labels is empty: give a folder or address of labelled shards, or several")
        if not 1 <= batch_size <= 65536:
            raise SettingsError(f"data.batch_size is {batch_size}: it must lie between 1 and 65536")
        if not 0.0 < data_fraction <= 1.0:
            raise SettingsError(f"data.data_fraction is {data_fraction}: it must lie above 0 and not above 1")
        if strata < 1:
            raise SettingsError(f"data.strata is {strata}: it must be 1 or more")
        if strata > 1 and cache is False:
            raise SettingsError(
                f"data.strata is {strata} and data.cache is false: frames that are streamed come as they lie in their "
                "shards; set strata to 1, or cache to true or a folder"
            )
        if num_workers < 0:
            raise SettingsError(f"data.num_workers is {num_workers}: it must be 0 or more")
        if damaged not in ("stop", "skip"):
            raise SettingsError(f"data.damaged is {damaged!r}: it must be 'stop' or 'skip'")
        if not 0.0 <= most_damaged <= 1.0:
            raise SettingsError(f"data.most_damaged is {most_damaged}: it must lie between 0 and 1")
        self.labels = tuple(map(str, places))
        self.batch_size = batch_size
        self.data_fraction = data_fraction
        self.strata = strata
        self.seed = seed
        self.num_workers = num_workers
        self.cache = cache if isinstance(cache, bool) else Path(cache)
        self.most_damaged = most_damaged if damaged == "skip" else None
        self._strata: Strata | None = None

    @cached_property
    def sets(self) -> tuple[LabelledSet, ...]:
        """The data sets, in the order of `labels`. Raises DataError if one is unfinished or they cannot be mixed."""
        cache = self.cache if isinstance(self.cache, Path) else None
        sets = tuple(LabelledSet(place, cache=cache, most_damaged=self.most_damaged) for place in self.labels)
        check_alike(sets)
        return sets

    @property
    def manifests(self) -> tuple[Manifest, ...]:
        """The manifest of each data set."""
        return tuple(one.manifest for one in self.sets)

    @property
    def manifest(self) -> Manifest:
        """The manifest of the first data set: frame size and teacher are the same in all."""
        return self.sets[0].manifest

    @property
    def digest(self) -> str:
        """The manifest's digest; of several data sets, sha256 of their digests in order."""
        digests = [manifest.digest for manifest in self.manifests]
        return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The task of each data set as it was collected; its prompts are the defaults."""
        return tuple(manifest.task for manifest in self.manifests)

    @property
    def task(self) -> Task:
        """The task of the first data set."""
        return self.manifest.task

    @property
    def skipped(self) -> dict[str, tuple[Damage, ...]]:
        """The damaged shards that are left out, by folder or address; empty where all are whole."""
        return {one.place: one.skipped for one in self.sets if one.skipped}

    def prompt_embeddings(self, sentences: Sequence[str], data_set: int = 0) -> NDArray[np.float32]:
        """The teacher's unit-norm text embeddings (N, D) of these sentences, from a data set's manifest.

        Raises:
            DataError: the teacher was never asked about one of them; the message names the command that asks.
        """
        return self.sets[data_set].prompt_embeddings(sentences)

    def train_embeddings(self, data_set: int = 0) -> NDArray[np.float32]:
        """The teacher's image embeddings (N, D) of a data set's training split, `data_fraction` applied."""
        return self._columns(data_set).embeddings[self.rows("train", data_set)].astype(np.float32)

    def train_episodes(self, data_set: int = 0) -> frozenset[int]:
        """Numbers of a data set's training episodes, `data_fraction` applied. DataError: there is none."""
        return self._episodes("train", data_set)

    def rows(self, split: Split, data_set: int = 0) -> NDArray[np.int64]:
        """Numbers of a split's samples in a data set, in order; of the training split only the `data_fraction`.

        Raises:
            DataError: the split is empty.
        """
        wanted = sorted(self._episodes(split, data_set))
        return np.flatnonzero(np.isin(self._columns(data_set).episode, wanted)).astype(np.int64)

    @property
    def prepared(self) -> bool:
        """Whether `prepare_data` has nothing to do: every frame is decoded already."""
        return self._cached and all(one.is_decoded for one in self.sets)

    def prepare_data(self, report: Report = silent) -> None:
        """Fill the caches of decoded frames, or read all labels where frames are streamed, and verify every shard.

        Lightning calls this in one process before `setup` in all. `report` is called with the frames done and to do.
        """
        before, total = 0, sum(one.intact.samples for one in self.sets)
        for one in self.sets:
            one.read(self._cached, partial(_report_on_top, report, before, total))
            before += one.intact.samples

    def setup(self, stage: str) -> None:
        """Find every split, so that a data set that is too small fails here and not after the first epoch."""
        for number in range(len(self.sets)):
            for split in SPLITS:
                self._episodes(split, number)

    def stratify(self, rewards: Sequence[NDArray[np.float32]]) -> None:
        """Take the rewards whose quantiles make up `strata`; a student module says them in its `setup`.

        Args:
            rewards: of each data set, one for each of `rows("train", data_set)`, finite.
        """
        self._strata = strata_of(rewards, self.strata) if self.strata > 1 else None

    def train_dataloader(self) -> DataLoader[FrameBatch]:
        """Shuffled or drawn anew in every epoch; what does not fill a batch in every process is left out."""
        if self.strata > 1 and self._strata is None:
            raise SettingsError(f"data.strata is {self.strata} and the rewards are unknown: call stratify() before")
        return self._loader("train", *this_process(), self._strata)

    def val_dataloader(self) -> DataLoader[FrameBatch]:
        """This process's part of the validation samples, each once; in order, unless loader processes stream."""
        return self._loader("validation", *this_process())

    def test_dataloader(self) -> DataLoader[FrameBatch]:
        """This process's part of the test samples, each once; in order, unless loader processes stream."""
        return self._loader("test", *this_process())

    def every_batch(self, split: Split) -> DataLoader[FrameBatch]:
        """All samples of a split in one process, each once, whatever the strata, so that splits can be compared.

        Training's are shuffled, and the last incomplete batch is left out.
        """
        return self._loader(split, rank=0, ranks=1)

    @cached_property
    def _cached(self) -> bool:
        """Whether decoded frames are kept."""
        if self.cache is False:
            return False
        reason = why_not_cached(self.sets)
        if reason and self.strata > 1:
            raise SettingsError(
                f"data.strata is {self.strata} and {reason}: give data.cache another folder, or strata 1"
            )
        if reason:
            log.warning(f"frames are decoded anew in every epoch: {reason}; data.cache chooses another folder")
        return reason is None

    def _columns(self, data_set: int) -> Columns:
        return self.sets[data_set].decoded if self._cached else self.sets[data_set].columns

    def _episodes(self, split: Split, data_set: int) -> frozenset[int]:
        episode = self._columns(data_set).episode
        chosen = episodes_of(episode, split, self.data_fraction, self.seed)
        if not chosen:
            raise DataError(
                f"{self.labels[data_set]} has no {split} episode among its {len(np.unique(episode))}: "
                "collect at least ten episodes"
            )
        return chosen

    def _loader(self, split: Split, rank: int, ranks: int, strata: Strata | None = None) -> DataLoader[FrameBatch]:
        numbers, shuffle_seed = range(len(self.sets)), self.seed if split == "train" else None
        rows = [self.rows(split, number) for number in numbers]
        turns = Turns(sum(map(len, rows)), self.batch_size, training=split == "train", rank=rank, ranks=ranks)
        reader: Dataset[FrameBatch]
        if self._cached:
            reader = CachedBatches([one.decoded for one in self.sets], rows, turns, shuffle_seed, strata)
        else:
            episodes = [self._episodes(split, number) for number in numbers]
            reader = StreamedBatches(self.sets, episodes, turns, shuffle_seed)
        return LateLoader(
            reader,
            sampler=BatchOrder(turns),
            batch_size=None,  # a turn is a whole batch
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
        )


def _report_on_top(report: Report, before: int, total: int, done: int, _: int, note: str = "") -> None:
    report(before + done, total, note)
