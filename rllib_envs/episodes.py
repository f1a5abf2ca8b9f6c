"""The rules of an episode on top of a simulator: when it ends, and what the true reward of a step is."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rllib_envs.simulators import Simulator


@dataclass(frozen=True)
class Step:
    """What an agent is told after one decision, but for the learned reward."""

    observation: NDArray[np.float32]
    """float32 (O,)"""
    true_reward: float
    """the simulator's own reward of this step; 0 once the simulator's own episode is over"""
    terminated: bool
    """the simulator ended the episode"""
    truncated: bool
    """the time limit ended it"""


class Episode:
    """One simulator that is stepped from reset to the end of an episode.

    With `fixed_length` only the time limit ends an episode: where the reward is learned, an episode that ends early or
    late would tell the sign of the reward. The simulator plays on after its own end, without true reward from there.
    Where the physics breaks, the episode is cut short, as if nothing had moved: the new start is not what it led to.
    """

    def __init__(self, simulator: Simulator, fixed_length: bool) -> None:
        self.simulator = simulator
        self._fixed_length = fixed_length
        self._steps = 0
        self._over = False
        self._before = np.empty(0, np.float32)

    def reset(self, seed: int | None) -> NDArray[np.float32]:
        """Start again; returns the observation, float32 (O,)."""
        self._steps = 0
        self._over = False
        self._before = self.simulator.reset(seed)
        return self._before

    def step(self, action: Any) -> Step:
        """Take one agent decision."""
        outcome = self.simulator.step(action)
        true_reward = 0.0 if self._over else outcome.true_reward
        self._steps += 1
        self._over = self._over or outcome.terminated
        terminated = self._over and not self._fixed_length
        cut = outcome.broken or self._steps >= self.simulator.task.episode_steps
        if not (outcome.broken and self._fixed_length):
            self._before = outcome.observation
        return Step(self._before, true_reward, terminated, truncated=cut and not terminated)
