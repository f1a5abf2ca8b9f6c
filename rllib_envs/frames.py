"""What simulators look like now: drawn once a decision, for the reward and for an agent that sees pixels."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from rllib_envs.gl import require_gl
from rllib_envs.simulators import Simulator

STACKED = 3
"""frames that an agent sees at once, as in DrQ-v2 (Yarats et al. 2021, arXiv 2107.09645): one alone shows no speed"""


class Frames:
    """Draws the present states of simulators of one task, at the size that students see."""

    def __init__(self, simulators: Sequence[Simulator]) -> None:
        require_gl()
        self._simulators = simulators
        pixels = simulators[0].task.render.frame_pixels
        self._drawn = np.empty((len(simulators), pixels, pixels, 3), np.uint8)

    def draw(self, rows: NDArray[np.intp]) -> NDArray[np.uint8]:
        """Frames of the simulators with these numbers, uint8 (len(rows), P, P, 3); the next call overwrites them."""
        frames = self._drawn[: len(rows)]
        for frame, row in zip(frames, rows, strict=True):
            self._simulators[row].render(frame.shape[0], out=frame)
        return frames


class FrameStacks:
    """The newest `STACKED` frames of each of M simulators, one after another in the channels, the newest last."""

    def __init__(self, count: int, pixels: int) -> None:
        self.space = spaces.Box(0, 255, (pixels, pixels, 3 * STACKED), np.uint8)
        self._stacks = np.zeros((count, *self.space.shape), np.uint8)

    def push(self, frames: NDArray[np.uint8], started: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """Add a frame to every stack; a started episode's first frame stands for those before it, as in DrQ-v2.

        Args:
            frames: uint8 (M, P, P, 3).
            started: bool (M,), whether the frame is the first of an episode.

        Returns:
            Stacks uint8 (M, P, P, 9), which later calls leave alone.
        """
        stacks = np.concatenate((self._stacks[..., 3:], frames), axis=-1)
        stacks[started] = np.tile(frames[started], STACKED)
        self._stacks = stacks
        return stacks.copy()


def shows_frames(space: spaces.Space[Any]) -> bool:
    """Whether observations of this space are stacked frames, and not states."""
    return space.dtype == np.uint8 and len(space.shape or ()) == 3
