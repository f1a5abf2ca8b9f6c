"""What the transitions in replay led to: physics states, and their frames as long as memory lasts.

The state is the truth, for it can be drawn again at any size. The frame beside it is its picture as the reward saw it,
kept so that a new reward can score a replay buffer without drawing it anew: on two cores 100,000 frames of cart-pole
take 20 seconds to unpack and score, and two minutes to draw.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.errors import DataError
from datamodules.tasks import Task
from datamodules.whole_files import whole_file
from rllib_envs.simulators import Simulator, make_simulator

FRAME_BYTES = 2**30
"""memory for packed frames; those beyond are drawn again from their states when they are needed"""
STATES, VERSIONS, TRUE_REWARDS, EPISODES = "states.npy", "reward_versions.npy", "true_rewards.npy", "episodes.npy"

Rows = NDArray[np.int64]
Frames = NDArray[np.uint8]
Draw = Callable[[NDArray[np.float64], int], Frames]
"""(states (N, S), side of the frame) -> frames uint8 (N, P, P, 3)"""


@dataclass(frozen=True, eq=False)
class Visits:
    """N visited states."""

    states: NDArray[np.float64]
    """(N, S) of `Simulator.state()`"""
    frames: Frames
    """(N, P, P, 3) as the reward saw them"""
    true_rewards: NDArray[np.float32]
    """(N,) the simulator's own reward of the step that led there; only ever written to labels"""
    episodes: NDArray[np.int64]
    """(N,) a number that all visits of an episode share"""

    def at(self, places: Rows) -> "Visits":
        """Those in these places."""
        return Visits(*(getattr(self, column.name)[places] for column in fields(self)))


class VisitLog:
    """States and frames of an environment's latest steps, until they are taken."""

    def __init__(self) -> None:
        self._first = 0
        self._states: list[NDArray[np.float64]] = []
        self._frames: list[Frames] = []
        self._true_rewards: list[float] = []

    def add(self, states: Sequence[NDArray[np.float64]], frames: Frames, true_rewards: NDArray[np.float64]) -> Rows:
        """Keep copies of N states and the first N frames; returns their numbers, int64 (N,)."""
        start = self._first + len(self._states)
        self._states += states
        self._frames += [frame.copy() for frame in frames[: len(states)]]
        self._true_rewards += true_rewards.tolist()
        return np.arange(start, start + len(states))

    def take(self, numbers: Sequence[int], episodes: Sequence[int]) -> Visits:
        """The visits of these numbers, in this order, of these episodes; whatever was kept so far is forgotten."""
        places = [number - self._first for number in numbers]
        visits = Visits(
            np.stack([self._states[place] for place in places]),
            np.stack([self._frames[place] for place in places]),
            np.array([self._true_rewards[place] for place in places], np.float32),
            np.array(episodes, np.int64),
        )
        self._first += len(self._states)
        self._states, self._frames, self._true_rewards = [], [], []
        return visits


class Visited:
    """One visit for each transition of a replay buffer, in the same rows, with the version of the reward that it has.

    Frames are packed as their difference to the first one, which is mostly zeros where the camera stands still (600
    bytes of the 21,168 of a cart-pole's, 6,800 of a walker's, whose camera follows it). A checkpoint leaves them out.
    """

    def __init__(self, capacity: int, pixels: int, frame_bytes: int = FRAME_BYTES) -> None:
        """Keep nothing yet.

        Args:
            capacity: rows of the replay buffer.
            pixels: side of the frames.
            frame_bytes: most memory for packed frames.
        """
        self.capacity, self.pixels = capacity, pixels
        self._room = frame_bytes
        self._states: NDArray[np.float64] | None = None
        self._true_rewards = np.zeros(capacity, np.float32)
        self._versions = np.full(capacity, -1, np.int32)
        self._episodes = np.zeros(capacity, np.int64)
        self._packed: dict[int, bytes] = {}
        self._reference: Frames | None = None

    def write(self, rows: Rows, visits: Visits, version: int) -> None:
        """Put visits (N,) into the rows (N,) in which their transitions lie; their rewards are of this version."""
        if self._states is None:  # np.zeros maps pages on first write, so rows that are never used cost no memory
            self._states = np.zeros((self.capacity, visits.states.shape[1]))
        if self._reference is None:
            self._reference = visits.frames[0].copy()
        self._states[rows], self._true_rewards[rows], self._versions[rows] = visits.states, visits.true_rewards, version
        self._episodes[rows] = visits.episodes
        for row, frame in zip(rows.tolist(), visits.frames, strict=True):
            self._room += len(self._packed.pop(row, b""))
            packed = zlib.compress(frame - self._reference, 1)  # uint8 wraps around, and back again when it is added
            if len(packed) <= self._room:
                self._packed[row] = packed
                self._room -= len(packed)

    def frames(self, rows: Rows, draw: Draw) -> Frames:
        """The frames (N, P, P, 3) of these rows; `draw` draws those that are not kept."""
        assert self._states is not None, "rows without a visit have no frame"
        frames = np.empty((len(rows), self.pixels, self.pixels, 3), np.uint8)
        missing = []
        for place, row in enumerate(rows.tolist()):
            if row in self._packed:
                difference = np.frombuffer(zlib.decompress(self._packed[row]), np.uint8)
                frames[place] = self._reference + difference.reshape(frames.shape[1:])
            else:
                missing.append(place)
        if missing:
            frames[missing] = draw(self._states[rows[missing]], self.pixels)
        return frames

    def visits(self, rows: Rows, draw: Draw) -> Visits:
        """All about these rows."""
        assert self._states is not None, "rows without a visit have no state"
        return Visits(self._states[rows], self.frames(rows, draw), self._true_rewards[rows], self._episodes[rows])

    def rows_of_other_versions(self, version: int) -> Rows:
        """Rows whose reward is of another version."""
        return np.flatnonzero((self._versions >= 0) & (self._versions != version))

    def mark(self, rows: Rows, version: int) -> None:
        """Note that the rewards of these rows are of this version now."""
        self._versions[rows] = version

    def save(self, folder: Path, rows: Rows) -> None:
        """Write states and versions of these rows, in this order."""
        columns: dict[str, NDArray[Any] | None] = {
            STATES: self._states,
            VERSIONS: self._versions,
            TRUE_REWARDS: self._true_rewards,
            EPISODES: self._episodes,
        }
        for name, column in columns.items():
            if column is not None:
                with whole_file(folder / name) as stream:
                    np.lib.format.write_array(stream, column[rows], allow_pickle=False)

    def load(self, folder: Path) -> None:
        """Take over what was saved beside a replay buffer, which has it in its first rows from now on.

        Raises DataError where files are missing or damaged.
        """
        try:
            states, versions, true_rewards, episodes = (
                np.load(folder / name, allow_pickle=False)[-self.capacity :]
                for name in (STATES, VERSIONS, TRUE_REWARDS, EPISODES)
            )
        except (OSError, ValueError) as error:
            raise DataError(f"{folder} holds no visited states ({error}): start the training anew") from error
        self._states = np.zeros((self.capacity, states.shape[1]))
        self._versions[:] = -1
        columns: Sequence[tuple[NDArray[Any], NDArray[Any]]] = (
            (self._states, states),
            (self._versions, versions),
            (self._true_rewards, true_rewards),
            (self._episodes, episodes),
        )
        for column, saved in columns:
            column[: len(saved)] = saved
        self._room += sum(map(len, self._packed.values()))
        self._packed.clear()


class StateDrawer:
    """Draws states of a task with a simulator of its own."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._simulator: Simulator | None = None

    def __call__(self, states: NDArray[np.float64], pixels: int) -> Frames:
        """Frames uint8 (N, pixels, pixels, 3) of states (N, S)."""
        if self._simulator is None:
            self._simulator = make_simulator(self._task)
        frames = np.empty((len(states), pixels, pixels, 3), np.uint8)
        for state, frame in zip(states, frames, strict=True):
            self._simulator.set_state(state)
            self._simulator.render(pixels, out=frame)
        return frames

    def close(self) -> None:
        """Close the simulator."""
        if self._simulator is not None:
            self._simulator.close()
