"""`trial.json`: which stages of a trial are finished, what they were made from, their figures and their seconds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamodules.differences import as_json, first_difference
from datamodules.errors import DataError
from datamodules.progress import Report
from datamodules.results import read_json, write_json
from lightning_modules.runs import Run


@dataclass(frozen=True)
class Stage:
    """One link of the chain; it works in the folder of its name below the trial's."""

    name: str
    """what bars, costs and messages call it"""
    folder: str
    """where it writes, below the trial's folder"""
    inputs: Mapping[str, Any]
    """the settings that decide its outcome"""
    work: Callable[[Report, Run], dict[str, Any]]
    """does it, or goes on with it, and returns its figures"""
    adds: tuple[str, ...] = ()
    """what it adds to its folder where others made that from the same inputs: the sentences of labels"""


@dataclass(frozen=True)
class Made:
    """What came of a stage."""

    figures: dict[str, Any]
    """what its work returned"""
    seconds: float
    """what that took, whoever did it"""
    shared: str | None = None
    """the folder that it has in common with other trials"""


class Journal:
    """A trial's memory. A stage is finished when it is recorded, its folder is there and all before it are finished."""

    def __init__(self, trial: Path) -> None:
        self._trial = trial
        self._path = trial / "trial.json"
        self._content: dict[str, Any] = read_json(self._path) if self._path.exists() else {"run_id": None, "stages": {}}

    @property
    def run_id(self) -> str | None:
        """The MLflow run that this trial goes on with."""
        run_id: str | None = self._content["run_id"]
        return run_id

    @run_id.setter
    def run_id(self, value: str) -> None:
        self._content["run_id"] = value
        write_json(self._path, self._content)

    def unfinished(self, stages: Sequence[Stage]) -> list[Stage]:
        """The stages still to do, in order.

        Raises:
            DataError: the folder holds a stage made from other settings, or from a stage that was removed since; the
                message names the setting and the folders to remove.
        """
        for position, stage in enumerate(stages):
            entry = self._content["stages"].get(stage.name)
            present = (self._trial / stage.folder).exists()
            if entry is None or not present:
                later = [other for other in stages[position + 1 :] if (self._trial / other.folder).exists()]
                if later:
                    raise DataError(f"{self._trial} lacks the stage {stage.name!r}: {self._remedy(later)}")
                return list(stages[position:])
            difference = first_difference(entry["inputs"], stage.inputs)
            if difference:
                raise DataError(
                    f"{self._trial} holds the stage {stage.name!r} made otherwise: {difference}; "
                    f"{self._remedy(stages[position:])}"
                )
        return []

    def begin(self, stage: Stage) -> None:
        """Count an attempt, so that the seconds of a stage that was stopped midway can be read for what they are."""
        attempts = self._content.setdefault("attempts", {})
        attempts[stage.name] = attempts.get(stage.name, 0) + 1
        self._content["stages"].pop(stage.name, None)  # a stage that is done again is unfinished until it ends
        write_json(self._path, self._content)

    def attempts(self) -> dict[str, int]:
        """How often each stage was begun; where it is more than once, `seconds` holds its last attempt only."""
        return dict(self._content.get("attempts", {}))

    def finish(self, stage: Stage, figures: dict[str, Any], seconds: float, shared: str | None = None) -> None:
        """Record a finished stage, and the folder that it has in common with other trials."""
        entry = {"inputs": as_json(stage.inputs), "figures": as_json(figures), "seconds": round(seconds, 2)}
        if shared:
            entry["shared"] = shared
        self._content["stages"][stage.name] = entry
        write_json(self._path, self._content)

    def figures(self, stage: str) -> dict[str, Any]:
        """A finished stage's figures; empty for a stage that this trial does not have."""
        figures: dict[str, Any] = self._content["stages"].get(stage, {}).get("figures", {})
        return figures

    def seconds(self) -> dict[str, float]:
        """Wall seconds of the finished stages, by name."""
        return {name: entry["seconds"] for name, entry in self._content["stages"].items()}

    def shared(self) -> dict[str, str]:
        """Folders that finished stages have in common with other trials, by the stage's name."""
        return {name: entry["shared"] for name, entry in self._content["stages"].items() if "shared" in entry}

    def _remedy(self, stages: Sequence[Stage]) -> str:
        folders = [str(self._trial / stage.folder) for stage in stages if (self._trial / stage.folder).exists()]
        return f"choose another --out, or remove {' and '.join(folders)} to do that part again"
