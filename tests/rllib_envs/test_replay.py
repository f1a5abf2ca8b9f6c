"""The replay buffer, held against a plain list of transitions."""

import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from datamodules.errors import DataError
from rllib_envs.replay import ReplayBuffer, Transitions

OBSERVATIONS, ACTIONS = 3, 2


def numbered(first: int, count: int) -> Transitions:
    """Transitions whose every value is their own number, but for the sign, so that mixed-up rows show."""
    number = np.arange(first, first + count, dtype=np.float32)
    return Transitions(
        observations=np.repeat(number[:, None], OBSERVATIONS, axis=1),
        actions=np.repeat(-number[:, None], ACTIONS, axis=1),
        rewards=number,
        next_observations=np.repeat(number[:, None] + 0.5, OBSERVATIONS, axis=1),
        terminated=(number % 2).astype(np.float32),
    )


def numbers_in(buffer: ReplayBuffer) -> set[int]:
    sampled = buffer.sample(4000, np.random.default_rng(0))
    assert (sampled.observations == sampled.rewards[:, None]).all()
    assert (sampled.actions == -sampled.rewards[:, None]).all()
    assert (sampled.next_observations == sampled.rewards[:, None] + 0.5).all()
    assert (sampled.terminated == sampled.rewards % 2).all()
    return {int(number) for number in sampled.rewards}


def test_holds_the_newest_transitions_after_any_number_of_batches() -> None:
    buffer = ReplayBuffer(50, OBSERVATIONS, ACTIONS)
    everything: list[int] = []
    for count in (1, 7, 30, 20, 50, 3, 49):
        buffer.add_batch(numbered(len(everything), count))
        everything += range(len(everything), len(everything) + count)
        assert len(buffer) == min(len(everything), 50)
        assert numbers_in(buffer) == set(everything[-50:])


def test_samples_uniformly() -> None:
    buffer = ReplayBuffer(10, OBSERVATIONS, ACTIONS)
    buffer.add_batch(numbered(0, 10))
    counts = Counter(buffer.sample(10_000, np.random.default_rng(1)).rewards.tolist())
    # 1000 expected each, standard deviation sqrt(10000 * 0.1 * 0.9) = 30
    assert len(counts) == 10
    assert all(abs(count - 1000) < 5 * 30 for count in counts.values())


def test_the_same_generator_gives_the_same_batch() -> None:
    buffer = ReplayBuffer(10, OBSERVATIONS, ACTIONS)
    buffer.add_batch(numbered(0, 10))
    batches = [buffer.sample(5, np.random.default_rng(3)).rewards for _ in range(2)]
    assert (batches[0] == batches[1]).all()


def test_saved_buffer_goes_on_where_it_stopped(tmp_path: Path) -> None:
    buffer = ReplayBuffer(50, OBSERVATIONS, ACTIONS)
    for first in range(0, 72, 12):
        buffer.add_batch(numbered(first, 12))
    buffer.save(tmp_path)
    restored = ReplayBuffer(50, OBSERVATIONS, ACTIONS)
    restored.load(tmp_path)
    assert numbers_in(restored) == set(range(22, 72))
    restored.add_batch(numbered(72, 10))
    assert numbers_in(restored) == set(range(32, 82))


def test_a_smaller_buffer_takes_the_newest_of_a_saved_one(tmp_path: Path) -> None:
    buffer = ReplayBuffer(50, OBSERVATIONS, ACTIONS)
    buffer.add_batch(numbered(0, 40))
    buffer.save(tmp_path)
    smaller = ReplayBuffer(8, OBSERVATIONS, ACTIONS)
    smaller.load(tmp_path)
    assert numbers_in(smaller) == set(range(32, 40))


def test_an_empty_buffer_survives_saving_but_cannot_be_sampled(tmp_path: Path) -> None:
    ReplayBuffer(50, OBSERVATIONS, ACTIONS).save(tmp_path)
    restored = ReplayBuffer(50, OBSERVATIONS, ACTIONS)
    restored.load(tmp_path)
    with pytest.raises(ValueError, match="empty"):
        restored.sample(1, np.random.default_rng(0))


def test_refuses_another_tasks_content(tmp_path: Path) -> None:
    ReplayBuffer(50, OBSERVATIONS, ACTIONS).save(tmp_path)
    with pytest.raises(DataError, match="not a replay buffer of this task"):
        ReplayBuffer(50, OBSERVATIONS + 1, ACTIONS).load(tmp_path)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    buffer = ReplayBuffer(50, OBSERVATIONS, ACTIONS)
    buffer.add_batch(numbered(0, 40))
    buffer.save(tmp_path)
    path = tmp_path / "rewards.npy"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(DataError, match="no whole replay buffer"):
        buffer.load(tmp_path)


def test_memory_is_that_of_the_numbers_also_while_saving(tmp_path: Path) -> None:
    capacity = 20_000
    tracemalloc.start()
    buffer = ReplayBuffer(capacity, OBSERVATIONS, ACTIONS)
    for first in range(0, capacity + 100, 100):
        buffer.add_batch(numbered(first, 100))
    buffer.save(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    arithmetic = capacity * 4 * (OBSERVATIONS + ACTIONS + 1 + OBSERVATIONS + 1)  # float32: s, a, r, s' and the end
    assert buffer.nbytes == arithmetic
    assert peak < 1.2 * arithmetic


def test_refuses_a_batch_that_cannot_fit() -> None:
    with pytest.raises(ValueError, match="11 transitions do not fit"):
        ReplayBuffer(10, OBSERVATIONS, ACTIONS).add_batch(numbered(0, 11))
