"""PPO beside SAC: what a training leaves behind, how it goes on after a stop, and that it learns."""

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datamodules.conf import read_conf
from datamodules.errors import DataError, SettingsError, SuiteError
from datamodules.tasks import Task
from rllib_envs.agent_files import AgentCard, load_policy
from rllib_envs.evaluate import evaluate_agent
from rllib_envs.ppo import Ppo, PpoConfig
from rllib_envs.reward_env import RewardVectorEnv
from rllib_envs.sac import TASK_ENVIRONMENT
from rllib_envs.settings import PpoSettings, SacSettings, learning_settings
from rllib_envs.train import train_agent
from tests.rllib_envs.trainings import SMALL_PPO, lines_of


@pytest.mark.slow
@pytest.mark.usefixtures("ray_running")
def test_a_training_leaves_behind_what_one_of_sac_does_and_is_evaluated_as_any(pole: Task, tmp_path: Path) -> None:
    out = tmp_path / "agent"
    result = train_agent(pole, "random", SMALL_PPO, out, seed=0)
    lines = lines_of(out)
    assert lines[0]["steps"] == lines[0]["updates"] == 0
    assert lines[-1]["steps"] == result.steps >= SMALL_PPO.total_steps
    assert all(result.costs[phase] > 0 for phase in ("simulate", "render", "reward", "update"))
    latency = result.reward_latency
    assert latency is not None
    assert latency["calls"] == pytest.approx(result.steps / SMALL_PPO.num_envs, abs=2)
    assert {path.name for path in out.iterdir()} == {
        "agent.json",
        "policy.safetensors",
        "evaluations.jsonl",
        "checkpoint",
        "result.json",
    }
    assert AgentCard.read(out).learning == SMALL_PPO
    evaluation = evaluate_agent(out, [1_000_000, 1_000_001], tmp_path / "evaluation")
    assert len(evaluation.true_returns) == 2
    with pytest.raises(DataError, match="another agent"):
        train_agent(pole, "random", SacSettings(), out, seed=0)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_running")
def test_discrete_actions_learn_to_balance(tasks_folder: Path, tmp_path: Path) -> None:
    task = read_conf(Task, tasks_folder / "gym_cartpole.yaml")
    ppo = PpoSettings(total_steps=24_000, evaluation_every_steps=24_000, lr=1e-3)
    train_agent(task, "true", ppo, tmp_path, seed=0)
    _, last = lines_of(tmp_path)
    at_random = evaluate_agent(tmp_path, [1_000_000], tmp_path / "evaluation").random_returns
    # a random policy keeps the pole up for 22 steps on average, of at most 500
    assert np.mean(last["true_returns"]) > 4 * np.mean(at_random)
    environment = RewardVectorEnv(task, 4, None)
    observations, _ = environment.reset(seed=0)
    spaces = environment.single_observation_space, environment.single_action_space
    assert load_policy(tmp_path, AgentCard.read(tmp_path), *spaces)(observations).shape == (4,)
    environment.close()


class NotANumber:
    """A reward that is broken."""

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        return np.full(len(frames), np.nan, np.float32)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_running")
def test_env_runners_in_other_processes_count_their_costs_and_tell_what_is_wrong(pole: Task) -> None:
    settings = replace(SMALL_PPO, num_env_runners=2)
    environment = {"task": pole, "make_reward": None, "seed": 0}
    config = PpoConfig().ppo(settings).environment(TASK_ENVIRONMENT, env_config=environment)
    algorithm: Ppo = config.debugging(seed=0, log_level="ERROR").build_algo()
    algorithm.train()
    assert algorithm.steps >= 128
    assert algorithm.sampling_costs.simulate > 0
    assert set(algorithm.runner_memory) == {1, 2}
    trained = algorithm.learner_group.get_weights()["default_policy"]
    acting = algorithm.actor().state_dict()
    assert all(np.array_equal(acting[name], trained[f"actor.{name}"]) for name in acting)
    (first, _) = algorithm.env_runner_group.foreach_env_runner(lambda runner: os.getpid(), local_env_runner=False)
    os.kill(first, signal.SIGKILL)
    with pytest.raises(SuiteError, match=r"the process of an env runner died.* goes on from the last checkpoint"):
        algorithm.train()
    algorithm.stop()

    environment = {"task": pole, "make_reward": NotANumber, "seed": 0}
    longer = replace(settings, batch_steps=2048)
    config = PpoConfig().ppo(longer).environment(TASK_ENVIRONMENT, env_config=environment)
    algorithm = config.debugging(seed=0, log_level="CRITICAL").build_algo()
    with pytest.raises(SuiteError, match=r"^the reward function gave NaN or infinity in 100 calls in a row"):
        algorithm.train()
    algorithm.stop()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"minibatch_size": 4096}, r"ppo\.minibatch_size is 4096: it must be between 1 and 2048"),
        ({"clip": 0.0}, r"ppo\.clip is 0\.0: it must lie above 0 and at most 1"),
        ({"gamma": 1.0}, r"ppo\.gamma is 1\.0"),
        ({"hidden": ()}, r"ppo\.hidden is \[\]"),
        ({"num_envs": 0}, r"ppo\.num_envs is 0"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        PpoSettings(**settings)


def test_an_agent_learns_by_one_algorithm() -> None:
    sac, ppo = SacSettings(gamma=0.9), PpoSettings()
    assert learning_settings(sac, None) is sac
    assert learning_settings(SacSettings(), ppo) is ppo
    with pytest.raises(SettingsError, match="sac and ppo are both given"):
        learning_settings(sac, ppo)
