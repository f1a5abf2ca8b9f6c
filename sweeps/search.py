"""A search in place of a grid: drawn where earlier trials did well, poor trials ended early, the winner confirmed.

Draws are those of Optuna's TPE (Bergstra et al. 2011), early ends those of ASHA (Li et al. 2020) as Ray Tune has it. A
winner of many trials is partly luck, so it is set against the base on seeds that the search never saw: those trials are
what the sweep's page compares. `search.journal` is Optuna's own memory, and all that a search started again needs.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from ray.tune.schedulers import AsyncHyperBandScheduler
from ray.tune.search.optuna import OptunaSearch

from datamodules.differences import as_json
from datamodules.errors import DataError, SuiteError
from datamodules.results import write_atomically
from sweeps.settings import Range, SearchSettings, SweepConfig, TrialConfig
from sweeps.slots import PERCENT, VALUE, Drawn, Machines, Point, run_drawn
from sweeps.space import TRIALS, SweepTrial, check_key, put, trial_config, trials_of
from sweeps.trial_files import is_finished

JOURNAL, WINNER = "search.journal", "winner.yaml"
STUDY = "search"
FOURTHS = 3
"""of the trials that reach a rung, one in so many goes on (Li et al. 2020 take 3 or 4)"""
OVER = (TrialState.COMPLETE, TrialState.FAIL)


@dataclass(frozen=True)
class Sample:
    """One trial of a search that is over."""

    name: str
    values: dict[str, Any]
    value: float | None
    """the figure that it reached; None where it failed"""
    whole: bool
    """whether it ran to its end"""


def search(sweep: SweepConfig, parent: str, machines: Machines, command: str) -> list[Sample]:
    """Draw and run what is left to draw; returns all samples, the best first."""
    assert sweep.search is not None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = storage_of(sweep.out)
    done, drawn_before = pick_up(sweep, storage, sweep.search.seed)
    if done < sweep.search.samples:
        drawn = Drawn(
            OptunaSearch(
                distributions(sweep.search),
                metric=VALUE,
                mode="max",
                storage=storage,
                study_name=STUDY,
                seed=sweep.search.seed + drawn_before,  # what was drawn once is not drawn again by chance
            ),
            AsyncHyperBandScheduler(
                time_attr=PERCENT,
                max_t=100,
                grace_period=100 * sweep.search.grace,
                reduction_factor=FOURTHS,
                stop_last_trials=False,
            ),
            sweep.search.samples - done,
            partial(sampled, sweep, parent),
            sample_name,
            base_of(sweep),
        )
        run_drawn(sweep, drawn, machines, command, done)
    return samples_of(sweep)


def check_search(sweep: SweepConfig) -> list[SweepTrial]:
    """The trials at both ends of the search's space, for all that is between them to be checked by, and those of each
    other value in a list.

    Raises:
        UnknownNameError: the space names a setting that a trial does not have.
        SettingsError: an end or a value is not allowed.
    """
    assert sweep.search is not None
    for key in sweep.search.space:
        check_key(key, "search.space")
    first, last = ({key: _end(values, last) for key, values in sweep.search.space.items()} for last in (False, True))
    between = [
        {**first, key: value}
        for key, values in sweep.search.space.items()
        if not isinstance(values, Range)
        for value in values[1:-1]
    ]
    return [sampled(sweep, None, point) for point in (first, last, *between)]


def samples_of(sweep: SweepConfig) -> list[Sample]:
    """The samples that are over, the best whole one first."""
    study = optuna.load_study(study_name=STUDY, storage=storage_of(sweep.out))
    found: dict[str, Sample] = {}
    for trial in study.trials:
        if trial.state in OVER and trial.params:
            name = sample_name(trial.params)
            whole = is_finished(sweep.out / TRIALS / name)
            if name not in found or trial.value is not None:  # drawn again after a failure
                found[name] = Sample(name, dict(trial.params), trial.value, whole)
    return sorted(found.values(), key=lambda one: (not one.whole, _below(one.value)))


def sampled(sweep: SweepConfig, parent: str | None, point: Point) -> SweepTrial:
    """The trial of a drawn point; the same values always have the same folder."""
    return _variant(sweep, parent, sample_name(point), {key: point[key] for key in sorted(point)}, {})


def sample_name(point: Point) -> str:
    """The folder of a drawn point."""
    return f"sample_{_digest(point)}"


def base_of(sweep: SweepConfig) -> SweepTrial:
    """The trial that the search starts from."""
    (base,) = trials_of(replace(sweep, search=None))
    return base


def confirmations(sweep: SweepConfig, parent: str | None, winner: Mapping[str, Any]) -> list[SweepTrial]:
    """Base and winner on the seeds that the search never saw."""
    assert sweep.search is not None
    names = {"base": "base", "winner": f"winner_{_digest(winner)}"}  # going on may find another one
    return [
        _variant(sweep, parent, f"{names[arm]}-seed_{seed}", {**values, "seed": seed}, {"arm": arm, "seed": str(seed)})
        for arm, values in (("base", {}), ("winner", winner))
        for seed in sweep.search.confirm_seeds
    ]


def trials_to_expect(sweep: SweepConfig) -> list[SweepTrial]:
    """Stand-ins for what is still to be drawn, evenly over the space, and the trials of the confirmation.

    Raises as `check_search` does.
    """
    assert sweep.search is not None
    ends = check_search(sweep)
    known = samples_of(sweep) if (sweep.out / JOURNAL).exists() else []
    left = max(0, sweep.search.samples - sum(one.value is not None for one in known))
    allowed = [point for point in map(partial(_spread, sweep.search, left), range(left)) if _is_allowed(sweep, point)]
    drawn = [sampled(sweep, None, point) for point in allowed] or ends[:1] * bool(left)
    named = [replace(one, name=f"sample {number} of {left}") for number, one in enumerate(drawn, start=1)]
    winner = known[0].values if known else allowed[-1] if allowed else {}
    return [*named, *confirmations(sweep, None, winner)]


def best_of(samples: list[Sample]) -> Sample:
    """The best sample that ran to its end. DataError where none did."""
    whole = [one for one in samples if one.whole and one.value is not None]
    if not whole:
        raise DataError("no trial of the search ran to its end: see the log.txt of those below trials/, then go on")
    return whole[0]


def write_winner(sweep: SweepConfig, winner: Sample) -> Path:
    """The winner as a file of conf/trials, to run with any seed."""
    config = sampled(sweep, None, winner.values).config
    trial = replace(config, shared=None, out=Path("runs") / sweep.name, tracking=sweep.base.tracking)
    content = {key: value for key, value in as_json(asdict(trial)).items() if value is not None}
    drawn = ", ".join(f"{key} {value}" for key, value in winner.values.items())
    text = f"# Found by the sweep {sweep.name}: {drawn}.\n" + yaml.safe_dump(content, sort_keys=False, width=120)
    path = sweep.out / WINNER
    write_atomically(path, text.encode())
    return path


def distributions(settings: SearchSettings) -> dict[str, BaseDistribution]:
    """What Optuna draws from, by setting."""
    return {key: _distribution(values) for key, values in settings.space.items()}


def _digest(point: Point) -> str:
    return sha256(json.dumps(dict(point), sort_keys=True).encode()).hexdigest()[:10]


def _end(values: Range | list[Any], last: bool) -> Any:
    """The first or the last of what is drawn from."""
    if not isinstance(values, Range):
        return values[-1 if last else 0]
    end = values.high if last else values.low
    return int(end) if values.integer else end


def _spread(settings: SearchSettings, count: int, number: int) -> Point:
    """One of so many points, evenly over each range and list."""
    return {
        key: values[number % len(values)]
        if not isinstance(values, Range)
        else (int if values.integer else float)(values.low + (values.high - values.low) * number / max(1, count - 1))
        for key, values in settings.space.items()
    }


def _below(value: float | None) -> float:
    return float("inf") if value is None else -value


def _distribution(values: Range | list[Any]) -> BaseDistribution:
    if not isinstance(values, Range):
        return CategoricalDistribution(values)
    if values.integer:
        return IntDistribution(int(values.low), int(values.high), log=values.log)
    return FloatDistribution(values.low, values.high, log=values.log)


def _variant(
    sweep: SweepConfig, parent: str | None, name: str, values: Mapping[str, Any], labels: dict[str, str]
) -> SweepTrial:
    content = json.loads(json.dumps(as_json(asdict(base_of(sweep).config))))
    for key, value in values.items():
        put(content, key, value)
    content["out"] = str(sweep.out / TRIALS / name)
    content["tracking"]["parent"] = parent
    config: TrialConfig = trial_config(content, name)
    return SweepTrial(name, labels, config)


def storage_of(out: Path) -> JournalStorage:
    out.mkdir(parents=True, exist_ok=True)
    return JournalStorage(JournalFileBackend(str(out / JOURNAL)))


def pick_up(sweep: SweepConfig, storage: JournalStorage, seed: int) -> tuple[int, int]:
    """Draw again what was running when the search was stopped, and what failed and is allowed.

    Returns how many samples are done, and how often something was drawn.
    """
    study = optuna.create_study(
        storage=storage,
        study_name=STUDY,
        direction="maximize",
        load_if_exists=True,
        sampler=optuna.samplers.TPESampler(seed=seed),
    )
    done, queued, again = set(), set(), dict[str, dict[str, Any]]()
    for trial in study.trials:
        name = sample_name(trial.params)
        if trial.state == TrialState.COMPLETE:
            done.add(name)
        elif trial.state == TrialState.WAITING:  # for a draw that an earlier start did not come to
            queued.add(sample_name(trial.system_attrs.get("fixed_params", {})))
        elif trial.state == TrialState.RUNNING:
            study.tell(trial.number, state=TrialState.FAIL)
            again[name] = trial.params
        elif trial.state == TrialState.FAIL:
            again[name] = trial.params
    for name, values in again.items():
        if name not in done | queued and values and _is_allowed(sweep, values):
            study.enqueue_trial(values, skip_if_exists=False)
    return len(done), len(study.trials)


def _is_allowed(sweep: SweepConfig, point: Point) -> bool:
    try:
        sampled(sweep, None, point)
    except SuiteError:
        return False
    return True
