"""A batch of labelled frames, read from the decoded arrays."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.batch_order import Turn, Turns
from datamodules.decoded_cache import DecodedFrames
from datamodules.strata import Strata


class FrameBatch(NamedTuple):
    """B labelled frames."""

    frames: Tensor
    """uint8 (B, P, P, 3) RGB; `pixels.to_model_input` makes them a model's input"""
    embeddings: Tensor
    """float32 (B, D) the teacher's unit-norm image embeddings"""
    episode: Tensor
    """int64 (B,) number within its data set"""
    step: Tensor
    """int64 (B,) agent decisions since the reset"""
    true_reward: Tensor
    """float32 (B,) the simulator's own reward: for reports, never for training"""
    data_set: Tensor
    """int64 (B,) which of the data module's `labels` a frame comes from, 0 for the first"""


class CachedBatches(Dataset[FrameBatch]):
    """Whole batches copied out of the memory-mapped arrays of one or several data sets."""

    def __init__(
        self,
        sets: Sequence[DecodedFrames],
        rows: Sequence[NDArray[np.int64]],
        turns: Turns,
        shuffle_seed: int | None,
        strata: Strata | None = None,
    ) -> None:
        """Choose samples and their order.

        Args:
            sets: the decoded data sets.
            rows: which samples of each, in order.
            turns: how an epoch is cut.
            shuffle_seed: decides, with the epoch, the order of samples; None: as in `rows`, one set after the other.
            strata: of those samples, from which a shuffled epoch is drawn; without, it holds each sample once.
        """
        self._sets, self._turns, self._shuffle_seed, self._strata = sets, turns, shuffle_seed, strata
        self._starts = np.cumsum([0, *(len(decoded) for decoded in sets)])
        self._rows = np.concatenate([start + own for start, own in zip(self._starts, rows, strict=False)])
        self._epoch, self._order = -1, self._rows

    def __getitem__(self, turn: Turn) -> FrameBatch:
        """The batch of this turn."""
        start, stop = self._turns.span(turn.number)
        rows = self._order_of(turn.epoch)[start:stop]
        data_set = np.searchsorted(self._starts, rows, side="right") - 1
        columns = _read(self._sets[0], rows) if len(self._sets) == 1 else self._gather(rows, data_set)
        return FrameBatch._make(map(torch.from_numpy, (*columns, data_set)))

    def _gather(self, rows: NDArray[np.int64], data_set: NDArray[np.int64]) -> list[NDArray[np.generic]]:
        grouped = np.argsort(data_set, kind="stable")
        parts = [
            _read(decoded, rows[data_set == number] - self._starts[number]) for number, decoded in enumerate(self._sets)
        ]
        back = np.argsort(grouped, kind="stable")
        return [np.concatenate(column)[back] for column in zip(*parts, strict=True)]

    def _order_of(self, epoch: int) -> NDArray[np.int64]:
        if self._shuffle_seed is not None and epoch != self._epoch:
            generator = np.random.default_rng((self._shuffle_seed, epoch))
            drawn = self._rows[self._strata.order(generator)] if self._strata else generator.permutation(self._rows)
            self._epoch, self._order = epoch, drawn
        return self._order


def _read(decoded: DecodedFrames, rows: NDArray[np.int64]) -> list[NDArray[np.generic]]:
    columns = (decoded.frames, decoded.embeddings, decoded.episode, decoded.step, decoded.true_reward)
    frames, embeddings, *others = (np.asarray(column)[rows] for column in columns)
    return [frames, embeddings.astype(np.float32), *others]
