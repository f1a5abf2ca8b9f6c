"""The student that comes with the repository knows what its sentence says."""

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from datamodules.conf import read_conf
from datamodules.tasks import Task
from lightning_modules.reward_function import StudentReward
from lightning_modules.student_files import CARD, WEIGHTS, read_card
from rllib_envs.captions import goal_measure
from rllib_envs.simulators import make_simulator

ROOT = Path(__file__).parents[2]
STUDENT = ROOT / "conf/student/cartpole_swingup"
TASK = read_conf(Task, ROOT / "conf/tasks/cartpole_swingup.yaml")


def test_it_was_fitted_to_the_task_as_it_is_shipped() -> None:
    card = read_card(STUDENT)
    assert (card.target_of().task, card.pixels, card.target_of().prompts) == (
        TASK.name,
        TASK.render.frame_pixels,
        TASK.prompts,
    )
    assert card.fidelity.spearman_within_episode > 0.95


def test_it_is_small() -> None:
    assert sum((STUDENT / name).stat().st_size for name in (CARD, WEIGHTS)) < 1_000_000


def test_it_orders_states_by_how_upright_the_pole_is() -> None:
    simulator, generator = make_simulator(TASK), np.random.default_rng(7)
    frames, upright = [], []
    for _ in range(200):
        simulator.random_state(generator)
        frames.append(simulator.render(TASK.render.frame_pixels))
        upright.append(goal_measure(simulator))
    rewards = StudentReward.load(STUDENT)(np.stack(frames))
    assert stats.spearmanr(rewards, upright).statistic > 0.95
    assert rewards.std() == pytest.approx(1, abs=0.5)
