"""The replay buffer of frames, held against whole episodes: every frame is a number that nothing else shares."""

import tracemalloc
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from datamodules.errors import DataError
from rllib_envs.frame_replay import FrameReplayBuffer, FrameSteps
from rllib_envs.replay import Transitions

PIXELS = 2
Numbers = tuple[int, ...]


def coded(number: int) -> NDArray[np.uint8]:
    """A frame that is this number, in its first two values."""
    frame = np.zeros((PIXELS, PIXELS, 3), np.uint8)
    frame[0, 0, :2] = divmod(number, 256)
    return frame


def decoded(stacks: NDArray[np.uint8]) -> list[Numbers]:
    """The numbers in stacks (N, P, P, 9), oldest frame first."""
    return [tuple(int(row[3 * k]) * 256 + int(row[3 * k + 1]) for k in range(3)) for row in stacks[:, 0, 0]]


@dataclass
class Recorded:
    """Everything that was ever delivered: the buffer's rows by hand, and what each of them is made of."""

    rows: list[tuple[Numbers, Numbers] | None] = field(default_factory=list)
    """stacks before and after, by frame; None: the first frame of an episode"""
    at: dict[int, int] = field(default_factory=dict)
    """the row of each frame"""
    episodes: dict[str, list[int]] = field(default_factory=dict)
    """the frames of each episode"""

    def deliver(self, episode: str, length: int) -> FrameSteps:
        frames = self.episodes.setdefault(episode, [])
        if not frames:
            self._append(frames, None)
        first = frames[-1]
        for _ in range(length):
            before = [frames[0], frames[0], *frames][-3:]
            new = len(self.rows)
            self._append(frames, (tuple(before), (*before[1:], new)))
        new = np.array(frames[-length:], np.float32)
        return FrameSteps(
            frames=np.stack([coded(number) for number in frames[-length:]]),
            actions=-new[:, None],
            rewards=new,
            terminated=new % 2,
            first_frames=coded(first)[None],
            lengths=(length,),
            episodes=(episode,),
        )

    def _append(self, frames: list[int], stacks: tuple[Numbers, Numbers] | None) -> None:
        self.at[len(self.rows)] = len(self.rows)
        frames.append(len(self.rows))
        self.rows.append(stacks)

    def whole(self, capacity: int) -> set[tuple[Numbers, Numbers]]:
        """The transitions all of whose frames are among the newest rows."""
        oldest = max(0, len(self.rows) - capacity)
        return {row for row in self.rows[oldest:] if row is not None and min(row[0]) >= oldest}


def together(pieces: list[FrameSteps]) -> FrameSteps:
    joined = {
        name: np.concatenate([getattr(piece, name) for piece in pieces])
        for name in ("frames", "actions", "rewards", "terminated", "first_frames")
    }
    return FrameSteps(
        **joined,
        lengths=tuple(length for piece in pieces for length in piece.lengths),
        episodes=tuple(episode for piece in pieces for episode in piece.episodes),
    )


def transitions_in(sampled: Transitions) -> list[tuple[Numbers, Numbers]]:
    """Checks that the columns of each transition belong together."""
    after = decoded(sampled.next_observations)
    newest = np.array([stack[-1] for stack in after])
    np.testing.assert_array_equal(sampled.rewards, newest)
    np.testing.assert_array_equal(sampled.actions[:, 0], -newest)
    np.testing.assert_array_equal(sampled.terminated, newest % 2)
    return list(zip(decoded(sampled.observations), after, strict=True))


def sampled_from(buffer: FrameReplayBuffer) -> set[tuple[Numbers, Numbers]]:
    return set(transitions_in(buffer.sample(1500, np.random.default_rng(0))))


def test_stacks_are_those_of_the_episode_whose_start_repeats_its_first_frame() -> None:
    record, buffer = Recorded(), FrameReplayBuffer(50, PIXELS, 1)
    buffer.add_batch(record.deliver("one", 4))
    first, second, third, fourth = (0, 0, 0), (0, 0, 1), (0, 1, 2), (1, 2, 3)
    assert sampled_from(buffer) == {(first, second), (second, third), (third, fourth), (fourth, (2, 3, 4))}
    buffer.add_batch(record.deliver("two", 1))
    assert ((5, 5, 5), (5, 5, 6)) in sampled_from(buffer)


def test_interleaved_episodes_stay_apart_however_often_the_ring_wraps() -> None:
    generator = np.random.default_rng(0)
    record, buffer = Recorded(), FrameReplayBuffer(60, PIXELS, 1)
    playing, begun = ["0", "1", "2"], 3
    for _ in range(50):
        pieces = []
        for place, episode in enumerate(playing):
            pieces.append(record.deliver(episode, int(generator.integers(1, 5))))
            if generator.random() < 0.2:  # it ends here, and another one starts
                playing[place], begun = str(begun), begun + 1
        rows = buffer.add_batch(together(pieces))
        assert len(buffer) == min(len(record.rows), 60)
        assert sampled_from(buffer) == record.whole(60)
        np.testing.assert_array_equal(buffer._columns["rewards"][rows], together(pieces).rewards)
    assert len(record.rows) > 4 * 60
    assert len(buffer._seen) < 60  # ended episodes are forgotten


def test_samples_whole_transitions_uniformly() -> None:
    record, buffer = Recorded(), FrameReplayBuffer(10, PIXELS, 1)
    for _ in range(3):
        buffer.add_batch(record.deliver("one", 10))
    counts = Counter(transitions_in(buffer.sample(7000, np.random.default_rng(1))))
    # of 10 frames the first three have no whole stack before them; 1000 expected each, deviation sqrt(7000 / 7 * 6 / 7)
    assert counts.keys() == record.whole(10)
    assert len(counts) == 7
    assert all(abs(count - 1000) < 5 * 29.3 for count in counts.values())


def test_an_episode_that_paused_for_longer_than_the_ring_starts_anew() -> None:
    record, buffer = Recorded(), FrameReplayBuffer(20, PIXELS, 1)
    buffer.add_batch(record.deliver("paused", 3))
    buffer.add_batch(record.deliver("other", 15))
    buffer.add_batch(record.deliver("other", 15))
    buffer.add_batch(record.deliver("paused", 2))
    last = len(record.rows) - 1
    assert ((3, 3, last - 1), (3, last - 1, last)) in sampled_from(buffer)


def test_saved_buffer_goes_on_where_it_stopped(tmp_path: Path) -> None:
    record, buffer = Recorded(), FrameReplayBuffer(50, PIXELS, 1)
    for _ in range(6):
        for episode in ("one", "two"):
            buffer.add_batch(record.deliver(episode, 6))
    buffer.save(tmp_path)
    restored = FrameReplayBuffer(50, PIXELS, 1)
    restored.load(tmp_path)
    assert sampled_from(restored) == record.whole(50)
    restored.add_batch(record.deliver("three", 20))  # simulators start anew, and their episodes with them
    assert sampled_from(restored) == record.whole(50)
    smaller = FrameReplayBuffer(30, PIXELS, 1)
    restored.save(tmp_path)
    smaller.load(tmp_path)
    assert sampled_from(smaller) == record.whole(30)


def test_without_a_whole_transition_there_is_nothing_to_sample() -> None:
    with pytest.raises(ValueError, match="no whole transition"):
        FrameReplayBuffer(50, PIXELS, 1).sample(1, np.random.default_rng(0))


def test_refuses_frames_of_another_size(tmp_path: Path) -> None:
    FrameReplayBuffer(50, PIXELS, 1).save(tmp_path)
    with pytest.raises(DataError, match="not a replay buffer of this task"):
        FrameReplayBuffer(50, PIXELS + 1, 1).load(tmp_path)


def test_rewards_can_be_replaced_by_row() -> None:
    record, buffer = Recorded(), FrameReplayBuffer(8, PIXELS, 1)
    buffer.add_batch(record.deliver("one", 6))
    rows = buffer.add_batch(record.deliver("one", 4))
    buffer.reward_again(rows, np.full(4, 500.0))
    sampled = buffer.sample(500, np.random.default_rng(0))
    newest = np.array([stack[-1] for stack in decoded(sampled.next_observations)])
    np.testing.assert_array_equal(sampled.rewards, np.where(newest >= 7, 500.0, newest))


def test_memory_is_one_frame_a_decision_and_a_tenth_more_at_most(tmp_path: Path) -> None:
    capacity, pixels, steps = 500, 84, 25
    frames = np.zeros((steps, pixels, pixels, 3), np.uint8)
    plain = np.zeros(steps, np.float32)
    tracemalloc.start()
    buffer = FrameReplayBuffer(capacity, pixels, 6)
    for number in range(capacity // steps):
        buffer.add_batch(
            FrameSteps(
                frames, np.zeros((steps, 6), np.float32), plain, plain, frames[:1], (steps,), (str(number // 5),)
            )
        )
    buffer.save(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    a_frame = pixels * pixels * 3
    assert buffer.nbytes <= 1.1 * capacity * a_frame
    assert peak <= 1.1 * capacity * a_frame + 4 * steps * a_frame  # the last batch on its way
