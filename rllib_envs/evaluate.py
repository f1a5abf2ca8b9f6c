"""How good is a trained agent? Its true return over named seeds, a random policy's beside it, and a video.

No Ray here: the policy is read from `policy.safetensors`.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from datamodules.errors import SettingsError
from datamodules.progress import Report, progress_bar, silent
from datamodules.results import write_result
from rllib_envs.agent_files import AgentCard, Policy, load_policy
from rllib_envs.agent_reward import check_reward, make_reward
from rllib_envs.play import Returns, play_episodes
from rllib_envs.reward_env import RewardVectorEnv
from rllib_envs.threads import torch_threads
from rllib_envs.video import record_episode

MOST_SIDE_BY_SIDE = 8
RANDOM_EPISODES = 100
"""episodes of the random policy: its returns scatter widely, and without a frame to draw they cost little"""
VIDEO = "agent.mp4"


@dataclass(frozen=True)
class EvaluationResult:
    """An agent's returns, one an episode, in the order of the seeds."""

    true_returns: list[float]
    """the simulator's own reward, summed over all frames"""
    learned_returns: list[float]
    """what the agent was trained on, summed over all decisions"""
    random_returns: list[float]
    """true returns of a policy that acts at random, on `RANDOM_EPISODES` seeds from the first one on"""
    seeds: list[int]
    """what each episode started from"""
    seconds: float
    """duration of the evaluation"""


def evaluate_agent(agent: Path, seeds: Sequence[int], out: Path, report: Report = silent) -> EvaluationResult:
    """Play one episode a seed, record the first one, and write `result.json` and `agent.mp4`.

    Args:
        agent: folder written by `train_agent`.
        seeds: one episode each; seeds from 1,000,000 on start no training episode.
        out: folder for the result and the video.
        report: called with the episodes done and to do.

    Raises:
        DataError: the folder holds no agent, or its student is missing.
        SettingsError: no seeds are given.
    """
    if not seeds:
        raise SettingsError("no seeds are given: evaluation needs at least one episode")
    start = time.monotonic()
    card = check_reward(AgentCard.read(agent))
    total = len(seeds) + RANDOM_EPISODES + 1
    with torch_threads():
        learned = _play(agent, card, seeds)
        report(len(seeds), total, "agent played")
        chance = _play_randomly(card, range(seeds[0], seeds[0] + RANDOM_EPISODES))
        report(total - 1, total, "random policy played")
        environment = RewardVectorEnv(card.task, 1, make_reward(card))
        record_episode(environment, _policy(agent, card, environment), seeds[0], out / VIDEO)
        environment.close()
    report(total, total, "video recorded")
    result = EvaluationResult(
        true_returns=learned.true,
        learned_returns=learned.learned,
        random_returns=chance.true,
        seeds=list(seeds),
        seconds=time.monotonic() - start,
    )
    write_result(out, asdict(result), {"agent": str(agent), "seeds": list(seeds)})
    return result


def evaluate_folder(agent: Path, out: Path, episodes: int, first_seed: int) -> Path:
    """What scripts.evaluate_agent does: evaluate with a progress bar. Returns the path of `result.json`."""
    if episodes < 1:
        raise SettingsError(f"episodes is {episodes}: it must be at least 1")
    with progress_bar("evaluate", "episodes") as report:
        evaluate_agent(agent, range(first_seed, first_seed + episodes), out, report)
    return out / "result.json"


def random_policy(environment: RewardVectorEnv, seed: int) -> Policy:
    """Uniformly random actions, of their own generator."""
    environment.action_space.seed(seed)
    return lambda observations: np.asarray(environment.action_space.sample())


def _play(agent: Path, card: AgentCard, seeds: Sequence[int]) -> Returns:
    environment = RewardVectorEnv(card.task, min(len(seeds), MOST_SIDE_BY_SIDE), make_reward(card))
    returns = play_episodes(environment, _policy(agent, card, environment), seeds)
    environment.close()
    return returns


def _play_randomly(card: AgentCard, seeds: Sequence[int]) -> Returns:
    # Under the same rules as the agent, but nothing has to be drawn for it.
    environment = RewardVectorEnv(card.task, min(len(seeds), MOST_SIDE_BY_SIDE), None)
    returns = play_episodes(environment, random_policy(environment, seeds[0]), seeds)
    environment.close()
    return returns


def _policy(agent: Path, card: AgentCard, environment: RewardVectorEnv) -> Policy:
    observations, actions = environment.single_observation_space, environment.single_action_space
    return load_policy(agent, card, observations, actions)
