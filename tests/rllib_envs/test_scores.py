"""Scores and successes by hand, and the references of the shipped tasks against Gymnasium and a random policy."""

from dataclasses import replace
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from datamodules.conf import read_conf
from datamodules.tasks import Task
from rllib_envs.evaluate import random_policy
from rllib_envs.play import PlayedEpisode, play_episodes
from rllib_envs.reward_env import RewardVectorEnv
from rllib_envs.scores import is_success, normalised_score, score_range

STATED = ("gym_cartpole", "gym_mountain_car")


def episode_of(*true: float) -> PlayedEpisode:
    rewards = np.array(true)
    return PlayedEpisode(rewards, rewards)


def test_a_dm_control_task_scores_shares_of_a_thousand(tasks_folder: Path) -> None:
    for path in tasks_folder.glob("*.yaml"):
        task = read_conf(Task, path)
        if task.family == "dm_control":
            assert score_range(task) == (0.0, 1000.0)
            assert normalised_score(task, 803.0) == pytest.approx(0.803)


def test_a_shorter_episode_is_scored_by_its_own_highest_return(pole: Task) -> None:
    assert normalised_score(pole, 5.0) == 0.5


def test_other_tasks_score_between_their_references_and_beyond(falling_pole: Task) -> None:
    assert normalised_score(falling_pole, 20.0) is None
    stated = replace(falling_pole, score_range=(20.0, 60.0))
    assert [normalised_score(stated, value) for value in (20, 40, 60, 100, 0)] == [0, 0.5, 1, 2, -0.5]


@pytest.mark.parametrize("name", STATED)
def test_a_reference_is_gymnasiums_own_threshold(name: str, tasks_folder: Path) -> None:
    task = read_conf(Task, tasks_folder / f"{name}.yaml")
    assert task.score_range is not None
    assert task.score_range[1] == gymnasium.spec(task.simulator).reward_threshold


@pytest.mark.slow
@pytest.mark.parametrize("name", STATED)
def test_a_random_policy_scores_zero(name: str, tasks_folder: Path) -> None:
    """The 1,000 episodes that the file names give its figure, to the digit."""
    task = read_conf(Task, tasks_folder / f"{name}.yaml")
    environment = RewardVectorEnv(task, 8, None)
    returns = play_episodes(environment, random_policy(environment, 1_000_000), range(1_000_000, 1_001_000))
    environment.close()
    assert task.score_range is not None
    assert round(float(np.mean(returns.true)), 1) == task.score_range[0]


def test_success_is_the_mean_of_the_last_tenth(pole: Task) -> None:
    """Twenty decisions of two frames: the last two of them, four frames, decide."""
    task = replace(pole, episode_frames=40, success_reward=0.8)
    assert is_success(task, episode_of(*[0.0] * 18, 1.6, 1.6))
    assert is_success(task, episode_of(*[0.0] * 18, 1.3, 1.9))
    assert not is_success(task, episode_of(*[0.0] * 18, 1.6, 1.5))
    assert not is_success(task, episode_of(*[2.0] * 18, 0.0, 2.0))


def test_an_episode_that_ended_early_is_no_success(pole: Task) -> None:
    task = replace(pole, episode_frames=40, success_reward=0.8)
    assert is_success(task, episode_of(*[2.0] * 20))
    assert not is_success(task, episode_of(*[2.0] * 18))


def test_short_episodes_are_judged_by_their_last_decision(pole: Task) -> None:
    task = replace(pole, success_reward=0.8)
    assert task.episode_steps == 5
    assert is_success(task, episode_of(0, 0, 0, 0, 1.6))
    assert not is_success(task, episode_of(2, 2, 2, 2, 1.5))


def test_a_task_without_the_notion_has_no_successes(pole: Task) -> None:
    assert is_success(pole, episode_of(2, 2, 2, 2, 2)) is None
