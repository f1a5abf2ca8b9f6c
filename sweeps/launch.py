"""A sweep run to its end: a grid of trials, or a search and the confirmation of its winner.

Everything lies in the sweep's folder. `sweep.json` says what is asked, `trials/NAME/` holds a trial each with its
`log.txt`, `shared/` what they have in common, `tune/` Ray Tune's own notes, and `result.json`, written last, how each
trial ended. A trial's own journal is its memory: a sweep that is started again runs the trials without a result, and
each of them goes on with its first unfinished stage.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import ray

from datamodules.errors import DataError, SettingsError
from datamodules.results import read_json, write_json, write_result
from sweeps.settings import SweepConfig
from sweeps.slots import Machines, resources_of, run_list
from sweeps.space import SweepTrial, trials_of
from sweeps.sweep_files import FINISHED, SWEEP
from sweeps.trial_files import RESULT, is_finished


def launch_sweep(sweep: SweepConfig, command: str) -> Path:
    """Run a sweep, or go on with one that was stopped.

    Returns:
        The path of `result.json`; `status` in it says how each trial ended.

    Raises:
        SuiteError: a mistake in any trial's settings or too few slots, found before any work starts.
    """
    from lightning_modules.ray_session import ray_session
    from lightning_modules.run_spool import SPOOL
    from lightning_modules.runs import Run
    from sweeps.trial_runs import end_runs

    out = sweep.out
    if sweep.resume and not (out / SWEEP).exists():
        raise DataError(f"resume is set, and {out} holds no sweep to go on with: correct --out, or leave --resume out")
    trials = trials_of(sweep)
    waiting, ends = check_trials(trials), list[SweepTrial]()
    if sweep.search is not None:
        from sweeps.search import check_search

        ends = check_search(sweep)
        check_trials(ends)
    start = time.monotonic()
    before = read_json(out / SWEEP) if (out / SWEEP).exists() else {}
    work = bool(waiting) or sweep.search is not None
    with ray_session() if work else nullcontext():
        machines = [node["Resources"] for node in ray.nodes() if node["Alive"]] if work else []
        for trial in (*waiting, *ends):
            resources_of(sweep, trial, machines)
        uri = sweep.base.tracking.uri
        with Run(uri, sweep.name, sweep.name, before.get("run_id"), spool=out / SPOOL) as run:
            if run.run_id is None:
                raise SettingsError(
                    f"the MLflow server {uri!r} does not answer, and a sweep's trials belong to a run there: start it, "
                    "or use a local store as 'sqlite:///runs/mlflow.db'"
                )
            if sweep.search is None:
                found: dict[str, Any] = {}
            else:
                trials, found = _search(sweep, trials, machines, run, command)
                waiting = check_trials(trials)
            _describe(sweep, trials, run, command, found)
            owned = [owned_by(run.run_id, trial) for trial in waiting]
            done = len(trials) - len(waiting)
            ended = run_list(sweep, owned, machines, command, done) if owned else {}
            end_runs(sweep, [name for name, how in ended.items() if how["status"] != FINISHED])
            return _conclude(sweep, trials, ended, run, time.monotonic() - start if work else 0.0)


def _search(
    sweep: SweepConfig, base: Sequence[SweepTrial], machines: Machines, run: Any, command: str
) -> tuple[list[SweepTrial], dict[str, Any]]:
    """Search, write the winner, and return the trials that confirm it and what `sweep.json` says of the search."""
    from sweeps.search import best_of, confirmations, search, write_winner
    from sweeps.trial_runs import end_runs

    _describe(sweep, base, run, command, {})  # so that a page can be asked for while it runs
    samples = search(sweep, run.run_id, machines, command)
    end_runs(sweep, [one.name for one in samples if not one.whole])
    winner = best_of(samples)
    path = write_winner(sweep, winner)
    found = {"samples": [asdict(one) for one in samples], "winner": winner.name, "conf": path.name}
    return confirmations(sweep, run.run_id, winner.values), {"search": found}


def check_trials(trials: Sequence[SweepTrial]) -> list[SweepTrial]:
    """Check every trial as it would check itself, each kind once; returns those that have something left to do.

    That may be no more than to deliver what a lost MLflow server missed.

    Raises SuiteError: a mistake in a trial's settings, or a folder that holds a trial of other settings.
    """
    from lightning_modules.run_spool import SPOOL
    from sweeps.journal import Journal
    from sweeps.trial import check_trial, stages_of

    checked, waiting = set(), []
    for trial in trials:
        config = trial.config
        unfinished = {stage.name for stage in Journal(config.out).unfinished(stages_of(config))}
        if unfinished or not is_finished(config.out) or (config.out / SPOOL).exists():
            waiting.append(trial)
        data = (config.task, config.teacher, config.student, config.fit)
        kind = repr((data, config.reward, config.spread_penalty, config.refinement, config.judge, sorted(unfinished)))
        if kind not in checked:
            checked.add(kind)
            check_trial(config, unfinished)
    return waiting


def owned_by(run_id: str, trial: SweepTrial) -> SweepTrial:
    return replace(trial, config=replace(trial.config, tracking=replace(trial.config.tracking, parent=run_id)))


def _describe(
    sweep: SweepConfig, trials: Sequence[SweepTrial], run: Any, command: str, found: Mapping[str, Any]
) -> None:
    """Note what is asked, before the first trial: `sweep.json` and the parent run."""
    varied = list(dict.fromkeys(key for trial in trials for key in trial.values))
    write_json(
        sweep.out / SWEEP,
        {
            "name": sweep.name,
            "question": sweep.question,
            "varied": varied,
            "trials": [
                {"name": each.name, "values": each.values, "task": each.config.task.name, "seed": each.config.seed}
                for each in trials
            ],
            "run_id": run.run_id,
            "command": command,
            "settings": asdict(sweep),
            **found,
        },
    )
    run.share_view([key for key in varied if key not in ("task", "seed")])
    run.set_tags(
        {
            "stage": "sweep",
            "varied": ", ".join(varied),
            "mlflow.note.content": f"{sweep.question}\n\nA sweep of {len(trials)} trials: `{command}`",
        }
    )


def _conclude(
    sweep: SweepConfig, trials: Sequence[SweepTrial], ended: Mapping[str, Mapping[str, str]], run: Any, seconds: float
) -> Path:
    out = sweep.out
    earlier = read_json(out / RESULT).get("seconds", 0.0) if (out / RESULT).exists() else 0.0
    status = {trial.name: dict(ended.get(trial.name, {"status": FINISHED, "error": ""})) for trial in trials}
    finished = sum(each["status"] == FINISHED for each in status.values())
    run.log_metrics({"final/finished_trials": finished, "final/failed_trials": len(status) - finished})
    return write_result(
        out,
        {
            "question": sweep.question,
            "status": status,
            "seconds": round(earlier + seconds, 1),
            "mlflow": {
                "tracking_uri": run.tracking_uri,
                "experiment": sweep.name,
                "experiment_id": run.experiment_id,
                "run_id": run.run_id,
            },
        },
        asdict(sweep),
    )
