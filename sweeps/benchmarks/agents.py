"""SAC's agent decisions a second beside RLlib's own SAC: same task, reward, batch, network widths and update ratio.

Both train on dm_control's cart-pole with the true reward, in this process, one gradient step a decision, by turns.
RLlib's runs with torch's own number of threads and with one; its faster setting counts. Its replay buffer is the
uniform one, which is faster than its default.
"""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any

import gymnasium
import torch

from datamodules.tasks import Prompts, Task
from rllib_envs.gl import prepare_gl
from rllib_envs.settings import SacSettings
from rllib_envs.threads import torch_threads

TASK = Task(
    name="benchmark",
    family="dm_control",
    simulator="cartpole-swingup",
    prompts=Prompts(goal=("simulated only",)),
    frames_per_step=8,
)
BATCH, HIDDEN, WARM_UP_STEPS, CAPACITY = 256, (256, 256), 272, 100_000
BLOCK_SECONDS, ROUNDS = 4.0, 6


@dataclass
class Peer:
    """An algorithm in training, with the number of threads it may use."""

    train: Callable[[], object]
    """goes on for a few decisions"""
    steps: Callable[[], int]
    """decisions so far"""
    threads: int

    def steps_per_second(self, seconds: float) -> float:
        """Train for at least this long."""
        with torch_threads(self.threads):
            first, start = self.steps(), perf_counter()
            while perf_counter() - start < seconds:
                self.train()
            return (self.steps() - first) / (perf_counter() - start)


def measure() -> dict[str, Any]:
    """Median steps a second of each peer, and how many times faster ours is than the faster of RLlib's."""
    prepare_gl()  # before RLlib imports dm_control
    from lightning_modules.ray_session import ray_session

    with ray_session():
        one, eight, stock = _ours(1), _ours(8), _stock()
        peers = {
            "stock_rllib": Peer(stock.train, lambda: _stock_steps(stock), torch.get_num_threads()),
            "stock_rllib_one_thread": Peer(stock.train, lambda: _stock_steps(stock), 1),
            "ours": Peer(one.train, lambda: int(one.steps), 1),
            "ours_8_envs": Peer(eight.train, lambda: int(eight.steps), 1),
        }
        for peer in peers.values():
            while peer.steps() <= WARM_UP_STEPS:
                peer.train()
        taken: dict[str, list[float]] = {name: [] for name in peers}
        for _ in range(ROUNDS):
            for name, peer in peers.items():
                taken[name].append(peer.steps_per_second(BLOCK_SECONDS))
        for algorithm in (one, eight, stock):
            algorithm.stop()
    medians = {f"{name}_steps_per_second": median(rates) for name, rates in taken.items()}
    stock_rate = max(medians["stock_rllib_steps_per_second"], medians["stock_rllib_one_thread_steps_per_second"])
    return {
        "medians": medians,
        "ratios": {
            "ours_over_stock_rllib": medians["ours_steps_per_second"] / stock_rate,
            "ours_8_envs_over_stock_rllib": medians["ours_8_envs_steps_per_second"] / stock_rate,
        },
        "batch": BATCH,
        "hidden": list(HIDDEN),
        "updates_per_step": 1,
        "rounds": [dict(zip(taken, rates, strict=True)) for rates in zip(*taken.values(), strict=True)],
    }


def _environment() -> dict[str, Any]:
    return {"task": TASK, "make_reward": None, "seed": 0}


def _ours(num_envs: int) -> Any:
    from rllib_envs.sac import TASK_ENVIRONMENT, SacConfig

    settings = SacSettings(
        num_envs=num_envs, batch_size=BATCH, hidden=HIDDEN, learning_starts=BATCH, replay_capacity=CAPACITY
    )
    config = SacConfig().sac(settings).environment(TASK_ENVIRONMENT, env_config=_environment())
    return config.debugging(seed=0, log_level="ERROR").reporting(min_sample_timesteps_per_iteration=64).build_algo()


def _stock() -> Any:
    from ray.rllib.algorithms.sac import SACConfig
    from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig

    from rllib_envs.sac import RLLIB_ENVIRONMENT, TASK_ENVIRONMENT

    config = (
        SACConfig()
        .environment(TASK_ENVIRONMENT, env_config=_environment())
        .env_runners(num_env_runners=0, num_envs_per_env_runner=1, gym_env_vectorize_mode="vector_entry_point")
        .training(
            train_batch_size_per_learner=BATCH,
            replay_buffer_config={"type": "EpisodeReplayBuffer", "capacity": CAPACITY},
            num_steps_sampled_before_learning_starts=BATCH,
            actor_lr=1e-3,
            critic_lr=1e-3,
            alpha_lr=1e-3,
        )
        .rl_module(model_config=DefaultModelConfig(fcnet_hiddens=list(HIDDEN), fcnet_activation="relu"))
        .reporting(min_sample_timesteps_per_iteration=4, min_time_s_per_iteration=0)
        .debugging(seed=0, log_level="ERROR")
    )
    gymnasium.registry.pop(RLLIB_ENVIRONMENT, None)
    return config.build_algo()


def _stock_steps(algorithm: Any) -> int:
    return int(algorithm.metrics.peek(("env_runners", "num_env_steps_sampled_lifetime"), default=0))
