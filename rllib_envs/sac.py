"""Soft actor-critic as an RLlib algorithm: sample, store, update, hand the new policy to the sampler."""

import rllib_envs.before_rllib  # noqa: F401  # isort: skip

import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import ray
import torch
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core import COMPONENT_LEARNER, COMPONENT_RL_MODULE, DEFAULT_MODULE_ID
from ray.rllib.core.learner.training_data import TrainingData
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.env import INPUT_ENV_SINGLE_SPACES
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch
from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS, LEARNER_RESULTS
from ray.tune.registry import register_env

from datamodules.errors import SuiteError
from rllib_envs.callbacks import TrueReturn
from rllib_envs.costs import Costs, PeakMemory
from rllib_envs.frame_replay import FrameReplayBuffer
from rllib_envs.frames import shows_frames
from rllib_envs.replay import Replay, ReplayBuffer
from rllib_envs.reward_env import make_vector_env
from rllib_envs.sac_env_runner import Request, Reward, SacEnvRunner, Sampled, sample_from
from rllib_envs.sac_learner import SacLearner
from rllib_envs.sac_module import SacModule
from rllib_envs.sac_networks import Actor, action_size
from rllib_envs.settings import SacSettings
from rllib_envs.visits import Visited

STEPS_BETWEEN_UPDATES = 16
"""agent decisions between two calls of the learner: enough to share RLlib's bookkeeping, few beside an episode"""

STEPS_OF_A_RUNNER = 64
"""the same for an env runner in a process of its own, where a call also passes between processes"""

MOST_UPDATES_A_CALL = 64
"""gradient steps in one call of the learner, whose batches are drawn together; a single one from pixels, whose batches
are large and whose steps are slow beside the bookkeeping"""

SECONDS_TO_ANSWER = 600.0
"""how long all env runners may keep silent: they may be starting, or asking a large teacher about their frames"""

STEPS_BETWEEN_RESULTS = 256
"""agent decisions in one `train()` call, whose results RLlib compiles and hands to Tune"""

TASK_ENVIRONMENT = "vlm-reward-task"
"""the name under which RLlib finds `make_vector_env`"""

RLLIB_ENVIRONMENT = "rllib-single-agent-env-v0"
"""the name under which RLlib's env runner passes any environment on to Gymnasium"""

REPLAY = "replay"


class SacConfig(AlgorithmConfig):  # type: ignore[misc]  # ray ships no types
    """RLlib's configuration of `Sac`. The settings arrive through `sac()`; the rest are RLlib's own methods."""

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or Sac)
        self.lr = None  # each optimizer has a rate of its own
        self.callbacks(TrueReturn)
        self.sac(SacSettings())

    def sac(self, settings: SacSettings) -> "SacConfig":
        """Take over the settings; returns self, as RLlib's own methods do."""
        self.hidden = tuple(settings.hidden)
        self.initial_temperature = settings.initial_temperature
        self.tau = settings.tau
        self.actor_lr = settings.actor_lr
        self.critic_lr = settings.critic_lr
        self.temperature_lr = settings.temperature_lr
        self.updates_per_step = settings.updates_per_step
        self.replay_capacity = settings.replay_capacity
        self.learning_starts = settings.learning_starts
        self.training(gamma=settings.gamma, train_batch_size_per_learner=settings.batch_size)
        steps = STEPS_OF_A_RUNNER if settings.num_env_runners else STEPS_BETWEEN_UPDATES
        self.env_runners(
            env_runner_cls=SacEnvRunner,
            num_env_runners=settings.num_env_runners,
            num_envs_per_env_runner=settings.num_envs,
            rollout_fragment_length=max(1, steps // settings.num_envs),
            gym_env_vectorize_mode="vector_entry_point",
            sample_timeout_s=SECONDS_TO_ANSWER,
        )
        self.learners(num_gpus_per_learner=gpus_of_learner())
        # Every simulator takes -1 to 1 (simulators.py), which is what the policy gives.
        self.environment(normalize_actions=False, clip_actions=False)
        self.reporting(min_sample_timesteps_per_iteration=STEPS_BETWEEN_RESULTS)
        return self

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        names = ("hidden", "initial_temperature", "learning_starts")
        return RLModuleSpec(module_class=SacModule, model_config={name: getattr(self, name) for name in names})

    def get_default_learner_class(self) -> type[SacLearner]:
        return SacLearner


class Sac(Algorithm):  # type: ignore[misc]  # ray ships no types
    """Off-policy training from an array replay buffer.

    A checkpoint (`save_to_path`, Tune) holds everything but the simulators' states: weights, optimizers, replay
    buffer, counters, the reward's version, and the generators of batches and noise.
    """

    steps: int
    """agent decisions"""
    updates: int
    """gradient steps"""
    update_seconds: float
    """this process's seconds in gradient steps, with their batches and the hand-over of the weights"""
    sampling_costs: Costs
    """what the steps cost since the start or the restoration, in all processes"""
    runner_memory: dict[int, PeakMemory]
    """what each env runner in a process of its own has held at most, those it replaced included"""
    non_finite_rewards: int
    """rewards that were NaN or infinite and reached the agent as 0"""
    visited: Visited | None
    """the state that each transition in replay led to; None where the environments keep none (`keep_visits`)"""

    @classmethod
    def get_default_config(cls) -> SacConfig:
        return SacConfig()

    def setup(self, config: SacConfig) -> None:
        """Build RLlib's parts, then the replay buffer for their spaces."""
        register_task_environment()
        super().setup(config)
        observation_space, action_space = self.spaces[INPUT_ENV_SINGLE_SPACES]
        shape, capacity, actions = observation_space.shape, self.config.replay_capacity, action_size(action_space)
        sees_frames = shows_frames(observation_space)
        self.replay: Replay = (FrameReplayBuffer if sees_frames else ReplayBuffer)(capacity, shape[0], actions)
        self._most_updates = 1 if sees_frames else MOST_UPDATES_A_CALL
        keeps = self.config.env_config.get("keep_visits")
        self.visited = Visited(capacity, self.config.env_config["task"].render.frame_pixels) if keeps else None
        self.steps = self.updates = self.non_finite_rewards = 0
        self.update_seconds = 0.0
        self.sampling_costs = Costs()
        self.runner_memory = {}
        self._reward = Reward()
        self._weights: ray.ObjectRef | None = None
        self._generator = np.random.default_rng(self.config.seed)
        self._silent_since: float | None = None

    @property
    def reward_version(self) -> int:
        """Which reward the environments call: 0 is that of the configuration, others come from `set_reward`."""
        return self._reward.version

    def set_reward(self, reward: Reward) -> None:
        """Reward the steps to come with another reward, also in env runners that are replaced later.

        A restored algorithm knows the version (`reward_version`) but not the reward: give it again.
        """
        self._reward = reward

    def training_step(self) -> None:
        """Sample a few steps, store them, and take the gradient steps that are due for them."""
        request = Request(self.steps, self._reward, self._weights)
        asked_at = time.monotonic()
        answers = sample_from(self.env_runner_group, request, self.config.sample_timeout_s)
        for sampled in answers:
            self.metrics.aggregate([sampled.metrics], key=ENV_RUNNER_RESULTS)
            rows = self.replay.add_batch(sampled.transitions)
            if self.visited is not None and sampled.visits is not None:
                self.visited.write(rows, sampled.visits, sampled.reward_version)
            self.steps += len(sampled.transitions)
            self.sampling_costs += sampled.costs
            self._keep_memory(sampled)
            self.non_finite_rewards += sampled.non_finite_rewards
        self._give_up_after_silence(bool(answers), asked_at)
        wanted = int(max(0, self.steps - self.config.learning_starts) * self.config.updates_per_step)
        while self.updates < wanted:
            self._update(min(wanted - self.updates, self._most_updates))

    def _keep_memory(self, sampled: Sampled) -> None:
        if sampled.runner:  # the other one lives in this process
            before = self.runner_memory.get(sampled.runner, PeakMemory())
            self.runner_memory[sampled.runner] = before.or_more(sampled.memory)

    def _give_up_after_silence(self, answered: bool, asked_at: float) -> None:
        now, timeout = time.monotonic(), self.config.sample_timeout_s
        self._silent_since = None if answered else self._silent_since or asked_at
        if self._silent_since is not None and now - self._silent_since >= timeout:
            raise SuiteError(
                f"no env runner has answered for {timeout:.0f} seconds: see what Ray logged about them, "
                "or step the simulators in this process with sac.num_env_runners 0"
            )

    def _update(self, gradient_steps: int) -> None:
        start = time.perf_counter()
        rows = gradient_steps * self.config.train_batch_size_per_learner
        sampled = SampleBatch(vars(self.replay.sample(rows, self._generator)))
        batch = MultiAgentBatch({DEFAULT_MODULE_ID: sampled}, env_steps=rows)
        results = self.learner_group.update(training_data=TrainingData(batch=batch))
        self.metrics.aggregate(results, key=LEARNER_RESULTS)
        self.updates += gradient_steps
        self._hand_over_weights()
        self.update_seconds += time.perf_counter() - start

    def _hand_over_weights(self) -> None:
        """To the local env runner at once, to others with the next request: RLlib's `sync_weights` drops them where
        a runner has not taken the ones before."""
        state = self.learner_group.get_state(
            components=f"{COMPONENT_LEARNER}/{COMPONENT_RL_MODULE}", inference_only=True
        )[COMPONENT_LEARNER]
        self.env_runner.set_state(state)
        if self.env_runner_group.num_remote_workers():
            self._weights = ray.put(state)

    def actor(self) -> Actor:
        """The policy as it acts now; belongs to the local env runner."""
        actor: Actor = self.env_runner.module.actor
        return actor

    def get_state(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """RLlib's state and the counters; the replay buffer has files of its own."""
        state: dict[str, Any] = super().get_state(*args, **kwargs)
        state["sac"] = {
            "steps": self.steps,
            "updates": self.updates,
            "non_finite_rewards": self.non_finite_rewards,
            "reward_version": self._reward.version,
            "batches": self._generator.bit_generator.state,
            "noise": torch.get_rng_state().numpy(),
        }
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over a state of `get_state`."""
        super().set_state(state)
        if "sac" in state:
            ours = state["sac"]
            self.steps, self.updates = ours["steps"], ours["updates"]
            self.non_finite_rewards = ours["non_finite_rewards"]
            self._reward = Reward(ours["reward_version"])
            self._generator.bit_generator.state = ours["batches"]
            torch.set_rng_state(torch.from_numpy(ours["noise"]))

    def save_to_path(self, path: str | Path | None = None, **kwargs: Any) -> str:
        """RLlib's checkpoint and, in the same folder, the replay buffer, which the new API stack leaves out."""
        folder: str = super().save_to_path(path, **kwargs)
        self.replay.save(Path(folder) / REPLAY)
        if self.visited is not None:
            self.visited.save(Path(folder) / REPLAY, self.replay.rows_by_age)
        return folder

    def restore_from_path(self, path: str | Path, *args: Any, **kwargs: Any) -> None:
        """The inverse of `save_to_path`; a single component can be restored as in RLlib."""
        super().restore_from_path(path, *args, **kwargs)
        if kwargs.get("component") is None:
            self.replay.load(Path(path) / REPLAY)
            if self.visited is not None and len(self.replay):
                self.visited.load(Path(path) / REPLAY)
            self._hand_over_weights()


def gpus_of_learner() -> int:
    """The learner takes a GPU where there is one; env runners act on the CPU."""
    return int(torch.cuda.is_available())


def register_task_environment() -> None:
    """Let RLlib find `make_vector_env`; before an algorithm is set up."""
    register_env(TASK_ENVIRONMENT, make_vector_env)
    gymnasium.registry.pop(RLLIB_ENVIRONMENT, None)  # RLlib registers it for each algorithm, and Gymnasium warns
