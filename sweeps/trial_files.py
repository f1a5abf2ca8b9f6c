"""A trial's folder, read: everything its page shows, and nothing for the stages that this trial does not have."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamodules.errors import DataError
from datamodules.results import read_json
from lightning_modules.held_out import HELD_OUT, HeldOut, read_held_out
from rllib_envs.evaluations import EVALUATIONS, Evaluation, read_evaluations

RESULT = "result.json"


@dataclass(frozen=True)
class TrialFiles:
    """What a trial left in its folder."""

    folder: Path
    """the trial's folder"""
    result: dict[str, Any]
    """result.json"""
    student: dict[str, Any]
    """student/student.json; empty without a student"""
    held_out: HeldOut | None
    """student/held_out.npz"""
    evaluations: tuple[Evaluation, ...]
    """agent/evaluations.jsonl, in order of steps"""
    agent: dict[str, Any]
    """agent/agent.json; empty without an agent"""
    training: dict[str, Any]
    """agent/result.json; empty without a finished agent"""
    video: Path | None
    """evaluation/agent.mp4"""

    @property
    def reward(self) -> str:
        """What the agent was rewarded with: student, teacher, random or true."""
        return str(self.agent.get("reward", "student"))


def is_finished(folder: Path) -> bool:
    """Whether a trial came to its end: `result.json` is written before its page and, with a total of seconds, after."""
    path = folder / RESULT
    return path.exists() and "total" in _json(path).get("seconds", {})


def read_trial(folder: Path) -> TrialFiles:
    """Read a trial's folder.

    Raises:
        DataError: there is no trial, or one of its files is damaged; the message names the file.
    """
    if not (folder / RESULT).exists():
        raise DataError(
            f"{folder} holds no result.json, so there is no trial to show: run "
            f"python -m scripts.run_trial --config conf/trials/demo.yaml --out {folder} first"
        )
    video = folder / "evaluation" / "agent.mp4"
    return TrialFiles(
        folder=folder,
        result=_json(folder / RESULT),
        student=_json(folder / "student" / "student.json"),
        held_out=read_held_out(folder / "student") if (folder / "student" / HELD_OUT).exists() else None,
        evaluations=read_evaluations(folder / "agent" / EVALUATIONS),
        agent=_json(folder / "agent" / "agent.json"),
        training=_json(folder / "agent" / RESULT),
        video=video if video.exists() else None,
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        return read_json(path) if path.exists() else {}
    except ValueError as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(f"{path} cannot be read ({type(error).__name__}: {error}): remove it and run the trial again")
