"""Visited states in the rows of a replay buffer, with frames that come back as they were."""

from pathlib import Path

import numpy as np
import pytest

from datamodules.errors import DataError
from datamodules.tasks import Task
from rllib_envs.simulators import make_simulator
from rllib_envs.visits import StateDrawer, Visited, VisitLog, Visits

PIXELS = 16


def coded(numbers: range) -> Visits:
    """Visits whose state, frame and true reward say which one they are."""
    frames = np.random.default_rng(0).integers(0, 256, (len(numbers), PIXELS, PIXELS, 3), dtype=np.uint8)
    frames[:, 0, 0, 0] = numbers
    states, rewards = np.array([[n, 0.5] for n in numbers], np.float64), np.array(numbers, np.float32)
    return Visits(states, frames, rewards, np.array(numbers, np.int64) // 2)


def draw(states: np.ndarray, pixels: int) -> np.ndarray:
    """A drawing that says which state it is of, and that it was drawn: its second pixel is 255."""
    frames = np.zeros((len(states), pixels, pixels, 3), np.uint8)
    frames[:, 0, 0, 0], frames[:, 0, 1] = states[:, 0], 255
    return frames


def test_frames_come_back_bit_for_bit_and_older_ones_make_room() -> None:
    visited = Visited(8, PIXELS)
    first, second = coded(range(6)), coded(range(6, 12))
    visited.write(np.arange(6), first, version=0)
    rows = np.array([6, 7, 0, 1, 2, 3])  # the ring has wrapped
    visited.write(rows, second, version=1)
    np.testing.assert_array_equal(visited.frames(rows, draw), second.frames)
    np.testing.assert_array_equal(visited.frames(np.array([4, 5]), draw), first.frames[4:])
    together = visited.visits(np.arange(8), draw)
    assert together.states[:, 0].tolist() == [8, 9, 10, 11, 4, 5, 6, 7]
    assert together.true_rewards.tolist() == [8, 9, 10, 11, 4, 5, 6, 7]
    assert together.episodes.tolist() == [4, 4, 5, 5, 2, 2, 3, 3]
    np.testing.assert_array_equal(together.frames[:4], second.frames[2:])
    assert visited.rows_of_other_versions(1).tolist() == [4, 5]
    visited.mark(np.array([4]), 1)
    assert visited.rows_of_other_versions(1).tolist() == [5]


def test_frames_beyond_the_memory_are_drawn_from_their_states() -> None:
    one = coded(range(1))
    packed = Visited(4, PIXELS)
    packed.write(np.arange(1), one, 0)
    needed = sum(map(len, packed._packed.values()))
    few = Visited(4, PIXELS, frame_bytes=needed + 300)
    visits = coded(range(4))
    few.write(np.arange(4), visits, 0)
    frames = few.frames(np.arange(4), draw)
    assert frames[:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    assert 0 < (frames[:, 0, 1, 0] == 255).sum() < 4
    for _ in range(3):  # writing over rows gives their memory back
        few.write(np.arange(4), visits, 0)
        assert (few.frames(np.arange(4), draw)[:, 0, 1, 0] == 255).sum() == (frames[:, 0, 1, 0] == 255).sum()


def test_what_was_saved_lies_in_the_first_rows_afterwards(tmp_path: Path) -> None:
    visited = Visited(4, PIXELS)
    visited.write(np.array([0, 1, 2, 3]), coded(range(4)), 0)
    visited.write(np.array([0, 1]), coded(range(4, 6)), 3)
    visited.save(tmp_path, np.array([2, 3, 0, 1]))
    again = Visited(4, PIXELS)
    again.load(tmp_path)
    loaded = again.visits(np.arange(4), draw)
    assert loaded.states[:, 0].tolist() == [2, 3, 4, 5]
    assert loaded.episodes.tolist() == [1, 1, 2, 2]
    assert again.rows_of_other_versions(3).tolist() == [0, 1]
    assert again.frames(np.arange(4), draw)[:, 0, 0, 0].tolist() == [2, 3, 4, 5]
    again.write(np.array([0]), coded(range(9, 10)), 3)
    assert again.frames(np.array([0, 1]), draw)[:, 0, 0, 0].tolist() == [9, 3]
    smaller = Visited(2, PIXELS)
    smaller.load(tmp_path)  # the newest are kept, as the replay buffer does
    assert smaller.visits(np.arange(2), draw).states[:, 0].tolist() == [4, 5]
    with pytest.raises(DataError, match="holds no visited states"):
        Visited(4, PIXELS).load(tmp_path / "nowhere")


def test_a_log_gives_visits_in_the_order_asked_for_and_copies_its_frames() -> None:
    log, buffer = VisitLog(), np.zeros((3, PIXELS, PIXELS, 3), np.uint8)
    for step in range(2):
        buffer[:, 0, 0, 0] = [10 * step, 10 * step + 1, 99]
        numbers = log.add([np.array([step, one]) for one in range(2)], buffer, np.array([step, -step], np.float64))
        assert numbers.tolist() == [2 * step, 2 * step + 1]
    taken = log.take([0, 2, 1, 3], [8, 8, 9, 9])  # episode by episode
    assert taken.frames[:, 0, 0, 0].tolist() == [0, 10, 1, 11]
    assert taken.states.tolist() == [[0, 0], [1, 0], [0, 1], [1, 1]]
    assert taken.true_rewards.tolist() == [0, 1, 0, -1]
    assert taken.episodes.tolist() == [8, 8, 9, 9]
    assert log.add([np.zeros(2)], buffer, np.zeros(1)).tolist() == [4]


def test_states_of_a_simulator_are_drawn_as_they_were_seen(pole: Task) -> None:
    simulator = make_simulator(pole)
    simulator.reset(3)
    states, frames = [], []
    for _ in range(3):
        simulator.step(np.ones(1))
        states.append(simulator.state())
        frames.append(simulator.render(32))
    drawer = StateDrawer(pole)
    np.testing.assert_array_equal(drawer(np.stack(states), 32), np.stack(frames))
    drawer.close()
    simulator.close()
