"""Env runners in processes of their own: they die, come back with what is current, and tell what went wrong."""

import os
import signal
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from ray.rllib.env.single_agent_episode import SingleAgentEpisode

from datamodules.errors import SettingsError, SuiteError
from datamodules.tasks import Task
from rllib_envs.agent_files import AgentCard
from rllib_envs.frame_replay import FrameReplayBuffer
from rllib_envs.sac import TASK_ENVIRONMENT, Sac, SacConfig
from rllib_envs.sac_env_runner import (
    Request,
    Reward,
    SacEnvRunner,
    forget_frames,
    frame_steps_of,
    sample_or_tell,
    transitions_of,
)
from rllib_envs.settings import SacSettings
from rllib_envs.training import make_algorithm

TINY = SacSettings(
    num_envs=2, learning_starts=64, batch_size=8, hidden=(8,), replay_capacity=5000, updates_per_step=0.25
)
SECONDS_TO_COME_BACK = 200.0


class Constantly:
    """The same reward for every frame."""

    def __init__(self, reward: float) -> None:
        self._reward = reward

    def __call__(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.full(len(frames), self._reward, np.float32)


def build(task: Task, runners: int, reward: float, iteration_steps: int = 256) -> Sac:
    config = SacConfig().sac(SacSettings(**{**vars(TINY), "num_env_runners": runners}))
    environment = {"task": task, "make_reward": partial(Constantly, reward), "seed": 0}
    config.environment(TASK_ENVIRONMENT, env_config=environment).debugging(seed=0, log_level="ERROR")
    config.reporting(min_sample_timesteps_per_iteration=iteration_steps)
    algorithm: Sac = config.build_algo()
    return algorithm


def newest_rewards(algorithm: Sac, count: int) -> set[float]:
    stored = algorithm.replay._columns["rewards"]
    return set(stored[algorithm.replay.size - count : algorithm.replay.size].tolist())


def weights_of(runner: SacEnvRunner) -> dict[str, NDArray[np.float32]]:
    return {name: value.numpy() for name, value in runner.module.actor.state_dict().items()}


@pytest.mark.usefixtures("ray_running")
@pytest.mark.slow
def test_a_killed_runner_comes_back_with_the_current_policy_and_reward(pole: Task) -> None:
    algorithm = build(pole, runners=2, reward=1.0)
    algorithm.train()
    assert algorithm.steps >= 256
    assert algorithm._weights is not None
    assert algorithm.updates == int((algorithm.steps - TINY.learning_starts) * TINY.updates_per_step)
    assert newest_rewards(algorithm, algorithm.steps) == {1.0}
    assert algorithm.sampling_costs.simulate > 0
    assert algorithm.sampling_costs.reward_calls.calls > 0
    assert set(algorithm.runner_memory) <= {1, 2}
    assert all(memory.cpu > 0.1 for memory in algorithm.runner_memory.values())
    algorithm.set_reward(Reward(1, partial(Constantly, 2.0)))
    algorithm.train()  # also fetches what was asked for before

    group = algorithm.env_runner_group
    before = group.foreach_env_runner(lambda runner: os.getpid(), local_env_runner=False)
    os.kill(before[0], signal.SIGKILL)
    deadline = time.monotonic() + SECONDS_TO_COME_BACK
    restored = False
    while not restored and time.monotonic() < deadline:
        algorithm.train()
        pids = group.foreach_env_runner(lambda runner: os.getpid(), local_env_runner=False)
        restored = len(pids) == 2 and before[0] not in pids
    assert restored
    algorithm.train()
    assert newest_rewards(algorithm, 128) == {2.0}
    assert algorithm.updates == int((algorithm.steps - TINY.learning_starts) * TINY.updates_per_step)
    now = Request(algorithm.steps, algorithm._reward, algorithm._weights)
    group.foreach_env_runner(partial(sample_or_tell, request=now), local_env_runner=False)
    weights = weights_of(algorithm.env_runner)
    for version, steps, actor in group.foreach_env_runner(
        lambda runner: (runner.env.unwrapped.reward_version, runner.num_env_steps_sampled_lifetime, weights_of(runner)),
        local_env_runner=False,
    ):
        assert version == 1
        assert steps > TINY.learning_starts  # or it would act at random again
        assert all(np.array_equal(actor[name], weights[name]) for name in weights)
    algorithm.stop()


@pytest.mark.usefixtures("ray_running")
@pytest.mark.slow
def test_runners_start_different_episodes_and_their_mistakes_reach_the_user(pole: Task) -> None:
    algorithm = build(pole, runners=2, reward=float("nan"), iteration_steps=5000)
    with pytest.raises(SuiteError, match="NaN or infinity in 100 calls in a row"):
        algorithm.train()
    assert newest_rewards(algorithm, algorithm.steps) == {0.0}
    assert algorithm.non_finite_rewards == algorithm.steps > 0
    first = algorithm.replay._columns["observations"][: algorithm.steps]
    assert len(np.unique(first, axis=0)) == len(first)
    algorithm.stop()


@pytest.mark.usefixtures("ray_running")
@pytest.mark.slow
def test_runners_of_an_agent_that_sees_pixels_deliver_whole_episodes_in_pieces(pole: Task) -> None:
    small = replace(pole, render=replace(pole.render, frame_pixels=24), episode_frames=40)
    settings = replace(TINY, num_env_runners=2, observations="pixels")
    algorithm = make_algorithm(AgentCard(small, "true", settings, 0), seed=0)
    algorithm.train()
    replay = algorithm.replay
    assert isinstance(replay, FrameReplayBuffer)
    distances = replay._columns["distances"][: len(replay)]
    starts = int((distances[:, -2] == 0).sum())
    assert len(replay) - starts == algorithm.steps >= 256
    assert starts == len(replay._seen) > algorithm.steps // small.episode_steps  # no piece was taken for a new episode
    assert algorithm.updates == int((algorithm.steps - TINY.learning_starts) * TINY.updates_per_step)
    algorithm.stop()


@pytest.mark.usefixtures("ray_running")
@pytest.mark.slow
@pytest.mark.skipif((os.cpu_count() or 1) >= 64, reason="here 64 runners find a CPU each")
def test_more_runners_than_cpus_are_refused_before_ray_waits_for_them(pole: Task) -> None:
    with pytest.raises(SettingsError, match=r"sac.num_env_runners is 64: Ray has \d+ CPUs here"):
        make_algorithm(AgentCard(pole, "true", SacSettings(num_env_runners=64), 0), seed=0)


@pytest.mark.usefixtures("ray_running")
@pytest.mark.slow
def test_a_changed_reward_is_asked_for_again_after_a_restoration(pole: Task, tmp_path: Path) -> None:
    algorithm = build(pole, runners=0, reward=1.0)
    algorithm.set_reward(Reward(3, partial(Constantly, 3.0)))
    algorithm.train()
    assert newest_rewards(algorithm, algorithm.steps) == {3.0}
    algorithm.save_to_path(tmp_path)
    noise = torch.randn(3)

    restored = build(pole, runners=0, reward=1.0)
    restored.restore_from_path(tmp_path)
    assert torch.equal(torch.randn(3), noise)
    assert restored.reward_version == 3
    with pytest.raises(SuiteError, match="version 3 of its reward"):
        restored.train()
    restored.set_reward(Reward(3, partial(Constantly, 3.0)))
    restored.train()
    assert newest_rewards(restored, restored.steps) == {3.0}
    algorithm.stop()
    restored.stop()


def test_chunks_of_episodes_become_transitions() -> None:
    ongoing = SingleAgentEpisode(
        observations=[np.array([step], np.float32) for step in range(3)],
        actions=[0.1, 0.2],
        rewards=[1.0, 2.0],
        len_lookback_buffer=0,
    )
    ended = SingleAgentEpisode(
        observations=[np.array([7.0], np.float32), np.array([8.0], np.float32)],
        actions=[0.3],
        rewards=[3.0],
        terminated=True,
        len_lookback_buffer=0,
    )
    cut = SingleAgentEpisode(
        observations=[np.array([9.0], np.float32), np.array([10.0], np.float32)],
        actions=[0.4],
        rewards=[4.0],
        truncated=True,
        len_lookback_buffer=0,
    )
    started = SingleAgentEpisode(observations=[np.array([5.0], np.float32)], len_lookback_buffer=0)
    for episode in (ongoing, ended, cut, started):
        episode.to_numpy()
    transitions = transitions_of([ongoing, ended, started, cut])
    assert transitions.observations[:, 0].tolist() == [0, 1, 7, 9]
    assert transitions.next_observations[:, 0].tolist() == [1, 2, 8, 10]
    np.testing.assert_allclose(transitions.actions[:, 0], [0.1, 0.2, 0.3, 0.4])
    assert transitions.rewards.tolist() == [1, 2, 3, 4]
    assert transitions.terminated.tolist() == [0, 0, 1, 0]


def stacked(*colours: int) -> NDArray[np.uint8]:
    return np.repeat(np.array(colours, np.uint8), 3)[None, None].repeat(2, 0).repeat(2, 1)


def test_chunks_of_stacks_become_single_frames_that_rllib_no_longer_holds() -> None:
    started = SingleAgentEpisode(
        id_="a", observations=[stacked(1, 1, 1), stacked(1, 1, 2)], actions=[0.1], rewards=[1.0], len_lookback_buffer=0
    )
    ended = SingleAgentEpisode(
        id_="b",
        observations=[stacked(5, 6, 7), stacked(6, 7, 8), stacked(7, 8, 9)],
        actions=[0.2, 0.3],
        rewards=[2.0, 3.0],
        terminated=True,
        len_lookback_buffer=0,
    )
    empty = SingleAgentEpisode(observations=[stacked(4, 4, 4)], len_lookback_buffer=0)
    episodes = [started, empty, ended]
    for episode in episodes:
        episode.to_numpy()
    steps = frame_steps_of(episodes)
    assert steps.frames[:, 0, 0, 0].tolist() == [2, 8, 9]
    assert steps.first_frames[:, 0, 0, 0].tolist() == [1, 7]
    assert (steps.episodes, steps.lengths) == (("a", "b"), (1, 2))
    np.testing.assert_allclose(steps.actions[:, 0], [0.1, 0.2, 0.3])
    assert steps.rewards.tolist() == [1, 2, 3]
    assert steps.terminated.tolist() == [0, 0, 1]
    forget_frames(episodes)
    assert sum(episode.observations.data.nbytes for episode in episodes) == 0
    assert (len(ended), ended.get_return()) == (2, 5.0)  # what RLlib keeps them for
