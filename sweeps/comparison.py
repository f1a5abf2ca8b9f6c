"""Trials -> the figures of their comparison, arm by arm: nothing here is a word or a picture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sweeps.learning_speed import StepsToThreshold, first_reached, steps_to_threshold
from sweeps.run_statistics import (
    Estimate,
    Profile,
    chance_of_as_high,
    interquartile_mean,
    over_runs,
    performance_profile,
    probability_of_improvement,
)
from sweeps.sweep_files import SweepFiles, SweptTrial

Measure = Literal["score", "true_return", "fidelity"]
REFERENCES = ("true", "random")
"""rewards that nobody can pick: the simulator's own is the ideal, a random one the floor"""
STAGES_OF_COMPUTE = ("collect", "label", "fit", "train")
"""stages without which there is no agent; evaluations and pages are for the reader"""
HALF_WAY = 0.5
"""where the threshold of learning speed lies between the random policy and the best arm"""
PROFILE_POINTS = 101


@dataclass(frozen=True)
class TaskFigures:
    """One arm on one task, over its finished seeds."""

    runs: int
    final: Estimate
    """true return of the final agents; Spearman inside an episode where there are only students"""
    area: Estimate | None
    """mean true return over the training"""
    speed: StepsToThreshold | None
    """agent steps until the threshold of the task"""


@dataclass(frozen=True)
class ArmCosts:
    """What one trial of an arm takes, mean over its finished trials."""

    seconds: Mapping[str, float]
    """by stage; what trials share counts in each of them, and evaluations during the training as evaluation"""
    phases: Mapping[str, float]
    """of the agent's training: seconds by what they were spent on"""
    steps_per_second: float | None
    queries: float
    peak_memory: float | None
    """GiB"""
    latency: float | None
    """median seconds of a call of the reward function; of one frame where only students are compared"""
    parameters: float | None
    """of the student"""
    fidelity: float | None
    """the student's Spearman inside an episode, on episodes held out of its fit"""

    @property
    def compute(self) -> float:
        """Seconds from nothing to an agent, without evaluations and pages."""
        return sum(self.seconds.get(stage, 0.0) for stage in STAGES_OF_COMPUTE)


@dataclass(frozen=True)
class ArmFigures:
    """One arm over all tasks."""

    name: str
    trials: int
    finished: int
    overall: Estimate | None
    """interquartile mean of the scores of all runs; None where tasks have no common scale, or one has none finished"""
    mean: Estimate | None
    """plain mean of the same"""
    tasks: Mapping[str, TaskFigures]
    costs: ArmCosts | None
    overoptimised: int
    """finished trials whose agent climbed its reward while a gold return fell"""
    reference: bool
    """whether its agents learned from a reward that nobody can pick"""


@dataclass(frozen=True, eq=False)
class Comparison:
    """All arms side by side."""

    files: SweepFiles
    measure: Measure
    arms: tuple[ArmFigures, ...]
    """in the order of the grid"""
    thresholds: Mapping[str, float]
    """true return, by task, that `speed` waits for"""
    improvement: Mapping[tuple[str, str], Estimate]
    """how likely a run of the first arm scores above one of the second"""
    chance: Mapping[tuple[str, str], float]
    """how often chance alone would make that so high"""
    profiles: Mapping[str, Profile]
    """share of an arm's runs above each score"""

    @property
    def ranked(self) -> tuple[ArmFigures, ...]:
        """Arms with a figure, the best first."""
        known = [arm for arm in self.arms if arm.overall is not None]
        return tuple(sorted(known, key=_overall, reverse=True))

    @property
    def seeds(self) -> int:
        """The fewest finished runs of an arm on a task."""
        counts = [figures.runs for arm in self.arms for figures in arm.tasks.values()]
        return min(counts, default=0)


def compare(files: SweepFiles) -> Comparison:
    """Everything that the finished trials of a sweep tell of its arms.

    Intervals are those of the stratified bootstrap over seeds within tasks (sweeps/run_statistics.py); the same files
    always give the same figures.
    """
    measure = measure_of(files.finished)
    generator = np.random.default_rng(0)
    thresholds = {task: _threshold(files, task) for task in files.tasks} if measure != "fidelity" else {}
    arms = tuple(_arm(files, arm, measure, thresholds, generator) for arm in files.arms)
    comparable = _comparable(files, measure)
    scores = {arm: scores_of(files, arm, measure) for arm in files.arms} if comparable else {}
    pairs = [
        (one, other)
        for one in files.arms
        for other in files.arms
        if one != other and comparable and scores[one] and scores[one].keys() == scores[other].keys()
    ]
    return Comparison(
        files,
        measure,
        arms,
        {task: value for task, value in thresholds.items() if value is not None},
        {(one, other): probability_of_improvement(scores[one], scores[other], generator) for one, other in pairs},
        {(one, other): chance_of_as_high(scores[one], scores[other], generator) for one, other in pairs},
        {arm: performance_profile(own, _levels(scores), generator) for arm, own in scores.items() if own}
        if measure == "score"
        else {},
    )


def measure_of(trials: Sequence[SweptTrial]) -> Measure:
    """What all of these trials have: the normalised score of the final agent, its true return, or a student alone."""
    results = [trial.files.result for trial in trials if trial.files]
    if all("score" in result for result in results):
        return "score"
    return "true_return" if all("true_return" in result for result in results) else "fidelity"


def value_of(trial: SweptTrial, measure: Measure) -> float:
    """The figure by which a finished trial is compared."""
    assert trial.files is not None
    result = trial.files.result
    if measure == "fidelity":
        return float(result["student"]["spearman_within_episode"])
    return float(result[measure]["mean"])


def scores_of(files: SweepFiles, arm: str, measure: Measure) -> dict[str, NDArray[np.float64]]:
    """{task: (runs,)} of an arm's finished trials; tasks without any are left out."""
    found = {
        task: np.array([value_of(trial, measure) for trial in files.finished if (trial.arm, trial.task) == (arm, task)])
        for task in files.tasks
    }
    return {task: values for task, values in found.items() if values.size}


def ratio(one: Mapping[str, NDArray[np.float64]], other: Mapping[str, NDArray[np.float64]]) -> Estimate | None:
    """Mean score of one arm over that of another, tasks alike, with its stratified bootstrap interval."""
    if not one or one.keys() != other.keys():
        return None
    generator = np.random.default_rng(0)

    def means(scores: Mapping[str, NDArray[np.float64]], draw: bool) -> NDArray[np.float64]:
        shape = (2000,) if draw else (1,)
        total = np.zeros(shape)
        for values in scores.values():
            chosen = generator.integers(0, values.size, (*shape, values.size)) if draw else np.arange(values.size)[None]
            total += values[chosen].mean(axis=1)
        return total / len(scores)

    below = means(other, draw=False)[0]
    if below <= 0:
        return None
    resampled = means(one, draw=True) / np.maximum(means(other, draw=True), 1e-9)
    low, high = np.quantile(resampled, (0.025, 0.975))
    return Estimate(float(means(one, draw=False)[0] / below), float(low), float(high))


def curve_of(trial: SweptTrial) -> tuple[list[int], list[float]]:
    """Agent steps and mean true return of a finished trial's evaluations."""
    evaluations = trial.files.evaluations if trial.files else ()
    return [each.steps for each in evaluations], [float(np.mean(each.true_returns)) for each in evaluations]


def _overall(arm: ArmFigures) -> float:
    assert arm.overall is not None
    return arm.overall.value


def _comparable(files: SweepFiles, measure: Measure) -> bool:
    """Whether tasks have a scale in common: true returns of different tasks have not."""
    return bool(files.finished) and (measure != "true_return" or len(files.tasks) == 1)


def _arm(
    files: SweepFiles,
    arm: str,
    measure: Measure,
    thresholds: Mapping[str, float | None],
    generator: np.random.Generator,
) -> ArmFigures:
    trials = [trial for trial in files.trials if trial.arm == arm]
    finished = [trial for trial in trials if trial.files]
    scores = scores_of(files, arm, measure)
    everywhere = {trial.task for trial in files.finished}  # an arm that lacks one of them has it easier, or harder
    known = bool(scores) and scores.keys() == everywhere and _comparable(files, measure)
    flags = [trial.files.result.get("overoptimisation") or {} for trial in finished if trial.files]
    return ArmFigures(
        arm,
        len(trials),
        len(finished),
        over_runs(scores, interquartile_mean, generator) if known else None,
        over_runs(scores, _mean, generator) if known else None,
        {
            task: _task([trial for trial in finished if trial.task == task], measure, thresholds.get(task), generator)
            for task in scores
        },
        _costs(finished, files.latency.get(arm)) if finished else None,
        sum(any(flag.values()) for flag in flags),
        bool(finished) and all(trial.files.result["reward"] in REFERENCES for trial in finished if trial.files),
    )


def _mean(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(scores.mean(axis=-1), np.float64)


def _task(
    trials: Sequence[SweptTrial], measure: Measure, threshold: float | None, generator: np.random.Generator
) -> TaskFigures:
    shown: Measure = "fidelity" if measure == "fidelity" else "true_return"

    def over(values: Sequence[float]) -> Estimate:
        return over_runs({"": list(values)}, _mean, generator)

    areas = [
        trial.files.result["area_under_curve"]
        for trial in trials
        if trial.files and "area_under_curve" in trial.files.result
    ]
    speed = None
    if threshold is not None:
        speed = steps_to_threshold([first_reached(*curve_of(trial), threshold) for trial in trials])
    return TaskFigures(
        len(trials),
        over([value_of(trial, shown) for trial in trials]),
        over(areas) if len(areas) == len(trials) else None,
        speed,
    )


def _threshold(files: SweepFiles, task: str) -> float | None:
    """Half way from the random policy to the best arm's mean true return; None where no arm rises above the policy."""
    trials = [trial for trial in files.finished if trial.task == task and len(curve_of(trial)[0]) > 1]
    if not trials:
        return None
    floor = float(np.mean([trial.files.result["random_return"]["mean"] for trial in trials if trial.files]))
    arms = {trial.arm for trial in trials}
    best = max(float(np.mean([value_of(trial, "true_return") for trial in trials if trial.arm == arm])) for arm in arms)
    return floor + HALF_WAY * (best - floor) if best > floor else None


def _levels(scores: Mapping[str, Mapping[str, NDArray[np.float64]]]) -> NDArray[np.float64]:
    values = np.concatenate([own for arm in scores.values() for own in arm.values()])
    return np.linspace(min(0.0, float(values.min())), max(1.0, float(values.max())), PROFILE_POINTS)


def _costs(trials: Sequence[SweptTrial], latency: float | None) -> ArmCosts:
    files = [trial.files for trial in trials if trial.files]

    def mean(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return float(np.mean(known)) if known else None

    def by_name(entries: Sequence[Mapping[str, float]]) -> dict[str, float]:
        names = dict.fromkeys(name for entry in entries for name in entry)
        return {name: float(np.mean([entry.get(name, 0.0) for entry in entries])) for name in names}

    seconds = [{name: value for name, value in each.result["seconds"].items() if name != "total"} for each in files]
    for own, each in zip(seconds, files, strict=True):
        if "train" in own:  # a trial that was stopped counts the last attempt alone, its training all of them
            own["train"] = max(own["train"], each.training.get("seconds", 0.0))
            evaluations = each.training.get("evaluation_seconds", 0.0)
            own["train"] -= evaluations
            own["evaluate"] = own.get("evaluate", 0.0) + evaluations
    return ArmCosts(
        by_name(seconds),
        by_name([each.training["costs"] for each in files if "costs" in each.training]),
        mean([each.training.get("steps_per_second") for each in files]),
        float(np.mean([each.result["teacher_queries"] for each in files])),
        mean([each.training.get("peak_memory_gib") for each in files]),
        latency or mean([(each.training.get("reward_latency") or {}).get("p50") for each in files]),
        mean([each.result.get("student", {}).get("parameters") for each in files]),
        mean([each.result.get("student", {}).get("spearman_within_episode") for each in files]),
    )
