"""Stacks of frames against a sequence written out by hand."""

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from rllib_envs.frames import FrameStacks, shows_frames


def painted(*colours: int) -> NDArray[np.uint8]:
    """One frame of one colour for each simulator."""
    return np.stack([np.full((2, 2, 3), colour, np.uint8) for colour in colours])


def colours_of(stacks: NDArray[np.uint8]) -> list[list[int]]:
    return [[int(stack[0, 0, 3 * place]) for place in range(3)] for stack in stacks]


def test_stacks_hold_the_newest_frames_and_start_with_copies_of_the_first() -> None:
    stacks = FrameStacks(2, pixels=2)
    both, neither = np.array([True, True]), np.array([False, False])
    first = stacks.push(painted(1, 11), both)
    assert colours_of(first) == [[1, 1, 1], [11, 11, 11]]
    assert colours_of(stacks.push(painted(2, 12), neither)) == [[1, 1, 2], [11, 11, 12]]
    assert colours_of(stacks.push(painted(3, 13), np.array([False, True]))) == [[1, 2, 3], [13, 13, 13]]
    assert colours_of(stacks.push(painted(4, 14), neither)) == [[2, 3, 4], [13, 13, 14]]
    assert colours_of(first) == [[1, 1, 1], [11, 11, 11]]  # an agent may keep what it saw
    assert stacks.space.contains(first[0])


def test_colours_of_a_frame_stay_side_by_side() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 1, 4, 4, 3), np.uint8)
    stacks = FrameStacks(1, pixels=4)
    for number, frame in enumerate(frames):
        stack = stacks.push(frame, np.array([number == 0]))
    np.testing.assert_array_equal(stack[0], np.concatenate([frame[0] for frame in frames], axis=-1))


def test_frames_are_told_from_states_by_their_space() -> None:
    assert shows_frames(FrameStacks(1, 8).space)
    assert not shows_frames(spaces.Box(-1.0, 1.0, (8,), np.float32))
    assert not shows_frames(spaces.Box(0, 255, (8,), np.uint8))
