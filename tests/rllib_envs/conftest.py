"""Tasks as they are shipped, and small ones made for tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from datamodules.tasks import Prompts, Task
from rllib_envs.gl import prepare_gl

prepare_gl()  # some tests import dm_control themselves, which looks for a display when nothing else was settled
PROMPTS = Prompts(goal=("anything",))


@pytest.fixture
def pole() -> Task:
    """dm_control's cart-pole with episodes of 5 agent decisions."""
    return Task("pole", "dm_control", "cartpole-swingup", PROMPTS, episode_frames=10, frames_per_step=2)


@pytest.fixture
def falling_pole() -> Task:
    """Gymnasium's cart-pole, which ends its own episodes; 100 agent decisions."""
    return Task("falling_pole", "gymnasium", "CartPole-v1", PROMPTS, episode_frames=100, frames_per_step=1)


@pytest.fixture
def tasks_folder() -> Path:
    """The shipped tasks."""
    return Path(__file__).parents[2] / "conf/tasks"


@pytest.fixture(scope="session")
def ray_running() -> Iterator[None]:
    """One small Ray for all tests; trainings inside it use it instead of starting their own."""
    from lightning_modules.ray_session import ray_session

    with ray_session():
        yield
