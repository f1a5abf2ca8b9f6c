"""SAC's agent decisions a second beside Stable-Baselines3's SAC and RLlib's own, and what a learned reward costs it.

All train on dm_control's cart-pole with the same batch, network widths and update ratio, by turns. With one gradient
step a decision: ours and theirs with the true reward, and ours with that of the bundled student, whose frames have to
be drawn. With a quarter of that: the student beside a ViT-B/32 in the loop (random weights: they change no time). With
a thirty-second, as in the CLIP paper's humanoid, where frames cost more than gradient steps: env runners in one and in
two processes of their own. RLlib's own SAC and the ViT run with a thread for each core and with one; the faster setting
counts. RLlib's replay buffer is the uniform one, which is faster than its default.
"""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import gymnasium

from datamodules.tasks import Prompts, Task
from lightning_modules.reward_function import RewardFunction, StudentReward, TeacherReward
from rllib_envs.gl import prepare_gl
from rllib_envs.reward_env import RewardEnv, make_vector_env
from rllib_envs.settings import SacSettings
from rllib_envs.threads import torch_threads

TASK = Task(
    name="benchmark",
    family="dm_control",
    simulator="cartpole-swingup",
    prompts=Prompts(goal=("pole vertically upright on top of the cart",)),
    frames_per_step=8,
)
STUDENT = Path("conf/student/cartpole_swingup")
BATCH, HIDDEN, CAPACITY, LEARNING_RATE = 256, (256, 256), 100_000, 1e-3
QUARTER, PAPERS = 1 / 4, 1 / 32
STEPS_A_CALL = 32
"""agent decisions in one `train()` of ours and of Stable-Baselines3's"""
BLOCK_SECONDS, ROUNDS = 3.0, 5

MakeReward = Callable[[], RewardFunction]


@dataclass
class Peer:
    """An algorithm in training, with the number of threads it may use."""

    train: Callable[[], object]
    """goes on for a few decisions"""
    steps: Callable[[], int]
    """decisions so far"""
    stop: Callable[[], object] = lambda: None
    threads: int = 1

    def steps_per_second(self, seconds: float) -> float:
        """Train for at least this long, after a first call in which env runners may hand over what they have ready."""
        with torch_threads(self.threads):
            self.train()
            first, start = self.steps(), perf_counter()
            while perf_counter() - start < seconds:
                self.train()
            return (self.steps() - first) / (perf_counter() - start)


def measure() -> dict[str, Any]:
    """Median steps a second of each peer, and median ratios of those that took turns."""
    prepare_gl()  # before RLlib imports dm_control
    from lightning_modules.ray_session import ray_session

    with ray_session(), TemporaryDirectory() as folder, torch_threads():
        peers = _peers(Path(folder))
        for peer in peers.values():
            while peer.steps() <= BATCH + STEPS_A_CALL:
                peer.train()
        rounds = [{name: peer.steps_per_second(BLOCK_SECONDS) for name, peer in peers.items()} for _ in range(ROUNDS)]
        for peer in peers.values():
            peer.stop()
    faster = [
        {
            **rates,
            "stock_rllib": max(rates["stock_rllib"], rates["stock_rllib_one_thread"]),
            "vit_b32_in_loop": max(rates["vit_b32_in_loop"], rates["vit_b32_in_loop_one_thread"]),
        }
        for rates in rounds
    ]
    return {
        "medians": {f"{name}_steps_per_second": median(rates[name] for rates in rounds) for name in peers},
        "ratios": {
            "ours_over_sb3": _ratio(faster, "ours", "sb3"),
            "ours_over_stock_rllib": _ratio(faster, "ours", "stock_rllib"),
            "ours_8_envs_over_stock_rllib": _ratio(faster, "ours_8_envs", "stock_rllib"),
            "student_reward_over_true_reward": _ratio(faster, "ours_8_envs_student", "ours_8_envs"),
            "student_over_vit_b32_in_loop": _ratio(faster, "quarter_student", "vit_b32_in_loop"),
            "two_runners_over_one": _ratio(faster, "student_two_runners", "student_one_runner"),
        },
        "batch": BATCH,
        "hidden": list(HIDDEN),
        "updates_per_step": {"quarter_* and vit_*": QUARTER, "*_runner and *_runners": PAPERS, "all others": 1},
        "rounds": rounds,
    }


def _ratio(rounds: Iterable[dict[str, float]], ours: str, theirs: str) -> float:
    """Within a round: the machine may be slower in the next one."""
    return median(rates[ours] / rates[theirs] for rates in rounds)


def _peers(folder: Path) -> dict[str, Peer]:
    student, vit = partial(StudentReward.load, STUDENT), partial(_vit_b32_reward, folder)
    cores = os.cpu_count() or 1
    stock, vit_in_loop = _stock(), _ours(8, QUARTER, vit)
    return {
        "stock_rllib": replace(stock, threads=cores),
        "stock_rllib_one_thread": stock,
        "sb3": _sb3(),
        "ours": _ours(1),
        "ours_8_envs": _ours(8),
        "ours_8_envs_student": _ours(8, 1.0, student),
        "quarter_student": _ours(8, QUARTER, student),
        "student_one_runner": _ours(8, PAPERS, student, num_env_runners=1),
        "student_two_runners": _ours(8, PAPERS, student, num_env_runners=2),
        "vit_b32_in_loop": replace(vit_in_loop, threads=cores),
        "vit_b32_in_loop_one_thread": vit_in_loop,
    }


def _environment(make_reward: MakeReward | None) -> dict[str, Any]:
    return {"task": TASK, "make_reward": make_reward, "seed": 0}


def _ours(
    num_envs: int, updates_per_step: float = 1.0, make_reward: MakeReward | None = None, num_env_runners: int = 0
) -> Peer:
    from rllib_envs.sac import TASK_ENVIRONMENT, SacConfig

    settings = SacSettings(
        num_envs=num_envs,
        num_env_runners=num_env_runners,
        batch_size=BATCH,
        hidden=HIDDEN,
        learning_starts=BATCH,
        replay_capacity=CAPACITY,
        updates_per_step=updates_per_step,
        actor_lr=LEARNING_RATE,
        critic_lr=LEARNING_RATE,
        temperature_lr=LEARNING_RATE,
    )
    config = SacConfig().sac(settings).environment(TASK_ENVIRONMENT, env_config=_environment(make_reward))
    config.debugging(seed=0, log_level="ERROR").reporting(min_sample_timesteps_per_iteration=STEPS_A_CALL)
    # all peers' env runners are there at once, though only those of one are asked: Ray would wait for more CPUs
    config.env_runners(num_cpus_per_env_runner=0.25)
    algorithm = config.build_algo()
    return Peer(algorithm.train, lambda: int(algorithm.steps), algorithm.stop)


def _sb3() -> Peer:
    """Stable-Baselines3's SAC as examples/sb3_sac.py makes it, on the single form of the same environment."""
    from stable_baselines3 import SAC

    agent = SAC(
        "MlpPolicy",
        RewardEnv(TASK, None),
        learning_rate=LEARNING_RATE,
        buffer_size=CAPACITY,
        learning_starts=BATCH,
        batch_size=BATCH,
        train_freq=1,
        gradient_steps=1,
        policy_kwargs={"net_arch": list(HIDDEN)},
        seed=0,
        device="cpu",
    )
    return Peer(lambda: agent.learn(STEPS_A_CALL, reset_num_timesteps=False), lambda: int(agent.num_timesteps))


def _stock() -> Peer:
    from ray.rllib.algorithms.sac import SACConfig
    from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
    from ray.tune.registry import register_env

    from rllib_envs.sac import RLLIB_ENVIRONMENT, TASK_ENVIRONMENT

    config = (
        SACConfig()
        .environment(TASK_ENVIRONMENT, env_config=_environment(None))
        .env_runners(num_env_runners=0, num_envs_per_env_runner=1, gym_env_vectorize_mode="vector_entry_point")
        .training(
            train_batch_size_per_learner=BATCH,
            replay_buffer_config={"type": "EpisodeReplayBuffer", "capacity": CAPACITY},
            num_steps_sampled_before_learning_starts=BATCH,
            actor_lr=LEARNING_RATE,
            critic_lr=LEARNING_RATE,
            alpha_lr=LEARNING_RATE,
        )
        .rl_module(model_config=DefaultModelConfig(fcnet_hiddens=list(HIDDEN), fcnet_activation="relu"))
        .reporting(min_sample_timesteps_per_iteration=4, min_time_s_per_iteration=0)
        .debugging(seed=0, log_level="ERROR")
    )
    register_env(TASK_ENVIRONMENT, make_vector_env)
    gymnasium.registry.pop(RLLIB_ENVIRONMENT, None)
    algorithm = config.build_algo()
    return Peer(algorithm.train, lambda: _stock_steps(algorithm), algorithm.stop)


def _stock_steps(algorithm: Any) -> int:
    return int(algorithm.metrics.peek(("env_runners", "num_env_steps_sampled_lifetime"), default=0))


def _vit_b32_reward(folder: Path) -> RewardFunction:
    from lightning_modules.teacher import ClipTeacher
    from sweeps.benchmarks.teacher import random_weights

    return TeacherReward(ClipTeacher(random_weights(folder)), TASK.prompts)
