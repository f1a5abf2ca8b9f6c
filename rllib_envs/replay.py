"""The replay buffer: one preallocated array a column, written round and round, sampled in one indexing operation."""

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

    observations: Array
    """(N, O)"""
    actions: Array
    """(N, A), in the policy's own range: -1 to 1 (continuous), or the action's number with A = 1 (discrete)"""
    rewards: Array
    """(N,)"""
    next_observations: Array
    """(N, O): what the action led to, the terminal observation included, never the one after a reset"""
    terminated: Array
    """(N,), 0.0 or 1.0"""

    def __len__(self) -> int:
        return len(self.rewards)


class ReplayBuffer:
    """Holds the newest `capacity` transitions.

    RLlib's own buffer keeps episodes and builds 256 one-step episodes a batch (12 to 70 ms); plain arrays
    need about 0.1 ms and can be saved without pickles.
    """

    def __init__(self, capacity: int, observation_size: int, action_size: int) -> None:
        self.capacity = capacity
        self.size = 0
        self._next = 0
        # np.zeros maps pages on first write, so an unfilled buffer costs no memory.
        self._columns: dict[str, Array] = {
            "observations": np.zeros((capacity, observation_size), np.float32),
            "actions": np.zeros((capacity, action_size), np.float32),
            "rewards": np.zeros(capacity, np.float32),
            "next_observations": np.zeros((capacity, observation_size), np.float32),
            "terminated": np.zeros(capacity, np.float32),
        }

    def __len__(self) -> int:
        return self.size

    def add_batch(self, transitions: Transitions) -> NDArray[np.int64]:
        """Append transitions in order; the oldest ones make room. Returns the rows that they lie in, int64 (N,)."""
        count = len(transitions)
        if count > self.capacity:
            raise ValueError(f"{count} transitions do not fit into a replay buffer for {self.capacity}")
        rows = (self._next + np.arange(count)) % self.capacity
        for name, column in self._columns.items():
            column[rows] = getattr(transitions, name)
        self._next = (self._next + count) % self.capacity
        self.size = min(self.size + count, self.capacity)
        return rows

    def reward_again(self, rows: NDArray[np.int64], rewards: NDArray[np.floating[Any]]) -> None:
        """Replace the rewards of the transitions in these rows (N,)."""
        self._columns["rewards"][rows] = rewards

    @property
    def rows_by_age(self) -> NDArray[np.int64]:
        """The rows that hold transitions, oldest first, which is the order of a saved buffer; int64 (size,)."""
        oldest = self._next if self.size == self.capacity else 0
        return (oldest + np.arange(self.size)) % self.capacity

    def sample(self, count: int, generator: np.random.Generator) -> Transitions:
        """Draw transitions uniformly, with replacement."""
        if self.size == 0:
            raise ValueError("the replay buffer is empty: add transitions before sampling")
        rows = generator.integers(0, self.size, count)
        return Transitions(**{name: column[rows] for name, column in self._columns.items()})

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
        self.add_batch(Transitions(**{name: column[-self.capacity :] for name, column in saved.items()}))
