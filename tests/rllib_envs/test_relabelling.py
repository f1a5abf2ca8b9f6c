"""Rewards that say which frame they come from: a wrong row, order or version would show."""

import numpy as np
import pytest
from numpy.typing import NDArray

from rllib_envs.relabelling import relabel
from rllib_envs.replay import ReplayBuffer, Transitions
from rllib_envs.visits import Visited, Visits

PIXELS = 16


class Coded:
    """The reward is the frame's first two pixels as a number, plus a thousand times the version."""

    def __init__(self, version: int) -> None:
        self.version, self.frames = version, 0

    def __call__(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.frames += len(frames)
        return (1000 * self.version + 100.0 * frames[:, 0, 0, 0] + frames[:, 0, 1, 0]).astype(np.float32)


def never(states: NDArray[np.float64], pixels: int) -> NDArray[np.uint8]:
    raise AssertionError("all frames are kept")


def add(replay: ReplayBuffer, visited: Visited, start: int, count: int, version: int) -> None:
    """Transitions numbered from `start`, rewarded with this version; the number is in observation and frame."""
    numbers = np.arange(start, start + count)
    frames = np.zeros((count, PIXELS, PIXELS, 3), np.uint8)
    frames[:, 0, 0], frames[:, 0, 1] = (numbers // 100)[:, None], (numbers % 100)[:, None]
    column = numbers[:, None].astype(np.float32)
    rewards = Coded(version)(frames)
    rows = replay.add_batch(Transitions(column, column, rewards, column + 1, np.zeros(count, np.float32)))
    visited.write(
        rows, Visits(column.astype(np.float64), frames, np.zeros(count, np.float32), np.zeros(count, np.int64)), version
    )


def contents(replay: ReplayBuffer) -> tuple[list[float], list[float]]:
    """Number and reward of each transition, oldest first."""
    rows = replay.rows_by_age
    return replay._columns["observations"][rows, 0].tolist(), replay._columns["rewards"][rows].tolist()


def test_every_transition_is_rewarded_again_across_the_rings_wrap() -> None:
    replay, visited = ReplayBuffer(700, 1, 1), Visited(700, PIXELS)
    for start in range(0, 1000, 100):
        add(replay, visited, start, 100, version=0)
    assert contents(replay) == ([*range(300, 1000)], [*range(300, 1000)])
    reward = Coded(2)
    assert relabel(replay, visited, reward, 2, never) == 700
    assert reward.frames == 700
    assert contents(replay) == ([*range(300, 1000)], [2000 + n for n in range(300, 1000)])
    assert relabel(replay, visited, reward, 2, never) == 0


def test_transitions_that_arrive_with_an_older_version_are_found_among_new_ones() -> None:
    replay, visited = ReplayBuffer(50, 1, 1), Visited(50, PIXELS)
    add(replay, visited, 0, 40, version=1)
    add(replay, visited, 40, 10, version=0)  # a runner that had not heard of it yet
    add(replay, visited, 50, 10, version=1)  # over the oldest
    reward = Coded(1)
    assert relabel(replay, visited, reward, 1, never) == 10
    assert contents(replay) == ([*range(10, 60)], [1000 + n for n in range(10, 60)])


def test_a_relabelling_that_was_stopped_goes_on_where_it_was() -> None:
    replay, visited = ReplayBuffer(600, 1, 1), Visited(600, PIXELS)
    add(replay, visited, 0, 600, version=0)

    class StoppedError(Exception):
        pass

    class Stopping(Coded):
        def __call__(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
            if self.frames >= 256:
                raise StoppedError
            return super().__call__(frames)

    with pytest.raises(StoppedError):
        relabel(replay, visited, Stopping(1), 1, never)
    reward = Coded(1)
    assert relabel(replay, visited, reward, 1, never) == reward.frames == 600 - 256
    assert contents(replay)[1] == [1000 + n for n in range(600)]


def test_a_reward_that_is_not_finite_reaches_replay_as_zero() -> None:
    replay, visited = ReplayBuffer(5, 1, 1), Visited(5, PIXELS)
    add(replay, visited, 0, 5, version=0)
    relabel(replay, visited, lambda frames: np.full(len(frames), np.nan, np.float32), 1, never)
    assert contents(replay)[1] == [0.0] * 5
