"""Videos that players can open."""

from pathlib import Path

import imageio.v2 as imageio
import numpy as np

from datamodules.tasks import Task
from rllib_envs.reward_env import RewardVectorEnv
from rllib_envs.video import LINE, SIDE, beside_curve, record_episode


def test_the_curve_grows_with_the_steps_and_leaves_the_frame_alone() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    rewards = list(np.sin(np.arange(50.0)))
    pictures = [beside_curve(frame, rewards, step) for step in (0, 10, 49)]
    inked = []
    for picture in pictures:
        assert picture.shape == (SIDE, 2 * SIDE, 3)
        assert (picture[:, :SIDE] == frame).all()
        inked.append(int((picture[:, SIDE:] == LINE).all(-1).sum()))
    assert 0 < inked[0] < inked[1] < inked[2]


def test_a_constant_reward_and_a_single_step_can_be_drawn() -> None:
    frame = np.zeros((SIDE, SIDE, 3), np.uint8)
    assert beside_curve(frame, [1.0], 0).shape == (SIDE, 2 * SIDE, 3)
    assert beside_curve(frame, [1.0, 1.0], 1).shape == (SIDE, 2 * SIDE, 3)


def test_an_episode_has_one_frame_a_decision(pole: Task, tmp_path: Path) -> None:
    environment = RewardVectorEnv(pole, 1, None)
    record_episode(environment, lambda observations: np.zeros((1, 1), np.float32), 3, tmp_path / "sub" / "a.mp4")
    with imageio.get_reader(tmp_path / "sub" / "a.mp4") as reader:
        assert reader.count_frames() == pole.episode_steps
        assert reader.get_meta_data()["size"] == (2 * SIDE, SIDE)
        assert reader.get_meta_data()["codec"] == "h264"
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["a.mp4"]
    environment.close()
