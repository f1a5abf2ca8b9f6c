"""Where SAC's transitions come from: RLlib's env runner, asked in one call for all that a step of training needs.

An env runner lives in the learner's process, or in one of its own and steps ahead while the learner updates.
"""

import rllib_envs.before_rllib  # noqa: F401  # isort: skip

import time
import traceback
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import ray
import torch
from ray.rllib.env.env_runner_group import EnvRunnerGroup
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME

from datamodules.errors import SuiteError, mistake_behind
from rllib_envs.costs import Costs, PeakMemory
from rllib_envs.frame_replay import FrameSteps
from rllib_envs.frames import shows_frames
from rllib_envs.replay import Transitions
from rllib_envs.reward_env import SEEDS_PER_RUNNER, RewardVectorEnv
from rllib_envs.threads import THREADS
from rllib_envs.visits import Visits

if TYPE_CHECKING:
    from lightning_modules.reward_function import RewardFunction

POLL_SECONDS = 0.002
"""how long the learner waits between two looks at what env runners have finished"""
SAMPLE = "sample"


@dataclass(frozen=True)
class Reward:
    """Which reward the environments call."""

    version: int = 0
    """0 is the one that the environments were made with"""
    make: "Callable[[], RewardFunction] | None" = None
    """makes the reward function in the process of the environments; None only in version 0"""


@dataclass(frozen=True)
class Request:
    """What an env runner is told before it steps, so that a new one knows as much as the one it replaces."""

    steps: int
    """agent decisions of all runners so far"""
    reward: Reward
    weights: "ray.ObjectRef | None" = None
    """the policy's present state, for runners in other processes; None before the first update"""


@dataclass(frozen=True)
class Sampled:
    """What one call of an env runner gave."""

    transitions: Transitions | FrameSteps
    metrics: Any
    """RLlib's own, for its results"""
    costs: Costs
    """what these steps cost"""
    non_finite_rewards: int
    """rewards among them that were NaN or infinite and were replaced"""
    runner: int
    """number of the env runner; 0 is the one in the learner's process"""
    memory: PeakMemory
    """what its process has held at most"""
    reward_version: int = 0
    """which reward they have"""
    visits: Visits | None = None
    """the state that each of the transitions led to; None where nobody wants them"""


@dataclass(frozen=True)
class Failure:
    """An exception in another process, as text: RLlib would restart that process and lose what was wrong."""

    message: str
    mistake: bool
    """whether it is a SuiteError"""


class SacEnvRunner(SingleAgentEnvRunner):  # type: ignore[misc]  # ray ships no types
    """RLlib's env runner, with simulators whose seeds are its own and a reward that can change."""

    def __init__(self, *, worker_index: int, **kwargs: Any) -> None:
        if worker_index:  # a process of its own
            torch.set_num_threads(THREADS)
        super().__init__(worker_index=worker_index, **kwargs)
        if self._seed is not None:
            # RLlib's next runner has the next seed, and so would most of its simulators have those of this runner's
            self._seed += worker_index * (SEEDS_PER_RUNNER - 1)
        self._weights: ray.ObjectRef | None = None

    def sample_transitions(self, request: Request) -> Sampled:
        """Step the simulators for `rollout_fragment_length` decisions each."""
        environment = self.env.unwrapped
        if isinstance(environment, RewardVectorEnv) and environment.reward_version != request.reward.version:
            if request.reward.make is None:
                raise SuiteError(
                    f"the training was stopped with version {request.reward.version} of its reward: "
                    "hand that reward to `set_reward` before it goes on"
                )
            environment.set_reward(request.reward.make(), request.reward.version)
        self.set_state({NUM_ENV_STEPS_SAMPLED_LIFETIME: request.steps})  # until when to act at random
        if request.weights is not None and request.weights != self._weights:
            self.set_state(ray.get(request.weights))
            self._weights = request.weights
        before, non_finite = costs_of(environment)
        episodes = self.sample()
        after, non_finite_after = costs_of(environment)
        return Sampled(
            self._steps_of(episodes),
            self.get_metrics(),
            after - before,
            non_finite_after - non_finite,
            self.worker_index,
            PeakMemory.of_this_process(),
            request.reward.version,
            _visits_of(environment, episodes),
        )

    def _steps_of(self, episodes: list[SingleAgentEpisode]) -> Transitions | FrameSteps:
        if not shows_frames(self.env.single_observation_space):
            return transitions_of(episodes)
        steps = frame_steps_of(episodes)
        forget_frames(episodes)
        return steps


def costs_of(environment: Any) -> tuple[Costs, int]:
    """What an environment has cost so far, and how many of its rewards were not finite."""
    if isinstance(environment, RewardVectorEnv):
        return replace(environment.costs), environment.non_finite_rewards
    return Costs(), 0


def _visits_of(environment: Any, episodes: list[SingleAgentEpisode]) -> Visits | None:
    """What the transitions of these episodes led to, in the order of `transitions_of`."""
    log = getattr(environment, "visits", None)
    if log is None:
        return None
    chunks = [episode for episode in episodes if len(episode)]
    # the first info of a chunk belongs to the step before it
    visits: Visits = log.take(
        [info["visit"] for chunk in chunks for info in chunk.get_infos()[1:]],
        [zlib.crc32(chunk.id_.encode()) for chunk in chunks for _ in range(len(chunk))],
    )
    return visits


def sample_or_tell(runner: SacEnvRunner, request: Request) -> Sampled | Failure:
    """`sample_transitions` in another process."""
    try:
        return runner.sample_transitions(request)
    except Exception as error:  # whatever it was, it is raised again where the learner is
        mistake = mistake_behind(error)
        return Failure(str(mistake) if mistake else traceback.format_exc(), mistake is not None)


def sample_from(group: EnvRunnerGroup, request: Request, timeout_seconds: float) -> list[Sampled]:
    """Transitions of the local env runner or, where there are others, of those that are ready first.

    These are asked for the next ones at once, and step while the caller learns from the first: one call ahead, no
    more. A runner that dies is left out until RLlib has restarted it. Raises what went wrong in an environment.
    """
    if not group.num_remote_workers():
        return [group.local_env_runner.sample_transitions(request)]
    ask = {"func": sample_or_tell, "tag": SAMPLE, "kwargs": {"request": request}}
    group.foreach_env_runner_async(**ask)
    deadline = time.monotonic() + timeout_seconds
    answers: list[Sampled | Failure] = []
    while not answers and group.num_healthy_remote_workers() and time.monotonic() < deadline:
        fetched = group.fetch_ready_async_reqs(tags=SAMPLE, timeout_seconds=POLL_SECONDS)
        answers = [answer for _, answer in fetched]
    group.foreach_env_runner_async(**ask)
    sampled: list[Sampled] = []
    for answer in answers:
        if isinstance(answer, Failure):
            raise SuiteError(answer.message) if answer.mistake else RuntimeError(f"in an env runner:\n{answer.message}")
        sampled.append(answer)
    return sampled


def transitions_of(episodes: list[SingleAgentEpisode]) -> Transitions:
    """The transitions of RLlib's episode chunks.

    The env runner has already dropped the dummy step in which a NEXT_STEP vector environment resets, so that each
    chunk's last observation is the one its last action led to. Only termination, not truncation, ends the future.
    """
    chunks = [episode for episode in episodes if len(episode)]
    observations = [np.asarray(chunk.get_observations(), np.float32) for chunk in chunks]
    return Transitions(
        observations=np.concatenate([each[:-1] for each in observations]),
        next_observations=np.concatenate([each[1:] for each in observations]),
        **_outcomes_of(chunks),
    )


def frame_steps_of(episodes: list[SingleAgentEpisode]) -> FrameSteps:
    """The same of an agent that sees pixels: of each stack only the frame that is new in it."""
    chunks = [episode for episode in episodes if len(episode)]
    newest = [np.asarray(chunk.get_observations())[..., -3:] for chunk in chunks]
    return FrameSteps(
        frames=np.concatenate([frames[1:] for frames in newest]),
        first_frames=np.stack([frames[0] for frames in newest]),
        lengths=tuple(len(chunk) for chunk in chunks),
        episodes=tuple(chunk.id_ for chunk in chunks),
        **_outcomes_of(chunks),
    )


def forget_frames(episodes: list[SingleAgentEpisode]) -> None:
    """Drop the observations of these chunks, which RLlib keeps until the episode's end to measure its length."""
    for chunk in episodes:
        chunk.observations.data = chunk.observations.data[:0]


def _outcomes_of(chunks: list[SingleAgentEpisode]) -> dict[str, Any]:
    terminated = [np.zeros(len(chunk), np.float32) for chunk in chunks]
    for chunk, flags in zip(chunks, terminated, strict=True):
        flags[-1] = chunk.is_terminated
    actions = np.concatenate([np.asarray(chunk.get_actions(), np.float32) for chunk in chunks])
    return {
        "actions": actions.reshape(len(actions), -1),
        "rewards": np.concatenate([np.asarray(chunk.get_rewards(), np.float32) for chunk in chunks]),
        "terminated": np.concatenate(terminated),
    }
