"""Play whole episodes with a policy, and add up both returns."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rllib_envs.agent_files import Policy
from rllib_envs.reward_env import RewardVectorEnv


@dataclass(frozen=True)
class Returns:
    """Returns of episodes, in the order of their seeds."""

    true: list[float]
    """the simulator's own reward, summed over all frames of an episode"""
    learned: list[float]
    """the environment's reward, summed over the decisions of the same episode"""
    steps: int
    """agent decisions in all episodes together"""


def play_episodes(environment: RewardVectorEnv, policy: Policy, seeds: Sequence[int]) -> Returns:
    """Play one episode a seed, as many side by side as the environment holds."""
    true: list[float] = []
    learned: list[float] = []
    steps = 0
    for start in range(0, len(seeds), environment.num_envs):
        chosen = list(seeds[start : start + environment.num_envs])
        idle = environment.num_envs - len(chosen)  # the last round may be smaller; its spare simulators do not count
        observations, _ = environment.reset(seed=[*chosen, *chosen[:1] * idle])
        running = np.arange(environment.num_envs) < len(chosen)
        true_returns, learned_returns = np.zeros(environment.num_envs), np.zeros(environment.num_envs)
        while running.any():
            observations, rewards, terminated, truncated, infos = environment.step(policy(observations))
            true_returns += np.where(running, infos["true_reward"], 0.0)
            learned_returns += np.where(running, rewards, 0.0)
            steps += int(running.sum())
            running &= ~(terminated | truncated)
        true += true_returns[: len(chosen)].tolist()
        learned += learned_returns[: len(chosen)].tolist()
    return Returns(true, learned, steps)
