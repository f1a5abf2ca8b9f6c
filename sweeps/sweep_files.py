"""A sweep's folder, read: the question, and what every trial left, finished or not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datamodules.differences import flatten
from datamodules.errors import DataError
from datamodules.results import read_json
from sweeps.trial_files import RESULT, TrialFiles, is_finished, read_trial

SWEEP, TRIALS = "sweep.json", "trials"
FINISHED, WAITING = "finished", "not finished"
STRATA = ("task", "seed")
"""what is varied to ask the same question again, not to compare"""
PLACES = ("out", "shared", "tracking.", "seed")
"""settings that make no difference to what a trial is"""


@dataclass(frozen=True, eq=False)
class SweptTrial:
    """One trial of a comparison."""

    name: str
    """its folder's name"""
    arm: str
    """which of the things compared it belongs to"""
    task: str
    seed: int
    files: TrialFiles | None
    """what it left; None while it is not finished"""
    status: str
    """`finished`, `failed`, `stopped` or `not finished`"""
    error: str = ""
    """why it failed"""


@dataclass(frozen=True, eq=False)
class SweepFiles:
    """Everything that a comparison shows."""

    folder: Path
    """where the page goes"""
    name: str
    question: str
    varied: tuple[str, ...]
    """the settings whose values are compared"""
    trials: tuple[SweptTrial, ...]
    """in the order of the grid"""
    result: Mapping[str, Any]
    """the sweep's result.json; empty while it runs, and for trials put together by hand"""
    command: str
    """what made it"""
    search: Mapping[str, Any] = field(default_factory=dict)
    """of a search: its samples, the winner and the file that holds it; empty for a grid"""
    latency: Mapping[str, float] = field(default_factory=dict)
    """by arm, seconds of a student's call where that was measured for the comparison (student_latency.py)"""

    @property
    def arms(self) -> tuple[str, ...]:
        """What is compared, in the order of the grid."""
        return tuple(dict.fromkeys(trial.arm for trial in self.trials))

    @property
    def tasks(self) -> tuple[str, ...]:
        """On what it is compared."""
        return tuple(dict.fromkeys(trial.task for trial in self.trials))

    @property
    def finished(self) -> tuple[SweptTrial, ...]:
        """The trials that can be compared."""
        return tuple(trial for trial in self.trials if trial.files is not None)


def read_sweep(folder: Path) -> SweepFiles:
    """Read a sweep's folder, while it runs or afterwards.

    Raises:
        DataError: there is no sweep, or a file of a finished trial is damaged.
    """
    path = folder / SWEEP
    if not path.exists():
        raise DataError(
            f"{folder} holds no {SWEEP}, so there is no sweep to show: give the folder that scripts.launch_sweep "
            "filled, or trials with --trials"
        )
    about = read_json(path)
    result = read_json(folder / RESULT) if (folder / RESULT).exists() else {}
    compared = [key for key in about["varied"] if key not in STRATA]
    trials = []
    for entry in about["trials"]:
        place, ended = folder / TRIALS / entry["name"], result.get("status", {}).get(entry["name"], {})
        files = read_trial(place) if is_finished(place) else None
        status = FINISHED if files else ended.get("status", WAITING)
        arm = arm_name({key: entry["values"][key] for key in compared})
        error = "" if files else ended.get("error", "")
        trials.append(SweptTrial(entry["name"], arm, entry["task"], entry["seed"], files, status, error))
    return SweepFiles(
        folder,
        about["name"],
        about["question"],
        tuple(compared),
        tuple(trials),
        result,
        about["command"],
        about.get("search", {}),
    )


def read_trials(folders: Sequence[Path], out: Path, question: str) -> SweepFiles:
    """Finished trials put together by hand; what they differ in, but task and seed, is what is compared.

    Raises:
        DataError: a folder holds no finished trial.
    """
    files = [read_trial(folder) for folder in folders]
    flat = [_settings(each.result["settings"]) for each in files]
    keys = list(dict.fromkeys(key for each in flat for key in each))
    compared = [key for key in keys if len({repr(each.get(key)) for each in flat}) > 1]
    trials = tuple(
        SweptTrial(
            folder.name,
            arm_name({key: str(settings.get(key)) for key in compared}),
            each.result["task"],
            each.result["seed"],
            each,
            FINISHED,
        )
        for folder, each, settings in zip(folders, files, flat, strict=True)
    )
    return SweepFiles(out, out.name, question, tuple(compared), trials, {}, "")


def final_value(path: Path) -> float:
    """The one figure of a finished trial's `result.json` that a search raises: its score, else its true return, else
    its student's Spearman inside an episode."""
    result = read_json(path)
    for key in ("score", "true_return"):
        if key in result:
            return float(result[key]["mean"])
    return float(result["student"]["spearman_within_episode"])


def arm_name(values: Mapping[str, str]) -> str:
    """'student', or 'gamma 0.9, tau 0.01' where more than one setting is compared."""
    if len(values) <= 1:
        return next(iter(values.values()), "all trials")
    return ", ".join(f"{key.rpartition('.')[2]} {value}" for key, value in values.items())


def _settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those that may be compared: a task is one thing, whatever its settings, but for the sentences."""
    flat = {key: value for key, value in flatten(settings).items() if not key.startswith(PLACES)}
    return {key: value for key, value in flat.items() if not key.startswith("task.") or key.startswith("task.prompts")}
