"""Stable-Baselines3's SAC learns to swing up a pole from the bundled student's reward, and is judged by the true one.

    pip install stable-baselines3
    python -m examples.sb3_sac

10,000 steps take about four minutes on one core.
"""

import sys

import torch
from stable_baselines3 import SAC

from datamodules.conf import read_conf
from datamodules.tasks import Task
from lightning_modules.reward_function import StudentReward
from rllib_envs.reward_env import RewardEnv


def main(steps: int = 10_000) -> float:
    """Train for this many agent decisions. Returns the true return of one episode of the learned policy."""
    torch.set_num_threads(1)  # SAC's networks are too small to share
    task = read_conf(Task, "conf/tasks/cartpole_swingup.yaml")
    student = StudentReward.load("conf/student/cartpole_swingup")
    agent = SAC(
        "MlpPolicy", RewardEnv(task, student), learning_rate=1e-3, learning_starts=min(1000, steps // 3), seed=0
    )
    agent.learn(steps)
    learned_return, true_return = play(agent, RewardEnv(task, student))
    print(f"after {steps} steps: learned return {learned_return:.1f}, true return {true_return:.1f} of at most 1000")
    return true_return


def play(agent: SAC, environment: RewardEnv) -> tuple[float, float]:
    """One episode of the learned policy. Returns its learned and its true return."""
    observation, _ = environment.reset(seed=1_000_000)
    learned_return, true_return, ended = 0.0, 0.0, False
    while not ended:
        action, _ = agent.predict(observation, deterministic=True)
        observation, reward, terminated, truncated, info = environment.step(action)
        learned_return, true_return = learned_return + reward, true_return + info["true_reward"]
        ended = terminated or truncated
    return learned_return, true_return


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
