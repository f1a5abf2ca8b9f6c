"""A student as MLflow serves it: `mlflow.pyfunc.load_model("models:/student-TASK-BACKBONE/1").predict(frames)`.

Of a student of several tasks one is named: `load_model(..., model_config={"task": "walker_walk"})`.
"""

from collections.abc import Mapping
from pathlib import Path

from lightning_modules.reward_function import Frames, Rewards, StudentReward


class ServedStudent:
    """A student's reward behind MLflow's face."""

    def __init__(self, reward: StudentReward) -> None:
        """Serve this reward."""
        self._reward = reward

    def predict(self, frames: Frames) -> Rewards:
        """Score frames uint8 (N, P, P, 3) -> float32 (N,). Raises DataError for another shape or dtype."""
        return self._reward(frames)


def _load_pyfunc(path: str, model_config: Mapping[str, str | None]) -> ServedStudent:
    """What MLflow calls by this name; torch gives the same numbers everywhere and writes nothing into the registry."""
    return ServedStudent(StudentReward.load(Path(path), "torch", task=model_config["task"]))
