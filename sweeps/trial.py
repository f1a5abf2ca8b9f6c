"""One trial: TrialConfig -> TrialResult. The only place where the stages are composed.

collect -> label -> fit -> train -> evaluate -> report, each in its own folder below `out`. `trial.json` records what
every finished stage was made from; a trial that is started again skips those and goes on with the rest.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.errors import DataError, SettingsError
from datamodules.progress import ProgressDisplay, Report
from datamodules.results import read_json, write_json, write_result
from lightning_modules.fit import check_fit, fit_student
from lightning_modules.labelling import label_frames
from lightning_modules.teacher import ClipTeacher
from rllib_envs.collect import collect_frames
from rllib_envs.evaluate import evaluate_agent
from rllib_envs.rendering import require_gl
from rllib_envs.simulators import make_simulator
from rllib_envs.train import train_agent
from sweeps.plots import figures_of_trial
from sweeps.report import write_report
from sweeps.runs import Run, flatten
from sweeps.settings import EVALUATION_SEED, TrialConfig
from sweeps.statistics import mean_with_interval

UNITS = {
    "collect": "frames",
    "label": "frames",
    "fit": "batches",
    "train": "steps",
    "evaluate": "episodes",
    "report": "pages",
}


@dataclass(frozen=True)
class Stage:
    """One link of the chain: what it is made from, and the work, which returns its figures."""

    name: str
    inputs: Mapping[str, Any]
    work: Callable[[Report], dict[str, Any]]


class Journal:
    """`trial.json`: what each finished stage was made from, its figures and its seconds."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "trial.json"
        self._content: dict[str, Any] = read_json(self._path) if self._path.exists() else {"stages": {}, "run_id": None}

    @property
    def run_id(self) -> str | None:
        """The MLflow run that this trial goes on with."""
        return self._content["run_id"]  # type: ignore[no-any-return]  # JSON

    @run_id.setter
    def run_id(self, value: str) -> None:
        self._content["run_id"] = value
        write_json(self._path, self._content)

    def finished(self, stage: Stage) -> bool:
        """Whether an earlier run finished this stage.

        Raises:
            DataError: the folder holds that stage made from other settings; the message names them.
        """
        entry = self._content["stages"].get(stage.name)
        if entry is None:
            return False
        before, now = flatten(entry["inputs"]), flatten(_plain(stage.inputs))
        for key in sorted(before.keys() | now.keys()):
            if before.get(key) != now.get(key):
                raise DataError(
                    f"{self._path.parent} holds the stage {stage.name!r} made with {key} = {before.get(key)!r}, and now it "
                    f"is {now.get(key)!r}: choose another --out, or remove that folder to start it afresh"
                )
        return True

    def finish(self, stage: Stage, figures: dict[str, Any], seconds: float) -> None:
        """Record a finished stage."""
        self._content["stages"][stage.name] = {"inputs": _plain(stage.inputs), "figures": figures, "seconds": seconds}
        write_json(self._path, self._content)

    def figures(self, stage: str) -> dict[str, Any]:
        """A finished stage's figures; empty for a stage that this trial does not have."""
        return self._content["stages"].get(stage, {}).get("figures", {})  # type: ignore[no-any-return]  # JSON

    def seconds(self) -> dict[str, float]:
        """Seconds a finished stage took, by stage."""
        return {name: entry["seconds"] for name, entry in self._content["stages"].items()}


def run_trial(config: TrialConfig, command: str) -> Path:
    """Run a trial, or go on with one that was stopped.

    Args:
        config: every setting of every stage.
        command: the command that reproduces the trial, kept in the result and on the page.

    Returns:
        The path of `result.json`; `report.html` lies beside it.

    Raises:
        SuiteError: a mistake in the settings, found before any work starts.
    """
    journal = Journal(config.out)
    stages = stages_of(config)
    waiting = [stage for stage in stages if not journal.finished(stage)]
    check_trial(config, {stage.name for stage in waiting})
    config.out.mkdir(parents=True, exist_ok=True)
    units = {stage.name: UNITS[stage.name] for stage in stages} | {"report": UNITS["report"]}
    tracking = config.tracking
    run_name = f"{config.task.name} {config.reward} seed {config.seed}"
    with (
        Run(tracking.uri, tracking.experiment, run_name, journal.run_id) as run,
        ProgressDisplay(units) as display,
    ):
        journal.run_id = run.run_id
        _describe(run, config, command)
        for stage in stages:
            if stage not in waiting:
                display.done_before(stage.name, f"done before, in {journal.seconds()[stage.name]:.0f} s")
                continue
            with display.running(stage.name) as report:
                start = time.monotonic()
                figures = stage.work(report)
                journal.finish(stage, figures, time.monotonic() - start)
        with display.running("report") as report:
            path = _conclude(config, journal, run, command)
            report(1, 1, "")
    return path
