"""RLlib's own PPO on the same environments as `Sac`, and with the same figures for the training loop."""

import rllib_envs.before_rllib  # noqa: F401  # isort: skip

import os
import time
from collections.abc import Callable
from typing import Any

import torch
from ray.exceptions import RayActorError
from ray.rllib.algorithms.ppo import PPO, PPOConfig
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME

from datamodules.errors import SuiteError, mistake_behind
from rllib_envs.callbacks import TrueReturn
from rllib_envs.costs import Costs, PeakMemory
from rllib_envs.ppo_module import PpoModule
from rllib_envs.ppo_networks import PpoActor
from rllib_envs.sac import SECONDS_TO_ANSWER, gpus_of_learner, register_task_environment
from rllib_envs.sac_env_runner import SacEnvRunner, costs_of
from rllib_envs.settings import PpoSettings

MOST_GRADIENT = 0.5
"""norm to which gradients are cut; as in Stable-Baselines3 and CleanRL, like the value loss' weight below"""
VALUE_WEIGHT = 0.5

Spent = tuple[int, int, Costs, int, PeakMemory]
"""number of an env runner, its process, and since its start: costs, rewards that were not finite, peak memory"""


class PpoConfig(PPOConfig):  # type: ignore[misc]  # ray ships no types
    """RLlib's configuration of `Ppo`. The settings arrive through `ppo()`; the rest are RLlib's own methods."""

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or Ppo)
        self.callbacks(TrueReturn)
        self.ppo(PpoSettings())

    def ppo(self, settings: PpoSettings) -> "PpoConfig":
        """Take over the settings; returns self, as RLlib's own methods do."""
        self.hidden = tuple(settings.hidden)
        self.training(
            lr=settings.lr,
            gamma=settings.gamma,
            lambda_=settings.gae_lambda,
            clip_param=settings.clip,
            entropy_coeff=settings.entropy_weight,
            train_batch_size_per_learner=settings.batch_steps,
            minibatch_size=settings.minibatch_size,
            num_epochs=settings.epochs,
            use_kl_loss=False,
            vf_clip_param=float("inf"),  # RLlib's 10 would cut the errors of returns in the hundreds
            vf_loss_coeff=VALUE_WEIGHT,
            grad_clip=MOST_GRADIENT,
        )
        self.env_runners(
            env_runner_cls=PpoEnvRunner,
            num_env_runners=settings.num_env_runners,
            num_envs_per_env_runner=settings.num_envs,
            gym_env_vectorize_mode="vector_entry_point",
            sample_timeout_s=SECONDS_TO_ANSWER,
        )
        self.learners(num_gpus_per_learner=gpus_of_learner())
        # a Gaussian has no bounds, and every simulator takes -1 to 1 (simulators.py)
        self.environment(normalize_actions=False, clip_actions=True)
        # RLlib would start a runner again and again and keep to itself what was wrong
        self.fault_tolerance(restart_failed_env_runners=False, ignore_env_runner_failures=False)
        return self

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        return RLModuleSpec(module_class=PpoModule, model_config={"hidden": self.hidden})

    def get_default_learner_class(self) -> type["PpoLearner"]:
        return PpoLearner


class PpoEnvRunner(SacEnvRunner):
    """An env runner that samples as RLlib's own does, with SAC's seeds and threads."""

    def apply(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a function here from the learner's process, which is told what it raises; RLlib's own ends this one."""
        try:
            return func(self, *args, **kwargs)
        except Exception as error:
            raise mistake_behind(error) or error from None


class PpoLearner(PPOTorchLearner):  # type: ignore[misc]  # ray ships no types
    """RLlib's learner, which also counts its gradient steps and their seconds."""

    def build(self) -> None:
        super().build()
        self._gradient_steps, self._seconds = 0, 0.0

    def update(self, *args: Any, **kwargs: Any) -> Any:
        """RLlib's update, timed."""
        start = time.perf_counter()
        results = super().update(*args, **kwargs)
        self._seconds += time.perf_counter() - start
        return results

    def _update(self, batch: dict[str, Any], **kwargs: Any) -> Any:
        self._gradient_steps += 1
        return super()._update(batch, **kwargs)

    def take_counts(self) -> tuple[int, float]:
        """Gradient steps and their seconds since the last call."""
        counts = self._gradient_steps, self._seconds
        self._gradient_steps, self._seconds = 0, 0.0
        return counts


class Ppo(PPO):  # type: ignore[misc]  # ray ships no types
    """RLlib's PPO with what the training loop asks of an algorithm; the attributes are those of `Sac`."""

    steps: int
    """agent decisions"""
    updates: int
    """gradient steps"""
    update_seconds: float
    """this process's seconds in gradient steps, with their batches"""

    @classmethod
    def get_default_config(cls) -> PpoConfig:
        return PpoConfig()

    def setup(self, config: PpoConfig) -> None:
        """Build RLlib's parts."""
        register_task_environment()
        super().setup(config)
        self.steps = self.updates = self._non_finite_before = 0
        self.update_seconds = 0.0
        self._spent: dict[tuple[int, int], Spent] = {}

    def training_step(self) -> None:
        """RLlib's, and the counts."""
        try:
            super().training_step()
        except SuiteError as error:  # Ray adds the traceback of the env runner's process
            raise SuiteError(str(getattr(error, "cause", error))) from error
        except RayActorError as error:
            raise SuiteError(
                "the process of an env runner died: see what Ray logged about it, free memory if that was short, and "
                "give the same command again; it goes on from the last checkpoint"
            ) from error
        self.steps = int(self.metrics.peek((ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME), default=0))
        for result in self.learner_group.foreach_learner(lambda learner: learner.take_counts()):
            updates, seconds = result.get()
            self.updates += updates
            self.update_seconds += seconds
        here = not self.env_runner_group.num_remote_workers()
        for spent in self.env_runner_group.foreach_env_runner(spent_by, local_env_runner=here):
            self._spent[spent[:2]] = spent

    @property
    def sampling_costs(self) -> Costs:
        """What the steps cost since the start or the restoration, in all processes."""
        return sum((costs for _, _, costs, _, _ in self._spent.values()), Costs())

    @property
    def runner_memory(self) -> dict[int, PeakMemory]:
        """What each env runner in a process of its own has held at most."""
        return {runner: memory for runner, _, _, _, memory in self._spent.values() if runner}

    @property
    def non_finite_rewards(self) -> int:
        """Rewards that were NaN or infinite and reached the agent as 0."""
        return self._non_finite_before + sum(count for _, _, _, count, _ in self._spent.values())

    def actor(self) -> PpoActor:
        """The policy as it acts now; belongs to the local env runner."""
        actor: PpoActor = self.env_runner.module.actor
        return actor

    def get_state(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """RLlib's state and the counters."""
        state: dict[str, Any] = super().get_state(*args, **kwargs)
        counters = {"steps": self.steps, "updates": self.updates, "non_finite_rewards": self.non_finite_rewards}
        state["ppo"] = {**counters, "noise": torch.get_rng_state().numpy()}
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over a state of `get_state`."""
        super().set_state(state)
        if "ppo" in state:
            ours = state["ppo"]
            self.steps, self.updates = ours["steps"], ours["updates"]
            self._non_finite_before, self._spent = ours["non_finite_rewards"], {}
            torch.set_rng_state(torch.from_numpy(ours["noise"]))


def spent_by(runner: SacEnvRunner) -> Spent:
    """What an env runner has cost since its start; called in its process."""
    costs, non_finite_rewards = costs_of(runner.env.unwrapped)
    return runner.worker_index, os.getpid(), costs, non_finite_rewards, PeakMemory.of_this_process()
