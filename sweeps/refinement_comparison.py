"""What questions in the middle of a training buy: arms with refined students, against the one that asks at random."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from rllib_envs.refinement_records import RefinementRecord
from sweeps.comparison import ArmFigures, Comparison, scores_of
from sweeps.refinement_page import records_of
from sweeps.run_statistics import Estimate, interquartile_mean, over_runs, ratio_of
from sweeps.sweep_files import SweptTrial
from sweeps.trial_files import TrialFiles

BASELINE = "random"
"""the strategy that every other has to beat"""


@dataclass(frozen=True)
class Look:
    """One refinement of all trials of an arm on a task, by its place in their trainings."""

    queries: float
    """that had been asked in the training before, mean over trials"""
    error: Estimate
    """squared error on frames that the agent visits, drawn at random, of the student that rewarded it until then; in
    units of the reward's variance"""


@dataclass(frozen=True)
class RefinedArm:
    """One arm whose trials refine their student."""

    arm: ArmFigures
    strategy: str
    queries: float
    """in the training, mean over trials; the first labels do not count"""
    accepted: int
    """refinements that were, of all trials"""
    made: int
    seconds: float
    """of all refinements of a trial, replay rewarded again included, mean over trials"""
    share: float
    """of the seconds of the training"""
    looks: dict[str, tuple[Look, ...]]
    """by task, in order; the last one is the student at the end"""
    last_error: Estimate | None
    """of the students at the end, over all tasks; None where nothing was audited"""


@lru_cache(maxsize=1)  # the gate, the words, the table and the pictures all ask
def refined_arms(found: Comparison) -> list[RefinedArm]:
    """The arms with refinements, in the order of the grid; none where no student was refined."""
    generator = np.random.default_rng(0)
    refined = []
    for arm in found.arms:
        trials = [trial for trial in found.files.finished if trial.arm == arm.name and _refined(trial)]
        if trials:
            refined.append(_refined_arm(arm, trials, found.files.tasks, generator))
    return refined


def baseline_of(arms: Sequence[RefinedArm]) -> RefinedArm | None:
    """The one that asks at random, among arms of its budget."""
    return next((each for each in arms if each.strategy == BASELINE), None)


def teacher_share(found: Comparison, arm: RefinedArm, teacher: ArmFigures) -> Estimate | None:
    """Interquartile mean score of an arm over that of the teacher in the loop; None where they lack a common scale."""
    own, its = (scores_of(found.files, each, found.measure) for each in (arm.arm.name, teacher.name))
    if arm.arm.overall is None or teacher.overall is None or own.keys() != its.keys():
        return None
    return ratio_of(own, its, interquartile_mean, np.random.default_rng(0))


def queries_in_training(found: Comparison, teacher: ArmFigures) -> float:
    """What the teacher in the loop is asked to train an agent: once a decision, mean over trials.

    The questions that score evaluations are left out: they train nobody, and a refined student's evaluations need none.
    """
    trials = [trial.files for trial in found.files.finished if trial.arm == teacher.name and trial.files]
    return float(np.mean([each.training["steps"] for each in trials]))


def _refined_arm(
    arm: ArmFigures, trials: Sequence[SweptTrial], tasks: Sequence[str], generator: np.random.Generator
) -> RefinedArm:
    files = [trial.files for trial in trials if trial.files]
    summaries = [each.training["refinement"] for each in files]
    seconds = [sum(each["seconds"].values()) for each in summaries]
    last = {task: errors for task in tasks if (errors := _last_errors(_of(trials, task)))}
    return RefinedArm(
        arm=arm,
        strategy=files[0].agent["refinement"]["strategy"],
        queries=float(np.mean([each["teacher_queries"] for each in summaries])),
        accepted=sum(each["accepted"] for each in summaries),
        made=sum(each["made"] for each in summaries),
        seconds=float(np.mean(seconds)),
        share=sum(seconds) / sum(sum(each.training["costs"].values()) for each in files),
        looks={task: looks for task in tasks if (looks := tuple(_looks(_of(trials, task), generator)))},
        last_error=over_runs(last, _mean, generator) if last else None,
    )


def _looks(files: Sequence[TrialFiles], generator: np.random.Generator) -> Iterator[Look]:
    """Those that every trial has; then the students at the end."""
    trainings = [records_of(each) for each in files]
    for number in range(min(map(len, trainings), default=0)):
        errors = [records[number].audited_error_before for records in trainings]
        known = [error for error in errors if error is not None]
        if known:
            asked = [_queries(records[:number]) for records in trainings]
            yield Look(float(np.mean(asked)), over_runs({"": known}, _mean, generator))
    if last := _last_errors(files):
        asked = [_queries(records) for records in trainings]
        yield Look(float(np.mean(asked)), over_runs({"": last}, _mean, generator))


def _last_errors(files: Sequence[TrialFiles]) -> list[float]:
    return [error for each in files if (error := _last_error(each)) is not None]


def _last_error(files: TrialFiles) -> float | None:
    """Of the student that the last refinement left, on the frames audited then, which it has not learned from."""
    records = records_of(files)
    if not records:
        return None
    last = records[-1]
    return last.audited_error_after if last.accepted else last.audited_error_before


def _of(trials: Sequence[SweptTrial], task: str) -> list[TrialFiles]:
    return [trial.files for trial in trials if trial.task == task and trial.files]


def _queries(records: Sequence[RefinementRecord]) -> int:
    return sum(record.asked + record.audited for record in records)


def _refined(trial: SweptTrial) -> bool:
    return trial.files is not None and bool(trial.files.training.get("refinement"))


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(values.mean(axis=-1), np.float64)
