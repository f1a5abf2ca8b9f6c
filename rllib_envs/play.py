"""Play whole episodes with a policy, and keep what every reward said of every decision."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rllib_envs.agent_files import Policy
from rllib_envs.judges import Judge
from rllib_envs.reward_env import RewardVectorEnv

Rewards = NDArray[np.float64]


@dataclass(frozen=True)
class PlayedEpisode:
    """The rewards of one episode, an entry a decision; T decisions from its start to its end."""

    true: Rewards
    """(T,) the simulator's own reward, summed over the frames of a decision"""
    learned: Rewards
    """(T,) the environment's reward"""
    judged: dict[str, Rewards] = field(default_factory=dict)
    """(T,) by name, what those said who only looked on"""


@dataclass(frozen=True)
class Returns:
    """Episodes in the order of their seeds."""

    episodes: tuple[PlayedEpisode, ...]
    """decision by decision"""

    @property
    def true(self) -> list[float]:
        """The simulator's own reward, summed over all frames of an episode."""
        return [float(episode.true.sum()) for episode in self.episodes]

    @property
    def learned(self) -> list[float]:
        """The environment's reward, summed over the decisions of the same episode."""
        return [float(episode.learned.sum()) for episode in self.episodes]

    @property
    def steps(self) -> int:
        """Agent decisions in all episodes together."""
        return sum(episode.true.size for episode in self.episodes)

    def judged(self, name: str) -> list[float] | None:
        """What a judge said, summed over the decisions of the same episode; None where there was no such judge."""
        if not all(name in episode.judged for episode in self.episodes):
            return None
        return [float(episode.judged[name].sum()) for episode in self.episodes]


def play_episodes(
    environment: RewardVectorEnv,
    policy: Policy,
    seeds: Sequence[int],
    judges: Mapping[str, Judge] | None = None,
    after_step: Callable[[], None] | None = None,
) -> Returns:
    """Play one episode a seed, as many side by side as the environment holds.

    Args:
        environment: where to play.
        policy: what acts.
        seeds: what each episode starts from.
        judges: rewards that score the same frames and decide nothing, by name.
        after_step: called after every step of the simulators, before they go on, as to draw them.
    """
    episodes: list[PlayedEpisode] = []
    for start in range(0, len(seeds), environment.num_envs):
        chosen = list(seeds[start : start + environment.num_envs])
        episodes += _play_round(environment, policy, chosen, judges or {}, after_step)
    return Returns(tuple(episodes))


def _play_round(
    environment: RewardVectorEnv,
    policy: Policy,
    seeds: list[int],
    judges: Mapping[str, Judge],
    after_step: Callable[[], None] | None,
) -> list[PlayedEpisode]:
    """One episode a seed, all at once; simulators that no seed is left for do not count."""
    observations, _ = environment.reset(seed=[*seeds, *seeds[:1] * (environment.num_envs - len(seeds))])
    running = np.arange(environment.num_envs) < len(seeds)
    lengths = np.zeros(environment.num_envs, dtype=np.int64)
    steps: dict[str, list[Rewards]] = {name: [] for name in ("true", "learned", *judges)}
    while running.any():
        observations, rewards, terminated, truncated, infos = environment.step(policy(observations))
        steps["true"].append(infos["true_reward"])
        steps["learned"].append(rewards)
        for name, judge in judges.items():
            steps[name].append(judge(environment, running))
        if after_step is not None:
            after_step()
        lengths += running
        running &= ~(terminated | truncated)
    rows = {name: np.stack(values) for name, values in steps.items()}

    def episode(index: int) -> PlayedEpisode:
        own = {name: values[: lengths[index], index] for name, values in rows.items()}
        return PlayedEpisode(own["true"], own["learned"], {name: own[name] for name in judges})

    return [episode(index) for index in range(len(seeds))]
