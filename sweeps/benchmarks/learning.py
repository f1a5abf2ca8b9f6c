"""Does speed cost learning? This SAC's learning curves beside Stable-Baselines3's, on the true reward.

Same tasks, episodes, batch, network widths, learning rates and update ratio, one simulator each; ours as well with the
eight simulators of its default. Every evaluation plays the same episodes. Curves of finished runs are kept: a benchmark
that was stopped goes on. Half an hour in all. Scores are normalised true returns (here: true return / 1,000), an area
is the mean height of a curve; both come with 95 % intervals of the stratified bootstrap over seeds.
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.conf import read_conf
from datamodules.progress import Report, progress_bar
from datamodules.tasks import Task
from rllib_envs.evaluations import EVALUATIONS, Evaluation, read_evaluations
from rllib_envs.play import play_episodes
from rllib_envs.reward_env import RewardEnv, RewardVectorEnv
from rllib_envs.scores import score_range
from rllib_envs.settings import SacSettings
from rllib_envs.threads import torch_threads
from rllib_envs.train import train_agent
from sweeps.benchmarks import FOLDER
from sweeps.learning_speed import area_under_curve
from sweeps.run_statistics import Scores, interquartile_mean, over_runs, probability_of_improvement

TASKS = ("cartpole_swingup", "reacher_easy")
SEEDS = (0, 1, 2)
TOTAL_STEPS, EVALUATION_EVERY_STEPS, EVALUATION_EPISODES = 12_288, 1_536, 10
EVALUATION_SEED = 900_000
LEARNING_RATE, BATCH, HIDDEN, LEARNING_STARTS, CAPACITY = 1e-3, 256, (256, 256), 1_000, 100_000

Curve = tuple[Evaluation, ...]


def measure(kept: Path = FOLDER / "learning" / "runs") -> dict[str, Any]:
    """Final scores and areas of each peer, and how likely ours is the better one.

    Args:
        kept: folder of the runs' learning curves.
    """
    runs = [(peer, task, seed) for seed in SEEDS for task in TASKS for peer in PEERS]
    curves: dict[tuple[str, str, int], Curve] = {}
    with progress_bar("learning", "steps") as report, torch_threads():
        for number, (peer, task, seed) in enumerate(runs):

            def so_far(done: int, total: int, note: str, before: int = number * TOTAL_STEPS) -> None:
                report(before + done, len(runs) * TOTAL_STEPS, note)

            folder = kept / f"{peer}-{task}-{seed}"
            curves[peer, task, seed] = curve_of(PEERS[peer], folder, task, seed, so_far)
            so_far(TOTAL_STEPS, TOTAL_STEPS, f"{peer}, {task}, seed {seed}")
    return figures_of(curves)


def curve_of(train: "Train", folder: Path, task_name: str, seed: int, report: Report) -> Curve:
    """The learning curve of one run, from its folder where the run was finished before."""
    curve = read_evaluations(folder / EVALUATIONS)
    if not curve or curve[-1].steps < TOTAL_STEPS:
        train(read_conf(Task, f"conf/tasks/{task_name}.yaml"), seed, folder, report)
        curve = read_evaluations(folder / EVALUATIONS)
    return curve


def figures_of(curves: dict[tuple[str, str, int], Curve]) -> dict[str, Any]:
    """Figures of curves by (peer, task, seed); all peers have run the same tasks, and one of them is "sb3"."""
    runs = [
        {"peer": peer, "task": task, "seed": seed, **_run(curve, read_conf(Task, f"conf/tasks/{task}.yaml"))}
        for (peer, task, seed), curve in curves.items()
    ]
    peers = list(dict.fromkeys(peer for peer, _, _ in curves))
    final, area = (
        {
            peer: {
                task: [run[name] for run in runs if (run["peer"], run["task"]) == (peer, task)]
                for task in sorted({task for _, task, _ in curves})
            }
            for peer in peers
        }
        for name in ("final_score", "area")
    )
    ours = [peer for peer in peers if peer != "sb3"]
    return {
        "final_score_iqm": {peer: _iqm(final[peer]) for peer in peers},
        "area_iqm": {peer: _iqm(area[peer]) for peer in peers},
        "probability_that_area_is_above_sb3": {
            peer: asdict(probability_of_improvement(area[peer], area["sb3"], np.random.default_rng(0))) for peer in ours
        },
        "ratios": {
            f"{peer}_over_sb3_area": float(np.mean(list(area[peer].values())) / np.mean(list(area["sb3"].values())))
            for peer in ours
        },
        "runs": runs,
    }


def _run(curve: Curve, task: Task) -> dict[str, Any]:
    low, high = score_range(task) or (0.0, 1.0)
    steps, returns = [each.steps for each in curve], [float(np.mean(each.true_returns)) for each in curve]
    scores = [(value - low) / (high - low) for value in returns]
    return {
        "final_score": scores[-1],
        "area": area_under_curve(steps, scores),
        "steps": steps,
        "true_returns": returns,
    }


def _iqm(scores: Scores) -> dict[str, float]:
    return asdict(over_runs(scores, interquartile_mean, np.random.default_rng(0)))


def train_ours(task: Task, seed: int, folder: Path, report: Report, num_envs: int) -> None:
    """This project's SAC, or the rest of a training that was stopped."""
    sac = SacSettings(
        total_steps=TOTAL_STEPS,
        num_envs=num_envs,
        learning_starts=LEARNING_STARTS,
        batch_size=BATCH,
        hidden=HIDDEN,
        actor_lr=LEARNING_RATE,
        critic_lr=LEARNING_RATE,
        temperature_lr=LEARNING_RATE,
        replay_capacity=CAPACITY,
        evaluation_every_steps=EVALUATION_EVERY_STEPS,
        evaluation_episodes=EVALUATION_EPISODES,
    )
    train_agent(task, "true", sac, folder, seed=seed, report=report)


def train_sb3(task: Task, seed: int, folder: Path, report: Report) -> None:
    """Stable-Baselines3's SAC; it starts anew where it was stopped, since its own checkpoints are pickles."""
    from stable_baselines3 import SAC

    agent = SAC(
        "MlpPolicy",
        RewardEnv(task, None),
        learning_rate=LEARNING_RATE,
        buffer_size=CAPACITY,
        learning_starts=LEARNING_STARTS,
        batch_size=BATCH,
        policy_kwargs={"net_arch": list(HIDDEN)},
        seed=seed,
        device="cpu",
    )

    def policy(observations: NDArray[np.float32]) -> NDArray[Any]:
        actions: NDArray[Any] = agent.predict(observations, deterministic=True)[0]
        return actions

    environment = RewardVectorEnv(task, EVALUATION_EPISODES, None)
    seeds = range(EVALUATION_SEED, EVALUATION_SEED + EVALUATION_EPISODES)
    rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with (folder / EVALUATIONS).open("w") as stream:
        while True:
            returns = play_episodes(environment, policy, seeds)
            stream.write(json.dumps({"steps": agent.num_timesteps, "true_returns": returns.true}) + "\n")
            report(agent.num_timesteps, TOTAL_STEPS, "")
            if agent.num_timesteps >= TOTAL_STEPS:
                break
            agent.learn(EVALUATION_EVERY_STEPS, reset_num_timesteps=False)
    environment.close()


Train = Callable[[Task, int, Path, Report], None]
PEERS: dict[str, Train] = {
    "sb3": train_sb3,
    "ours": partial(train_ours, num_envs=1),
    "ours_8_envs": partial(train_ours, num_envs=8),
}
