"""SacSettings: what it refuses, and that every refusal names the key."""

from typing import Any

import pytest

from datamodules.errors import SettingsError, UnknownNameError
from rllib_envs.settings import SacSettings


@pytest.mark.parametrize(
    "wrong",
    [
        {"total_steps": 0},
        {"num_envs": 0},
        {"num_envs": 257},
        {"num_env_runners": -1},
        {"num_env_runners": 65},
        {"learning_starts": -1},
        {"learning_starts": 200, "total_steps": 100},
        {"batch_size": 0},
        {"hidden": ()},
        {"hidden": (64, 0)},
        {"gamma": 1.0},
        {"gamma": -0.1},
        {"tau": 0.0},
        {"tau": 1.5},
        {"actor_lr": 0.0},
        {"critic_lr": float("nan")},
        {"temperature_lr": 2.0},
        {"initial_temperature": 0.0},
        {"updates_per_step": 33.0},
        {"replay_capacity": 100, "batch_size": 256},
        {"evaluation_every_steps": 0},
        {"evaluation_episodes": 0},
    ],
    ids=str,
)
def test_values_out_of_range_are_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=f"sac.{next(iter(wrong))}"):
        SacSettings(**wrong)


def test_unknown_observations_are_named() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown sac\.observations 'pixel': did you mean 'pixels'"):
        SacSettings(observations="pixel")  # type: ignore[arg-type]


def test_the_papers_update_ratio_is_possible() -> None:
    assert SacSettings(updates_per_step=1 / 32).updates_per_step == 0.03125
