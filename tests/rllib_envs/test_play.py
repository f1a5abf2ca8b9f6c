"""Whole episodes and their returns."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from datamodules.tasks import Task
from rllib_envs.judges import Judge
from rllib_envs.play import play_episodes
from rllib_envs.reward_env import RewardEnv, RewardVectorEnv

SEEDS = (5, 9, 2, 7, 1)


def lean(observations: NDArray[np.float32]) -> NDArray[Any]:
    """A policy that answers to what it sees."""
    return np.clip(observations[:, 3:4], -1, 1).astype(np.float32)


def one_by_one(task: Task, seeds: Sequence[int]) -> list[float]:
    """The same episodes, each in an environment of its own."""
    returns = []
    for seed in seeds:
        environment = RewardEnv(task, None)
        observation, _ = environment.reset(seed=seed)
        total, ended = 0.0, False
        while not ended:
            observation, _, terminated, truncated, info = environment.step(lean(observation[None])[0])
            total += info["true_reward"]
            ended = terminated or truncated
        returns.append(total)
        environment.close()
    return returns


@pytest.mark.parametrize("side_by_side", [1, 2, 5, 8])
def test_returns_do_not_depend_on_how_many_episodes_run_side_by_side(pole: Task, side_by_side: int) -> None:
    environment = RewardVectorEnv(pole, side_by_side, None)
    returns = play_episodes(environment, lean, SEEDS)
    np.testing.assert_allclose(returns.true, one_by_one(pole, SEEDS))
    assert returns.learned == returns.true
    assert returns.steps == len(SEEDS) * pole.episode_steps
    environment.close()


def test_the_learned_return_is_a_sum_over_decisions(pole: Task) -> None:
    environment = RewardVectorEnv(pole, 2, lambda frames: np.full(len(frames), 0.25, np.float32))
    returns = play_episodes(environment, lean, SEEDS)
    assert returns.learned == [0.25 * pole.episode_steps] * len(SEEDS)
    assert returns.true != returns.learned
    environment.close()


def test_an_episode_that_ends_early_counts_to_its_end_only(falling_pole: Task) -> None:
    environment = RewardVectorEnv(replace(falling_pole, episode_frames=500), 3, None)
    returns = play_episodes(environment, lambda observations: np.ones(len(observations), np.int64), SEEDS)
    # CartPole-v1 gives 1 a step and falls within a dozen steps when it is pushed one way
    assert all(5 <= total <= 15 for total in returns.true)
    assert returns.steps == sum(returns.true)
    environment.close()


@pytest.mark.parametrize("side_by_side", [1, 2])
def test_judges_see_the_frames_that_the_reward_sees_and_change_nothing(pole: Task, side_by_side: int) -> None:
    def redness(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        return frames[..., 0].mean(axis=(1, 2), dtype=np.float32)

    environment = RewardVectorEnv(pole, side_by_side, redness)
    alone = play_episodes(environment, lean, SEEDS)
    judge = Judge(redness, pole.render.frame_pixels, queries_a_frame=1)
    judged = play_episodes(environment, lean, SEEDS, {"again": judge})
    assert judged.true == alone.true
    assert judged.learned == alone.learned
    assert judged.judged("again") == judged.learned
    assert judge.queries == judged.steps
    assert alone.judged("again") is None
    environment.close()


def test_every_decision_of_an_episode_is_kept(falling_pole: Task) -> None:
    environment = RewardVectorEnv(falling_pole, 2, None)
    drawn: list[int] = []
    returns = play_episodes(
        environment,
        lambda observations: np.ones(len(observations), np.int64),
        SEEDS[:1],
        after_step=lambda: drawn.append(1),
    )
    (episode,) = returns.episodes
    # CartPole-v1 gives 1 for every step until it falls, and its other simulator plays a spare episode
    assert episode.true.tolist() == [1.0] * returns.steps
    assert episode.learned.tolist() == episode.true.tolist()
    assert len(drawn) == returns.steps
    environment.close()
