"""A sweep run to its end: Ray Tune gives every trial its slot, and a trial that fails does not stop the others.

Everything lies in the sweep's folder. `sweep.json` says what is asked, `trials/NAME/` holds a trial each with its
`log.txt`, `shared/` what they have in common, `tune/` Ray Tune's own notes, and `result.json`, written last, how each
trial ended. A trial's own journal is its memory: a sweep that is started again runs the trials without a result, and
each of them goes on with its first unfinished stage.
"""

import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, redirect_stderr
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import ray
from ray import tune

from datamodules.errors import DataError, SettingsError, StoppedError, SuiteError
from datamodules.results import read_json, write_json, write_result
from sweeps.answer import duration
from sweeps.settings import SweepConfig, TrialConfig
from sweeps.space import SweepTrial, trials_of
from sweeps.sweep_files import FINISHED, RESULT, SWEEP

STOP, LOG, TUNE = "stop", "log.txt", "tune"
SECONDS_BETWEEN_LOOKS = 1.0
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def launch_sweep(sweep: SweepConfig, command: str) -> Path:
    """Run a sweep, or go on with one that was stopped.

    Returns:
        The path of `result.json`; `status` in it says how each trial ended.

    Raises:
        SuiteError: a mistake in any trial's settings or too few slots, found before any work starts.
    """
    from lightning_modules.ray_session import ray_session
    from sweeps.runs import Run

    trials = trials_of(sweep)
    out = sweep.out
    if sweep.resume and not (out / SWEEP).exists():
        raise DataError(f"resume is set, and {out} holds no sweep to go on with: correct --out, or leave --resume out")
    waiting = check_trials(trials)
    start = time.monotonic()
    before = read_json(out / SWEEP) if (out / SWEEP).exists() else {}
    uri, experiment = sweep.base.tracking.uri, sweep.name
    with ray_session() if waiting else nullcontext():
        resources = resources_of(sweep, ray.cluster_resources()) if waiting else []
        with Run(uri, experiment, sweep.name, before.get("run_id")) as run:
            _describe(sweep, trials, run, command)
            (out / STOP).unlink(missing_ok=True)
            ended: dict[str, dict[str, str]] = {}
            if waiting:
                owned = [_owned_by(run.run_id, trial) for trial in waiting]
                with _stopping(out / STOP):
                    ended = _run_all(sweep, owned, resources, command, done=len(trials) - len(waiting))
            return _conclude(sweep, trials, ended, run, time.monotonic() - start if waiting else 0.0)


def check_trials(trials: Sequence[SweepTrial]) -> list[SweepTrial]:
    """Check every trial as it would check itself, each kind once; returns those that have no result yet.

    Raises SuiteError: a mistake in a trial's settings, or a folder that holds a trial of other settings.
    """
    from sweeps.journal import Journal
    from sweeps.trial import check_trial, stages_of

    checked, waiting = set(), []
    for trial in trials:
        config = trial.config
        unfinished = {stage.name for stage in Journal(config.out).unfinished(stages_of(config))}
        if unfinished or not (config.out / RESULT).exists():
            waiting.append(trial)
        kind = repr((config.task, config.teacher, config.reward, config.student, config.fit, config.judge, unfinished))
        if kind not in checked:
            checked.add(kind)
            check_trial(config, unfinished)
    return waiting


def resources_of(sweep: SweepConfig, cluster: Mapping[str, float]) -> list[dict[str, float]]:
    """Slots of a trial, the first for the trial itself and one for each of its env runners.

    Raises SettingsError where the machine or cluster has fewer: Ray would wait for them without an end.
    """
    gpus = sweep.gpus_per_trial
    if gpus is None:
        gpus = 1.0 if cluster.get("GPU", 0) >= 1 else 0.0
    runners = sweep.base.sac.num_env_runners
    needed = {"CPU": sweep.cpus_per_trial + runners, "GPU": gpus}
    for kind, setting in (("CPU", "cpus_per_trial"), ("GPU", "gpus_per_trial")):
        there = cluster.get(kind, 0.0)
        if needed[kind] > there:
            runners_too = f" and {runners} for its env runners" if runners and kind == "CPU" else ""
            raise SettingsError(
                f"{setting} is {getattr(sweep, setting)}{runners_too}: Ray has {there:g} {kind} slots here, and no "
                "trial could ever start; lower it, or join a larger cluster with RAY_ADDRESS"
            )
    return [{"CPU": sweep.cpus_per_trial, "GPU": gpus}, *({"CPU": 1.0} for _ in range(runners))]


def run_in_slot(
    config: Mapping[str, str],
    *,
    trials: Mapping[str, TrialConfig],
    folder: str,
    command: str,
    threads: int,
    stop: str,
) -> dict[str, Any]:
    """One trial as Ray Tune runs it, in a process of its own. `config["trial"]` says which of `trials`.

    Returns its status: a trial that was asked to stop, or whose settings are wrong, need not be tried again. Any other
    failure is raised, and Tune tries again.
    """
    os.chdir(folder)
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    import torch

    torch.set_num_threads(threads)
    from sweeps.trial import run_trial

    trial = trials[config["trial"]]
    trial.out.mkdir(parents=True, exist_ok=True)
    with (trial.out / LOG).open("a", buffering=1) as log, redirect_stderr(log):
        try:
            run_trial(trial, command, _stop_check(Path(stop)))
        except StoppedError:
            return {"status": "stopped", "error": ""}
        except SuiteError as mistake:
            traceback.print_exc()
            return {"status": "failed", "error": str(mistake)}
        except Exception:
            traceback.print_exc()
            raise
    return {"status": FINISHED, "error": ""}


def _stop_check(path: Path) -> Callable[[], None]:
    """Raises StoppedError once the file is there; looks for it once a second."""
    looked = 0.0

    def check() -> None:
        nonlocal looked
        if time.monotonic() - looked > SECONDS_BETWEEN_LOOKS:
            looked = time.monotonic()
            if path.exists():
                raise StoppedError("the sweep was asked to stop")

    return check


@contextmanager
def _stopping(path: Path) -> Iterator[None]:
    """Let the first Ctrl-C ask all trials to stop at their next step, and the second end everything at once."""

    def ask(*_: object) -> None:
        path.touch()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        print("\nstopping: every trial ends at its next step; Ctrl-C again stops at once", file=sys.stderr, flush=True)

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if path.exists():
        raise KeyboardInterrupt


class _Lines(tune.Callback):  # type: ignore[misc]  # ray ships no types
    """What happens, in lines on stderr."""

    def __init__(self, waiting: int, done: int) -> None:
        self._all, self._before, self._done, self._start = waiting + done, done, done, time.monotonic()
        self._began: dict[str, float] = {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._began[trial.trial_id] = time.monotonic()
        self._print(f"{_name(trial)}: started")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        result = trial.last_result or {}
        self._end(trial, result.get("status", "ended"), result.get("error", ""))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._end(trial, "failed", "see its log.txt")

    def _end(self, trial: Any, status: str, error: str) -> None:
        self._done += 1
        passed = time.monotonic() - self._start
        left = passed / (self._done - self._before) * (self._all - self._done)
        took = duration(time.monotonic() - self._began.get(trial.trial_id, self._start))
        self._print(
            f"{_name(trial)}: {status} in {took}{': ' * bool(error)}{error} "
            f"[{self._done} of {self._all} trials, {duration(passed)} passed, about {duration(left)} left]"
        )

    @staticmethod
    def _print(line: str) -> None:
        print(line, file=sys.stderr, flush=True)


def _name(trial: Any) -> str:
    return str(trial.config["trial"])


def _run_all(
    sweep: SweepConfig, trials: Sequence[SweepTrial], resources: list[dict[str, float]], command: str, done: int
) -> dict[str, dict[str, str]]:
    """Run the trials as slots come free; how each of them ended, by name."""
    folder = sweep.out.resolve()
    shutil.rmtree(folder / TUNE, ignore_errors=True)  # its notes of an earlier start: the journals know more
    # No logs but ours, and no change of the working folder; Ctrl-C is ours, too.
    os.environ.update(
        {
            "RAY_AIR_NEW_OUTPUT": "0",
            "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
            "RAY_CHDIR_TO_TRIAL_DIR": "0",
            "TUNE_DISABLE_SIGINT_HANDLER": "1",
        }
    )
    trainable = tune.with_parameters(
        run_in_slot,
        trials={trial.name: trial.config for trial in trials},
        folder=os.getcwd(),
        command=command,
        threads=sweep.threads_per_trial,
        stop=str(folder / STOP),
    )
    tuner = tune.Tuner(
        tune.with_resources(trainable, tune.PlacementGroupFactory(resources)),
        param_space={"trial": tune.grid_search([trial.name for trial in trials])},
        tune_config=tune.TuneConfig(reuse_actors=False),
        run_config=tune.RunConfig(
            name=TUNE,
            storage_path=str(folder),
            failure_config=tune.FailureConfig(max_failures=sweep.retries),
            callbacks=[_Lines(len(trials), done)],
            verbose=0,
        ),
    )
    results = tuner.fit()
    ended = {}
    for result in results:
        name = result.config["trial"]
        if result.error is not None:
            ended[name] = {"status": "failed", "error": _last_line(result.error)}
        else:
            ended[name] = {key: str((result.metrics or {}).get(key, "")) for key in ("status", "error")}
    return ended


def _last_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__


def _owned_by(run_id: str, trial: SweepTrial) -> SweepTrial:
    return replace(trial, config=replace(trial.config, tracking=replace(trial.config.tracking, parent=run_id)))


def _describe(sweep: SweepConfig, trials: Sequence[SweepTrial], run: Any, command: str) -> None:
    """Note what is asked, before the first trial: `sweep.json` and the parent run."""
    varied = [key for key, values in sweep.grid.items() if len(values) > 1]
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
        },
    )
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
