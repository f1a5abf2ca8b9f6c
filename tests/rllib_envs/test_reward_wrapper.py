"""Other people's environments with a learned reward, in their own loops."""

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import DummyVecEnv

from datamodules.errors import DataError, SettingsError
from datamodules.tasks import Task
from rllib_envs.finite_reward import MOST_NON_FINITE_CALLS
from rllib_envs.reward_env import RewardEnv
from rllib_envs.reward_wrapper import LearnedRewardWrapper
from rllib_envs.square_frame import square_frame

PIXELS = 24


def pixel_sum(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A reward that no other frame of these tests shares."""
    assert frames.shape[1:] == (PIXELS, PIXELS, 3)
    return frames.sum(axis=(1, 2, 3)).astype(np.float32)


def cart_pole(**settings: Any) -> gymnasium.Env[Any, Any]:
    return gymnasium.make("CartPole-v1", render_mode="rgb_array", **settings)


@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1", "Reacher-v5"])
def test_reward_comes_from_the_frame_after_the_step(name: str) -> None:
    wrapped = LearnedRewardWrapper(gymnasium.make(name, render_mode="rgb_array"), pixel_sum, PIXELS)
    plain = gymnasium.make(name, render_mode="rgb_array")
    observation, info = wrapped.reset(seed=3)
    np.testing.assert_array_equal(observation, plain.reset(seed=3)[0])
    assert info["true_reward"] == 0.0
    plain.action_space.seed(0)
    for _ in range(5):
        action = plain.action_space.sample()
        observation, reward, terminated, truncated, info = wrapped.step(action)
        expected, true_reward, *ended, _ = plain.step(action)
        np.testing.assert_array_equal(observation, expected)
        assert [terminated, truncated] == ended
        assert reward == pixel_sum(square_frame(plain.render(), PIXELS)[None])[0]  # type: ignore[arg-type]  # an array
        assert info["true_reward"] == pytest.approx(float(true_reward))


def test_agrees_with_the_environment_of_this_project(pole: Task) -> None:
    own, wrapped = RewardEnv(pole, mean_of_red), LearnedRewardWrapper(RewardEnv(pole, None), mean_of_red, 84)
    own.reset(seed=1)
    wrapped.reset(seed=1)
    own.action_space.seed(0)
    for _ in range(pole.episode_steps):
        action = own.action_space.sample()
        ours, theirs = own.step(action), wrapped.step(action)
        assert ours[1] == theirs[1]
        assert ours[2:] == theirs[2:]


def mean_of_red(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    return frames[..., 0].mean(axis=(1, 2)).astype(np.float32)


@pytest.mark.filterwarnings("ignore:.*infinity")  # some observations have no bounds, and Gymnasium mentions it
@pytest.mark.filterwarnings("ignore:.*different from the unwrapped version")  # the wrapper is what is checked
def test_passes_gymnasiums_own_checks(pole: Task) -> None:
    check_env(LearnedRewardWrapper(RewardEnv(pole, None), mean_of_red, PIXELS), skip_render_check=True)


def test_works_in_the_vectors_of_stable_baselines() -> None:
    vector = DummyVecEnv([lambda: LearnedRewardWrapper(cart_pole(), pixel_sum, PIXELS) for _ in range(2)])
    vector.seed(0)
    vector.reset()
    _, rewards, _, infos = vector.step(np.array([0, 1]))
    assert rewards[0] != rewards[1]
    assert rewards.min() > 1
    assert [info["true_reward"] for info in infos] == [1.0, 1.0]


def test_works_in_the_vectors_of_gymnasium() -> None:
    vector = gymnasium.vector.SyncVectorEnv(
        [lambda: LearnedRewardWrapper(cart_pole(), pixel_sum, PIXELS) for _ in range(2)]
    )
    vector.reset(seed=0)
    _, rewards, _, _, infos = vector.step(np.array([0, 1]))
    assert rewards[0] != rewards[1]
    np.testing.assert_array_equal(infos["true_reward"], [1.0, 1.0])


@pytest.mark.parametrize("render_mode", [None, "human"])
def test_environment_that_does_not_draw_into_arrays_is_refused(render_mode: str | None) -> None:
    plain = gymnasium.make("CartPole-v1")
    plain.unwrapped.render_mode = render_mode  # "human" would open a window
    with pytest.raises(SettingsError, match=r"render_mode (None|'human').*needs 'rgb_array'.*gymnasium\.make"):
        LearnedRewardWrapper(plain, pixel_sum, PIXELS)


def test_frame_pixels_below_one_are_refused() -> None:
    with pytest.raises(SettingsError, match="frame_pixels is 0: it must be at least 1"):
        LearnedRewardWrapper(cart_pole(), pixel_sum, 0)


class DrawsSomethingElse(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Draws floats."""

    def render(self) -> Any:
        return np.zeros((8, 8, 3))


def test_pictures_that_are_not_uint8_are_refused() -> None:
    wrapped = LearnedRewardWrapper(DrawsSomethingElse(cart_pole()), pixel_sum, PIXELS)
    wrapped.reset(seed=0)
    with pytest.raises(DataError, match="frames are float64"):
        wrapped.step(0)


def test_rewards_that_are_not_finite_stay_away_from_the_agent() -> None:
    wrapped = LearnedRewardWrapper(cart_pole(), lambda frames: np.full(len(frames), np.nan, np.float32), PIXELS)
    wrapped.reset(seed=0)
    assert [wrapped.step(step % 2)[1] for step in range(3)] == [0.0, 0.0, 0.0]
    assert wrapped.non_finite_rewards == 3
    for _ in range(MOST_NON_FINITE_CALLS - 4):
        wrapped.reset(seed=0)
        wrapped.step(0)
    with pytest.raises(DataError, match="NaN or infinity in 100 calls"):
        wrapped.step(0)
