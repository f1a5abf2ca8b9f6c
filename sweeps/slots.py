"""Trials side by side in Ray's slots: each in a process of its own, retried where it was, stopped by Ctrl-C."""

import os
import shutil
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray import tune

from datamodules.errors import SettingsError, StoppedError, SuiteError
from rllib_envs.settings import learning_settings
from sweeps.answer import duration
from sweeps.settings import SweepConfig
from sweeps.space import SweepTrial
from sweeps.sweep_files import FINISHED

STOP, LOG, TUNE = "stop", "log.txt", "tune"
SECONDS_BETWEEN_LOOKS = 1.0
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
HELP = "slots, so the trial could never start; ask for fewer, or join a larger cluster with RAY_ADDRESS"
BEFORE_THE_END = 99.0
VALUE, PERCENT = "value", "percent"
"""what a trial of a search reports: the figure to raise, and how much of the trial is done"""

Point = Mapping[str, Any]
"""what Ray Tune hands to a trial: its name, or what was drawn for it"""
Machines = Sequence[Mapping[str, float]]
"""the slots of each machine that Ray has, as {'CPU': 8.0, 'GPU': 1.0}"""


@dataclass(frozen=True)
class Drawn:
    """Points that a searcher draws, in place of a list of trials."""

    searcher: Any
    scheduler: Any
    samples: int
    trial_of: Callable[[Point], SweepTrial]
    """the trial of a point; a function of a module, as it goes to other processes. SuiteError: what was drawn is not
    allowed"""
    name_of: Callable[[Point], str]
    """that trial's name, whether it is allowed or not"""
    spare: SweepTrial
    """a trial whose slots a point takes that is not allowed, and fails in them"""


def resources_of(sweep: SweepConfig, trial: SweepTrial, machines: Machines) -> list[dict[str, float]]:
    """Slots of a trial, the first for the trial itself and one for each of its env runners.

    Args:
        sweep: says how many.
        trial: its agent's settings say how many env runners there are.
        machines: where there are slots.

    Raises SettingsError where they do not fit: Ray would wait for them without an end. A slot lies on one machine.
    """
    gpus = sweep.gpus_per_trial
    if gpus is None:
        gpus = 1.0 if any(machine.get("GPU", 0) >= 1 for machine in machines) else 0.0
    if gpus > 1 and gpus % 1:
        raise SettingsError(f"gpus_per_trial is {gpus:g}: above 1 it must be whole, as Ray shares out single GPUs only")
    slot = {"CPU": sweep.cpus_per_trial, "GPU": gpus}
    for kind, setting in (("CPU", "cpus_per_trial"), ("GPU", "gpus_per_trial")):
        most = max(machine.get(kind, 0.0) for machine in machines)
        if slot[kind] > most:
            raise SettingsError(
                f"{setting} is {slot[kind]:g}: the largest of Ray's machines has {most:g} {kind} {HELP}"
            )
    homes = [machine for machine in machines if all(machine.get(kind, 0.0) >= slot[kind] for kind in slot)]
    if not homes:
        raise SettingsError(
            f"cpus_per_trial is {slot['CPU']:g} and gpus_per_trial {gpus:g}: no machine of Ray's has both {HELP}"
        )
    config = trial.config
    runners = 0 if config.last_stage == "fit" else learning_settings(config.sac, config.ppo).num_env_runners
    cores = sum(int(machine.get("CPU", 0.0)) for machine in machines)
    left = max(cores - int(home["CPU"]) + int(home["CPU"] - slot["CPU"]) for home in homes)
    if runners > left:
        raise SettingsError(
            f"trial {trial.name}: num_env_runners is {runners} and each takes a CPU slot: beside cpus_per_trial, "
            f"{slot['CPU']:g}, Ray has {left} CPU {HELP}"
        )
    return [slot, *({"CPU": 1.0} for _ in range(runners))]


def run_list(
    sweep: SweepConfig, trials: Sequence[SweepTrial], machines: Machines, command: str, done: int
) -> dict[str, dict[str, str]]:
    """Run these trials as slots come free; how each of them ended, by name. `done` others are finished already."""
    by_name = {trial.name: trial for trial in trials}
    listed = Drawn(None, None, 1, partial(_listed, by_name), _listed_name, trials[0])
    space = {"trial": tune.grid_search(list(by_name))}
    return _run(sweep, listed, space, machines, command, _Lines(len(trials), done, listed.name_of))


def run_drawn(
    sweep: SweepConfig, drawn: Drawn, machines: Machines, command: str, done: int
) -> dict[str, dict[str, str]]:
    """Run as many trials as are to be drawn; how each of them ended, by name."""
    return _run(sweep, drawn, {}, machines, command, _Lines(drawn.samples, done, drawn.name_of))


def run_in_slot(
    config: Point,
    *,
    trial_of: Callable[[Point], SweepTrial],
    searched: bool,
    folder: str,
    command: str,
    threads: int,
    stop: str,
) -> dict[str, Any]:
    """One trial as Ray Tune runs it, in a process of its own.

    Returns its status, and in a search its figure. A trial that was asked to stop, or whose settings are wrong, need
    not be tried again; any other failure is raised, and Tune tries again. In a search all failures are raised: Optuna
    then knows that there will be no figure.
    """
    if Path(stop).exists():  # nothing is begun any more
        if searched:
            raise StoppedError("the sweep was asked to stop")
        return {"status": "stopped", "error": ""}
    os.chdir(folder)
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    if not ray.get_gpu_ids():
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # Ray would show all of them to a trial that has none
    import torch

    torch.set_num_threads(threads)
    from sweeps.trial import run_trial

    trial = trial_of(config).config
    trial.out.mkdir(parents=True, exist_ok=True)
    with (trial.out / LOG).open("a", buffering=1) as log, redirect_stderr(log):
        print(_place(), file=log)
        try:
            result = run_trial(trial, command, stop_check(Path(stop)), _report if searched else _nothing)
            return {"status": FINISHED, "error": "", **(_final(result) if searched else {})}
        except StoppedError:
            if searched:
                raise
            return {"status": "stopped", "error": ""}
        except SuiteError as mistake:
            traceback.print_exc()
            if searched:
                raise
            return {"status": "failed", "error": str(mistake)}
        except Exception:
            traceback.print_exc()
            raise


def _place() -> str:
    """Where and when a trial runs, for its log."""
    machine = f"{socket.gethostname()}, Ray's node {ray.get_runtime_context().get_node_id()}"
    return f"{time.strftime('%F %T')}: on {machine}, GPU {os.environ.get('CUDA_VISIBLE_DEVICES', 'all') or 'none'}"


def stop_check(path: Path) -> Callable[[], None]:
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
def stopping(path: Path) -> Iterator[None]:
    """Let the first Ctrl-C ask all trials to stop at their next step, and the second end everything at once."""

    def ask(*_: object) -> None:
        path.touch()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        print("\nstopping: every trial ends at its next step; Ctrl-C again stops at once", file=sys.stderr, flush=True)

    path.unlink(missing_ok=True)
    before = signal.signal(signal.SIGINT, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if path.exists():
        raise KeyboardInterrupt


def _run(  # noqa: PLR0917  (all of one call)
    sweep: SweepConfig,
    drawn: Drawn,
    space: dict[str, Any],
    machines: Machines,
    command: str,
    lines: "_Lines",
) -> dict[str, dict[str, str]]:
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
    searched = drawn.searcher is not None
    trainable = tune.with_parameters(
        run_in_slot,
        trial_of=drawn.trial_of,
        searched=searched,
        folder=os.getcwd(),
        command=command,
        threads=sweep.threads_per_trial,
        stop=str(folder / STOP),
    )
    tuner = tune.Tuner(
        tune.with_resources(trainable, partial(_placement, sweep, drawn, machines)),
        param_space=space,
        tune_config=tune.TuneConfig(
            search_alg=drawn.searcher,
            scheduler=drawn.scheduler,
            num_samples=drawn.samples,
            metric=VALUE if searched else None,
            mode="max" if searched else None,
            reuse_actors=False,
        ),
        run_config=tune.RunConfig(
            name=TUNE,
            storage_path=str(folder),
            stop=_OnceAsked(folder / STOP, lines),
            failure_config=tune.FailureConfig(max_failures=sweep.retries),
            callbacks=[lines],
            verbose=0,
        ),
    )
    with stopping(folder / STOP):
        results = tuner.fit()
    ended = {}
    for result in results:
        name = drawn.name_of(result.config or {})
        if result.error is not None:
            ended[name] = {"status": "failed", "error": _last_line(result.error)}
        else:
            metrics = result.metrics or {}
            ended[name] = {"status": str(metrics.get("status", "stopped")), "error": str(metrics.get("error", ""))}
    return ended


def _placement(sweep: SweepConfig, drawn: Drawn, machines: Machines, point: Point) -> tune.PlacementGroupFactory:
    try:
        slots = resources_of(sweep, drawn.trial_of(point), machines)
    except SuiteError:  # an error here would end all trials; the trial itself will say what is wrong, and fail alone
        slots = resources_of(sweep, drawn.spare, machines)
    return tune.PlacementGroupFactory(slots)


def _listed(trials: Mapping[str, SweepTrial], point: Point) -> SweepTrial:
    return trials[point["trial"]]


def _listed_name(point: Point) -> str:
    return str(point["trial"])


def _nothing(share: float, value: float) -> None:
    """A trial of a list owes nobody a figure on the way."""


def _report(share: float, value: float) -> None:
    """Tell Ray Tune how far a trial is and how well it does; Tune may end it here.

    A trial that says so is never at its end: a rung of ASHA may lie at 100, and would leave it without its evaluation.
    """
    percent = min(100 * share, BEFORE_THE_END)
    tune.report({VALUE: finite(value), PERCENT: percent, "status": "ended early", "error": ""})


def _final(result: Path) -> dict[str, float]:
    from sweeps.sweep_files import final_value

    return {VALUE: finite(final_value(result)), PERCENT: 100.0}


def finite(value: float) -> float:
    """The value. SettingsError where it is none: Optuna would wait for a NaN's trial without an end."""
    if not abs(value) < float("inf"):
        raise SettingsError(f"the trial's figure is {value}: these settings do not work")
    return value


def seconds_left(took: Sequence[float], running: Sequence[float], to_do: int, side_by_side: int) -> float:
    """How long a sweep goes on, from what its trials took so far.

    Args:
        took: seconds of each that is over.
        running: seconds that have passed of each that runs.
        to_do: how many are not over, those that run among them.
        side_by_side: how many run at once.
    """
    mean = sum(took) / len(took)
    return (mean * to_do - sum(min(each, mean) for each in running)) / side_by_side


class _Lines(tune.Callback):  # type: ignore[misc]  # ray ships no types
    """What happens, in lines on stderr."""

    def __init__(self, waiting: int, done: int, name_of: Callable[[Point], str]) -> None:
        self._all, self._done, self._start = waiting + done, done, time.monotonic()
        self._began: dict[str, float] = {}
        self._took: list[float] = []
        self._side_by_side = 1
        self.running: set[str] = set()
        """Tune's names of trials that have begun and not ended"""
        self._name_of = name_of

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._began[trial.trial_id] = time.monotonic()
        self.running.add(trial.trial_id)
        self._side_by_side = max(self._side_by_side, len(self.running))
        self._print(f"{self._name(trial)}: started")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        result = trial.last_result or {}
        self._end(trial, result.get("status", "ended"), result.get("error", ""))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._end(trial, "failed", "see its log.txt")

    def _end(self, trial: Any, status: str, error: str) -> None:
        self._done += 1
        self.running.discard(trial.trial_id)
        now = time.monotonic()
        passed, took = now - self._start, now - self._began.get(trial.trial_id, self._start)
        self._took.append(took)
        running = [now - self._began[each] for each in self.running]
        left = seconds_left(self._took, running, self._all - self._done, self._side_by_side)
        self._print(
            f"{self._name(trial)}: {status} in {duration(took)}{': ' * bool(error)}{error} "
            f"[{self._done} of {self._all} trials, {duration(passed)} passed, about {duration(left)} left]"
        )

    def _name(self, trial: Any) -> str:
        return self._name_of(trial.config)

    @staticmethod
    def _print(line: str) -> None:
        print(line, file=sys.stderr, flush=True)


class _OnceAsked(tune.Stopper):  # type: ignore[misc]  # ray ships no types
    """Ends a sweep that was asked to stop, as soon as the trials that ran then have ended by themselves."""

    def __init__(self, stop: Path, lines: _Lines) -> None:
        self._stop, self._lines = stop, lines
        self._last: set[str] | None = None

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Whether to end this trial: never from here."""
        return False

    def stop_all(self) -> bool:
        """Whether to begin no other trial and come to an end."""
        if self._last is None and self._stop.exists():
            self._last = set(self._lines.running)
        return self._last is not None and not self._last & self._lines.running


def _last_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
