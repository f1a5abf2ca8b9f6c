"""`evaluations.jsonl`: an agent's learning curve, an evaluation a line, as its training writes it."""

import json
from dataclasses import dataclass
from pathlib import Path

from datamodules.errors import DataError

EVALUATIONS = "evaluations.jsonl"


@dataclass(frozen=True)
class Evaluation:
    """The agent at one moment of its training, on episodes that are the same every time."""

    steps: int
    """agent decisions so far"""
    true_returns: tuple[float, ...]
    """the simulator's own reward summed over an episode's frames, one value an episode"""
    learned_returns: tuple[float, ...]
    """the reward the agent trains on, summed over the same episodes"""
    teacher_returns: tuple[float, ...] = ()
    """the teacher's own reward, summed over the same episodes; empty where it was not asked"""
    reward_version: int = 0
    """which student said the learned returns: 0 is the first, a refinement makes others"""


def read_evaluations(path: Path) -> tuple[Evaluation, ...]:
    """The evaluations in a file, in order of steps; none where there is no file.

    Raises:
        DataError: the file is damaged.
    """
    if not path.exists():
        return ()
    try:
        lines = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
        evaluations = [
            Evaluation(
                steps=int(line["steps"]),
                true_returns=tuple(line["true_returns"]),
                learned_returns=tuple(line.get("learned_returns", ())),
                teacher_returns=tuple(line.get("teacher_returns", ())),
                reward_version=int(line.get("reward_version", 0)),
            )
            for line in lines
        ]
    except (ValueError, KeyError) as error:
        raise DataError(
            f"{path} cannot be read ({type(error).__name__}: {error}): remove it and run the trial again"
        ) from error
    return tuple(sorted(evaluations, key=lambda evaluation: evaluation.steps))
