"""An agent's card and policy, there and back."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium import spaces

from datamodules.errors import DataError
from datamodules.tasks import Task
from lightning_modules.rewards import Standardisation
from lightning_modules.settings import TeacherSettings
from rllib_envs.agent_files import CARD, WEIGHTS, AgentCard, greedy_policy, load_policy, save_policy
from rllib_envs.ppo_networks import PpoActor
from rllib_envs.sac_networks import Actor
from rllib_envs.settings import PpoSettings, SacSettings

SAC = SacSettings(hidden=(8, 4))
EYES = spaces.Box(-np.inf, np.inf, (3,), np.float32)
ARM = spaces.Box(-1.0, 1.0, (2,), np.float32)


def card_of(task: Task, tmp_path: Path) -> AgentCard:
    teacher = TeacherSettings(("ViT-B-32", "ViT-L-14"), ("openai", "openai"), simulators=("cartpole",))
    return AgentCard(
        task,
        "student",
        SAC,
        3,
        tmp_path / "t" / "student",
        "ab" * 32,
        teacher,
        (Standardisation(0.25, 0.5), Standardisation(0.1, 2.0)),
    )


def test_a_card_survives_the_disk(pole: Task, tmp_path: Path) -> None:
    card = card_of(pole, tmp_path)
    card.write(tmp_path / "t" / "agent")
    assert AgentCard.read(tmp_path / "t" / "agent") == card
    plain = AgentCard(pole, "true", SAC, 0)
    plain.write(tmp_path / "plain")
    assert AgentCard.read(tmp_path / "plain") == plain


def test_a_trial_can_be_moved(pole: Task, tmp_path: Path) -> None:
    card_of(pole, tmp_path).write(tmp_path / "t" / "agent")
    shutil.move(tmp_path / "t", tmp_path / "elsewhere")
    assert AgentCard.read(tmp_path / "elsewhere" / "agent").student == tmp_path / "elsewhere" / "student"


def test_a_folder_without_an_agent_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"scripts\.train_agent"):
        AgentCard.read(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"), [('{"schema_version": 9}', "version"), ('{"schema_version": 1}', "damaged")]
)
def test_another_or_a_damaged_card_is_refused(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / CARD).write_text(content)
    with pytest.raises(DataError, match=message):
        AgentCard.read(tmp_path)


def test_a_saved_policy_acts_as_before(pole: Task, tmp_path: Path) -> None:
    actor = Actor(3, ARM, SAC.hidden)
    save_policy(tmp_path, actor)
    observations = np.random.default_rng(0).standard_normal((7, 3)).astype(np.float32)
    loaded = load_policy(tmp_path, AgentCard(pole, "true", SAC, 0), EYES, ARM)
    actions = loaded(observations)
    assert actions.shape == (7, 2)
    np.testing.assert_array_equal(actions, greedy_policy(actor)(observations))
    np.testing.assert_allclose(actions, actor.network(torch.from_numpy(observations))[:, :2].tanh().detach(), rtol=1e-6)


def test_a_policy_of_ppo_is_kept_and_acts_as_before_too(pole: Task, tmp_path: Path) -> None:
    AgentCard(pole, "true", PpoSettings(hidden=(16, 4)), 0).write(tmp_path)
    card = AgentCard.read(tmp_path)
    assert card.learning == PpoSettings(hidden=(16, 4))
    actor = PpoActor(3, ARM, card.learning.hidden)
    save_policy(tmp_path, actor)
    observations = np.random.default_rng(0).standard_normal((7, 3)).astype(np.float32)
    actions = load_policy(tmp_path, card, EYES, ARM)(observations)
    np.testing.assert_array_equal(actions, greedy_policy(actor)(observations))
    assert actions.any()


def test_missing_damaged_and_foreign_weights_are_named(pole: Task, tmp_path: Path) -> None:
    card = AgentCard(pole, "true", SAC, 0)
    with pytest.raises(DataError, match="did not finish"):
        load_policy(tmp_path, card, EYES, ARM)
    save_policy(tmp_path, Actor(3, ARM, SAC.hidden))
    wider = replace(card, learning=SacSettings(hidden=(16, 4)))
    with pytest.raises(DataError, match="does not fit"):
        load_policy(tmp_path, wider, EYES, ARM)
    (tmp_path / WEIGHTS).write_bytes(b"not weights")
    with pytest.raises(DataError, match="does not fit"):
        load_policy(tmp_path, card, EYES, ARM)
