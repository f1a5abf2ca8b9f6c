"""What an episode looked like, in one picture: frames evenly spread over it, row by row."""

import numpy as np
from numpy.typing import NDArray

from rllib_envs.reward_env import RewardVectorEnv

SIDE = 3
"""frames in a row, and rows"""


class ContactSheet:
    """Draws the first simulator of an environment while an episode is played."""

    def __init__(self, environment: RewardVectorEnv) -> None:
        """Begin with a white sheet; the episode is the environment's next one."""
        self._environment, self._pixels = environment, environment.task.render.frame_pixels
        self._due = np.linspace(0, environment.task.episode_steps, SIDE**2 + 1).round()[1:].astype(int).tolist()
        self._steps, self._ended = 0, False
        self._frames: list[NDArray[np.uint8]] = []

    def after_step(self) -> None:
        """Draw the present state if its turn has come; the last one of an episode that ends early is drawn, too."""
        if self._ended:
            return
        self._steps += 1
        self._ended = bool(self._environment.ended[0])
        if self._steps in self._due or self._ended:
            self._frames.append(self._environment.render()[0].copy())

    def picture(self) -> NDArray[np.uint8]:
        """The frames so far, uint8 (SIDE x P, SIDE x P, 3); white where there was none."""
        tiles = np.full((SIDE**2, self._pixels, self._pixels, 3), 255, np.uint8)
        tiles[: len(self._frames)] = self._frames[: SIDE**2]
        rows = tiles.reshape(SIDE, SIDE, *tiles.shape[1:]).swapaxes(1, 2)
        return rows.reshape(SIDE * self._pixels, SIDE * self._pixels, 3)
