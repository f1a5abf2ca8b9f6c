"""Nine frames of an episode in one picture, against frames drawn by hand on the way."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datamodules.conf import read_conf
from datamodules.tasks import Task
from rllib_envs.contact_sheet import ContactSheet
from rllib_envs.reward_env import RewardVectorEnv


def test_nine_frames_evenly_spread_over_the_episode_row_by_row(pole: Task) -> None:
    pole = replace(pole, episode_frames=60)  # 30 decisions
    environment = RewardVectorEnv(pole, 2, None)
    sheet, drawn = ContactSheet(environment), []
    environment.reset(seed=0)
    for _ in range(pole.episode_steps):
        environment.step(np.full((2, 1), 0.5, np.float32))
        drawn.append(environment.render()[0].copy())
        sheet.after_step()
    pixels, picture = pole.render.frame_pixels, sheet.picture()
    assert picture.shape == (3 * pixels, 3 * pixels, 3)
    for place in range(9):
        row, column = place // 3 * pixels, place % 3 * pixels
        expected = drawn[round(pole.episode_steps * (place + 1) / 9) - 1]
        np.testing.assert_array_equal(picture[row : row + pixels, column : column + pixels], expected)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 2
    environment.close()


def test_an_episode_that_ends_early_leaves_the_rest_white(tasks_folder: Path) -> None:
    task = read_conf(Task, tasks_folder / "gym_cartpole.yaml")
    environment = RewardVectorEnv(task, 1, None)
    sheet = ContactSheet(environment)
    environment.reset(seed=0)
    ended = False
    while not ended:  # pushed to one side the pole falls within a dozen of 500 steps
        _, _, terminated, _, _ = environment.step(np.ones(1, np.int64))
        sheet.after_step()
        ended = bool(terminated[0])
    fallen = environment.render()[0].copy()
    for _ in range(100):  # the episode after it is not shown
        environment.step(np.ones(1, np.int64))
        sheet.after_step()
    pixels, picture = task.render.frame_pixels, sheet.picture()
    np.testing.assert_array_equal(picture[:pixels, :pixels], fallen)
    assert (picture[pixels:] == 255).all()
    assert (picture[:pixels, pixels:] == 255).all()
    environment.close()


@pytest.mark.parametrize("steps", [1, 5])
def test_an_episode_of_few_decisions_shows_each_once(pole: Task, steps: int) -> None:
    environment = RewardVectorEnv(replace(pole, episode_frames=steps * pole.frames_per_step), 1, None)
    sheet = ContactSheet(environment)
    environment.reset(seed=0)
    for _ in range(steps):
        environment.step(np.zeros((1, 1), np.float32))
        sheet.after_step()
    pixels = pole.render.frame_pixels
    tiles = sheet.picture().reshape(3, pixels, 3, pixels, 3).swapaxes(1, 2).reshape(9, -1)
    assert [bool((tile == 255).all()) for tile in tiles] == [False] * steps + [True] * (9 - steps)
    environment.close()
