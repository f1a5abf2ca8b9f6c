"""A reward function whose answers cannot harm an agent."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from datamodules.errors import DataError

if TYPE_CHECKING:  # brings torch, which the true reward can do without
    from lightning_modules.reward_function import RewardFunction

NEUTRAL_REWARD = 0.0  # standardised rewards have mean 0
MOST_NON_FINITE_CALLS = 100


class FiniteReward:
    """Calls a reward function and keeps what it cannot use from the agent.

    A reward that is not finite would destroy the agent's weights for good: it becomes 0 and is counted, and a hundred
    calls in a row with such a reward raise DataError.
    """

    def __init__(self, reward: "RewardFunction") -> None:
        self.non_finite_rewards = 0
        self._reward = reward
        self._calls_in_a_row = 0

    def replace(self, reward: "RewardFunction") -> None:
        """Call another reward function from now on; the count goes on."""
        self._reward = reward
        self._calls_in_a_row = 0

    def __call__(self, frames: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Score frames uint8 (B, H, W, 3). Returns float64 (B,)."""
        rewards = np.asarray(self._reward(frames), dtype=np.float64)
        if rewards.shape != (len(frames),):
            raise DataError(
                f"the reward function gave shape {rewards.shape} for {len(frames)} frames: "
                f"it must give one number a frame, shape {(len(frames),)}"
            )
        usable = np.isfinite(rewards)
        if usable.all():
            self._calls_in_a_row = 0
            return rewards
        self.non_finite_rewards += int((~usable).sum())
        self._calls_in_a_row += 1
        if self._calls_in_a_row >= MOST_NON_FINITE_CALLS:
            raise DataError(
                f"the reward function gave NaN or infinity in {self._calls_in_a_row} calls in a row: "
                "fit the student again, or check the teacher's weights and the prompts"
            )
        return np.where(usable, rewards, NEUTRAL_REWARD)
