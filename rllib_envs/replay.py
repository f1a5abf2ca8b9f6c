"""The replay buffer: one preallocated array a column, written round and round, sampled in one indexing operation."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.errors import DataError
from datamodules.whole_files import whole_file

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Transitions:
    """N transitions. `terminated` is 1.0 only where the task itself ended: a time limit leaves it 0.0."""

    observations: NDArray[Any]
    """float32 (N, O), or stacked frames, uint8 (N, P, P, C)"""
    actions: Array
    """(N, A), in the policy's own range: -1 to 1 (continuous), or the action's number with A = 1 (discrete)"""
    rewards: Array
    """(N,)"""
    next_observations: NDArray[Any]
    """as observations: what the action led to, the terminal observation included, never the one after a reset"""
    terminated: Array
    """(N,), 0.0 or 1.0"""

    def __len__(self) -> int:
        return len(self.rewards)


class Replay(ABC):
    """The newest rows of some columns: a row is written over when the columns are full and it is the oldest."""

    def __init__(self, columns: dict[str, NDArray[Any]]) -> None:
        """Take one array of zeros a column, all of the same length; np.zeros maps pages on first write, so rows that
        are not filled cost no memory."""
        (self.capacity,) = {len(column) for column in columns.values()}
        self.size = 0
        self._next = 0
        self._columns = columns

    def __len__(self) -> int:
        return self.size

    @abstractmethod
    def add_batch(self, steps: Any) -> NDArray[np.int64]:
        """Append what an env runner sampled; returns the rows that its transitions lie in, int64 (N,)."""

    @abstractmethod
    def sample(self, count: int, generator: np.random.Generator) -> Transitions:
        """Draw transitions uniformly, with replacement."""

    def reward_again(self, rows: NDArray[np.int64], rewards: NDArray[np.floating[Any]]) -> None:
        """Replace the rewards of the transitions in these rows (N,)."""
        self._columns["rewards"][rows] = rewards

    @property
    def rows_by_age(self) -> NDArray[np.int64]:
        """The rows that are filled, oldest first, which is the order of a saved buffer; int64 (size,)."""
        oldest = self._next if self.size == self.capacity else 0
        return (oldest + np.arange(self.size)) % self.capacity

    def _append(self, values: Mapping[str, NDArray[Any]]) -> NDArray[np.int64]:
        """Append rows in order; the oldest ones make room. Returns where they are."""
        count = len(values["rewards"])
        if count > self.capacity:
            raise ValueError(f"{count} transitions do not fit into a replay buffer for {self.capacity}")
        rows = (self._next + np.arange(count)) % self.capacity
        for name, column in self._columns.items():
            column[rows] = values[name]
        self._next = (self._next + count) % self.capacity
        self.size = min(self.size + count, self.capacity)
        return rows

    @property
    def nbytes(self) -> int:
        """Bytes that the full buffer takes."""
        return sum(column.nbytes for column in self._columns.values())

    def save(self, folder: Path) -> None:
        """Write the filled part as one .npy file a column, oldest transition first, without a copy in memory."""
        oldest = self._next if self.size == self.capacity else 0
        for name, column in self._columns.items():
            shape = (self.size, *column.shape[1:])
            header = {"descr": column.dtype.str, "fortran_order": False, "shape": shape}
            with whole_file(folder / f"{name}.npy") as stream:
                np.lib.format.write_array_header_1_0(stream, header)
                stream.write(column[oldest : self.size].data)
                stream.write(column[:oldest].data)

    def load(self, folder: Path) -> None:
        """Replace the content by that of a saved buffer; the newest transitions are kept when it holds too many.

        Raises DataError where files are missing, damaged or of another task.
        """
        try:
            saved = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in self._columns}
        except (OSError, ValueError) as error:
            raise DataError(f"{folder} holds no whole replay buffer ({error}): start the training anew") from error
        shapes = {name: column.shape[1:] for name, column in self._columns.items()}
        if {name: column.shape[1:] for name, column in saved.items()} != shapes:
            raise DataError(f"{folder} is not a replay buffer of this task: its columns differ from {shapes}")
        self.size = self._next = 0
        self._append({name: column[-self.capacity :] for name, column in saved.items()})


class ReplayBuffer(Replay):
    """Holds the newest `capacity` transitions of an agent that sees states.

    RLlib's own buffer keeps episodes and builds 256 one-step episodes a batch (12 to 70 ms); plain arrays
    need about 0.1 ms and can be saved without pickles.
    """

    def __init__(self, capacity: int, observation_size: int, action_size: int) -> None:
        super().__init__(
            {
                "observations": np.zeros((capacity, observation_size), np.float32),
                "actions": np.zeros((capacity, action_size), np.float32),
                "rewards": np.zeros(capacity, np.float32),
                "next_observations": np.zeros((capacity, observation_size), np.float32),
                "terminated": np.zeros(capacity, np.float32),
            }
        )

    def add_batch(self, steps: Transitions) -> NDArray[np.int64]:
        """Append transitions in order; the oldest ones make room. Returns the rows that they lie in, int64 (N,)."""
        return self._append(vars(steps))

    def sample(self, count: int, generator: np.random.Generator) -> Transitions:
        """Draw transitions uniformly, with replacement."""
        if self.size == 0:
            raise ValueError("the replay buffer is empty: add transitions before sampling")
        rows = generator.integers(0, self.size, count)
        return Transitions(**{name: column[rows] for name, column in self._columns.items()})
