"""The replay buffer of an agent that sees pixels: each frame is kept once, stacks are put together when sampled."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rllib_envs.frames import STACKED
from rllib_envs.replay import Array, Replay, Transitions


@dataclass(frozen=True)
class FrameSteps:
    """N steps: C pieces of episodes one after another, as several simulators deliver them in turns."""

    frames: NDArray[np.uint8]
    """(N, P, P, 3): the newest frame after each action, the terminal one included, never that after a reset"""
    actions: Array
    """(N, A), as in `Transitions`"""
    rewards: Array
    """(N,)"""
    terminated: Array
    """(N,), as in `Transitions`"""
    first_frames: NDArray[np.uint8]
    """(C, P, P, 3): the newest frame before each piece's first action"""
    lengths: tuple[int, ...]
    """(C,) steps of each piece"""
    episodes: tuple[str, ...]
    """(C,) the name of the episode that each piece belongs to"""

    def __len__(self) -> int:
        return len(self.rewards)


class FrameReplayBuffer(Replay):
    """Holds the newest `capacity` frames, in rows of a frame and of what led to it.

    An episode's first frame has a row of its own, which no action led to. `distances` tells for every row how many rows
    earlier its transition's frames stand, oldest first: `STACKED` that were seen and then itself. Before an episode's
    start stands its first frame, again and again, as in DrQ-v2. A transition can be sampled as long as its oldest
    frame is there.
    """

    def __init__(self, capacity: int, pixels: int, action_size: int) -> None:
        super().__init__(
            {
                "frames": np.zeros((capacity, pixels, pixels, 3), np.uint8),
                "actions": np.zeros((capacity, action_size), np.float32),
                "rewards": np.zeros(capacity, np.float32),
                "terminated": np.zeros(capacity, np.float32),
                "distances": np.zeros((capacity, STACKED + 1), np.int32),
            }
        )
        self._written = 0
        # the newest frames of each episode, numbered in the order of their writing, those written last at the end
        self._seen: dict[str, tuple[int, ...]] = {}

    def add_batch(self, steps: FrameSteps) -> NDArray[np.int64]:
        """Append steps in order; the oldest rows make room. Returns the rows that they lie in, int64 (N,)."""
        ends = np.cumsum(steps.lengths)
        pieces = [slice(end - length, end) for end, length in zip(ends, steps.lengths, strict=True)]
        rows = [
            self._append_piece(episode, first_frame, steps, piece)
            for episode, first_frame, piece in zip(steps.episodes, steps.first_frames, pieces, strict=True)
        ]
        self._forget_lost_episodes()
        return np.concatenate(rows)

    def _append_piece(
        self, episode: str, first_frame: NDArray[np.uint8], steps: FrameSteps, piece: slice
    ) -> NDArray[np.int64]:
        if episode not in self._seen:
            self._append_first(episode, first_frame)
        end = self._written + piece.stop - piece.start
        numbers = np.array([*self._seen.pop(episode), *range(self._written, end)])
        windows = np.lib.stride_tricks.sliding_window_view(numbers, STACKED + 1)
        self._written = end
        self._seen[episode] = tuple(numbers[-STACKED:].tolist())
        return self._append(
            {
                "frames": steps.frames[piece],
                "actions": steps.actions[piece],
                "rewards": steps.rewards[piece],
                "terminated": steps.terminated[piece],
                "distances": windows[:, -1:] - windows,
            }
        )

    def _append_first(self, episode: str, frame: NDArray[np.uint8]) -> None:
        (row,) = self._append(
            {name: np.zeros((1, *column.shape[1:]), column.dtype) for name, column in self._columns.items()}
        )
        self._columns["frames"][row] = frame
        self._seen[episode] = (self._written,) * STACKED
        self._written += 1

    def _forget_lost_episodes(self) -> None:
        """Let go of episodes whose frames have all been overwritten: they ended, or their env runner died."""
        for episode, numbers in list(self._seen.items()):
            if self._written - numbers[-1] <= self.capacity:
                return
            del self._seen[episode]

    def sample(self, count: int, generator: np.random.Generator) -> Transitions:
        """Draw transitions uniformly, with replacement; observations are stacks, uint8 (count, P, P, 9)."""
        rows = self._sampleable()
        if rows.size == 0:
            raise ValueError("the replay buffer holds no whole transition: add steps before sampling")
        rows = rows[generator.integers(0, rows.size, count)]
        columns = self._columns
        frames = columns["frames"][(rows[:, None] - columns["distances"][rows]) % self.capacity]
        stacks = np.concatenate([frames[:, position] for position in range(STACKED + 1)], axis=-1)
        return Transitions(
            observations=stacks[..., :-3],
            actions=columns["actions"][rows],
            rewards=columns["rewards"][rows],
            next_observations=stacks[..., 3:],
            terminated=columns["terminated"][rows],
        )

    def _sampleable(self) -> NDArray[np.intp]:
        """Rows that an action led to and whose oldest frame is no older than the oldest row."""
        distances = self._columns["distances"][: self.size]
        age = (self._next - 1 - np.arange(self.size)) % self.capacity
        return np.flatnonzero((distances[:, -2] > 0) & (distances[:, 0] + age < self.size))
