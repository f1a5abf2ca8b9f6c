"""What tests of whole trainings share."""

import json
from pathlib import Path
from typing import Any

from rllib_envs.settings import PpoSettings

SMALL_PPO = PpoSettings(
    total_steps=512,
    num_envs=2,
    batch_steps=128,
    minibatch_size=32,
    epochs=2,
    hidden=(8,),
    evaluation_every_steps=128,
    evaluation_episodes=2,
)


def lines_of(out: Path) -> list[dict[str, Any]]:
    """The evaluations that a training wrote."""
    return [json.loads(line) for line in (out / "evaluations.jsonl").read_text().splitlines()]
