"""A learned reward for any Gymnasium environment that can draw itself; works with SB3, CleanRL and the like.

    environment = gymnasium.make("CartPole-v1", render_mode="rgb_array")
    environment = LearnedRewardWrapper(environment, student, frame_pixels=84)

For the tasks of this project `reward_env.RewardEnv` draws faster, exactly as the student's training frames were drawn.
"""

from typing import TYPE_CHECKING, Any, SupportsFloat

import gymnasium
import numpy as np

from datamodules.errors import SettingsError
from datamodules.pixels import check_frames
from rllib_envs.finite_reward import FiniteReward
from rllib_envs.gl import prepare_gl
from rllib_envs.square_frame import square_frame

if TYPE_CHECKING:
    from lightning_modules.reward_function import RewardFunction

Infos = dict[str, Any]


class LearnedRewardWrapper(gymnasium.Wrapper[Any, Any, Any, Any]):
    """The reward becomes `reward(frame)` of what `render()` shows after the step, `info["true_reward"]` the old one.

    A student knows only frames like those it was fitted to: the same scene, camera and drawing. Episodes end as the
    environment says; where it ends them early, that is a reward of its own (a positive learned reward is better the
    longer the episode is), so an environment of fixed length is the better choice.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], reward: "RewardFunction", frame_pixels: int) -> None:
        """Wrap `env`.

        Args:
            env: made with render_mode="rgb_array".
            reward: uint8 frames (B, P, P, 3) -> float32 (B,), as `StudentReward.load(folder)`.
            frame_pixels: side P of the frames that `reward` takes (`student.card.pixels`); what `env` draws is padded
                to a square and averaged down to it.

        Raises SettingsError for an environment that does not draw into arrays, or less than one pixel.
        """
        if env.render_mode != "rgb_array":
            raise SettingsError(
                f"the environment has render_mode {env.render_mode!r}, and a learned reward needs 'rgb_array': "
                'make it with gymnasium.make(..., render_mode="rgb_array")'
            )
        if frame_pixels < 1:
            raise SettingsError(
                f"frame_pixels is {frame_pixels}: it must be at least 1 (`student.card.pixels` says it)"
            )
        prepare_gl()
        super().__init__(env)
        self._reward = FiniteReward(reward)
        self._pixels = frame_pixels

    @property
    def non_finite_rewards(self) -> int:
        """Rewards that were NaN or infinite and were replaced by 0."""
        return self._reward.non_finite_rewards

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Infos]:
        """Start an episode."""
        observation, info = self.env.reset(seed=seed, options=options)
        return observation, {**info, "true_reward": 0.0}

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, Infos]:
        """Take one step of the environment and score its frame.

        Raises DataError where the environment draws something other than uint8 RGB (height, width, 3).
        """
        observation, true_reward, terminated, truncated, info = self.env.step(action)
        picture: Any = self.env.render()
        check_frames(picture[None] if isinstance(picture, np.ndarray) else picture)
        reward = float(self._reward(square_frame(picture, self._pixels)[None])[0])
        return observation, reward, terminated, truncated, {**info, "true_reward": float(true_reward)}
