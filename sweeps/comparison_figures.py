"""A comparison -> its drawings by name; those whose data are missing are left out."""

from collections.abc import Sequence

import numpy as np

from sweeps import comparison_plots as pictures
from sweeps import plots
from sweeps.comparison import STAGES_OF_COMPUTE, ArmFigures, Comparison, Measure, curve_of, value_of
from sweeps.refinement_comparison import baseline_of, refined_arms
from sweeps.run_statistics import Estimate, over_runs
from sweeps.sweep_files import SweptTrial


def draw_comparison(found: Comparison) -> dict[str, plots.Drawing]:
    """`curves-TASK`, `finals-TASK`, `queries-TASK`, `profiles`, `improvement`, `front`, `stages` and `phases`."""
    look = pictures.Look(found.files.arms)
    drawings: dict[str, plots.Drawing] = {}
    for task in found.files.tasks:
        if curves := _curves(found, task):
            drawings[f"curves-{task}"] = pictures.arm_curves(
                f"True return on {task}", curves, look, _random_policy(found, task), found.thresholds.get(task)
            )
        if dots := _dots(found, task):
            name = "Spearman inside an episode" if found.measure == "fidelity" else "Final true return"
            drawings[f"finals-{task}"] = pictures.arm_dots(f"{name} on {task}", dots, look)
    drawings |= _queries(found, look)
    if len(found.profiles) > 1:
        drawings["profiles"] = pictures.profiles(found.profiles, look)
    if len(found.ranked) > 1:
        best = _candidates(found.ranked)[0].name
        shown = {arm: each for (arm, other), each in found.improvement.items() if other == best}
        if shown:
            drawings["improvement"] = pictures.improvements(best, shown, look)
    if trend := _trend(found):
        drawings["trend"] = trend
    drawings |= _costs(found)
    return drawings


def _queries(found: Comparison, look: pictures.Look) -> dict[str, plots.Drawing]:
    """Of refined students: what the questions did to their error, task by task."""
    refined = refined_arms(found)
    baseline = baseline_of(refined)
    drawings = {}
    for task in found.files.tasks:
        curves = [
            pictures.ArmCurve(each.arm.name, [one.queries for one in looks], [one.error for one in looks])
            for each in refined
            if (looks := each.looks.get(task))
        ]
        if curves:
            drawings[f"queries-{task}"] = pictures.query_curves(
                f"Squared error on visited frames, {task}", curves, baseline.arm.name if baseline else "", look
            )
    return drawings


def _candidates(arms: Sequence[ArmFigures]) -> Sequence[ArmFigures]:
    """Those among which somebody chooses: references are left out, unless hardly anything would stay."""
    chosen = [arm for arm in arms if not arm.reference]
    return chosen if len(chosen) > 1 else arms


def _trend(found: Comparison) -> plots.Drawing | None:
    """What becomes of return and fidelity as the one setting that is varied rises; None where that is no number."""
    values = [number_in(arm.name) for arm in found.arms if arm.costs]
    if len(found.files.varied) != 1 or None in values or len(values) < 3:
        return None
    generator = np.random.default_rng(0)
    rows: dict[str, pictures.Trend] = {}
    for task in found.files.tasks:
        title = "Spearman inside an episode" if found.measure == "fidelity" else "Final true return"
        known = [(number_in(arm.name), arm.tasks[task].final) for arm in found.arms if task in arm.tasks]
        rows[f"{title} on {task}"] = sorted(((x, y) for x, y in known if x is not None), key=lambda point: point[0])
    if found.measure != "fidelity":
        rows["The student's Spearman inside an episode"] = _fidelity_trend(found, generator)
    shown = {title: points for title, points in rows.items() if points}
    return pictures.trends(shown, found.files.varied[0])


def _fidelity_trend(found: Comparison, generator: np.random.Generator) -> pictures.Trend:
    points = []
    for arm in found.files.arms:
        by_task: dict[str, list[float]] = {}
        for trial in found.files.finished:
            if trial.arm == arm and trial.files and "student" in trial.files.result:
                by_task.setdefault(trial.task, []).append(value_of(trial, "fidelity"))
        value = number_in(arm)
        if by_task and value is not None:
            points.append((value, over_runs(by_task, lambda runs: runs.mean(axis=-1), generator)))
    return sorted(points, key=lambda point: point[0])


def number_in(name: str) -> float | None:
    """The number that an arm's name is, if it is one."""
    try:
        return float(name)
    except ValueError:
        return None


def _curves(found: Comparison, task: str) -> list[pictures.ArmCurve]:
    curves = []
    for arm in found.files.arms:
        trials = [each for each in found.files.finished if (each.arm, each.task) == (arm, task)]
        if curve := mean_curve(arm, trials):
            curves.append(curve)
    return curves


def mean_curve(arm: str, trials: Sequence[SweptTrial]) -> pictures.ArmCurve | None:
    """The mean over seeds at the steps of the first one; others are read between their evaluations."""
    seeds = [curve for curve in map(curve_of, trials) if len(curve[0]) > 1]
    if not seeds:
        return None
    last = min(steps[-1] for steps, _ in seeds)
    at = [float(steps) for steps in seeds[0][0] if steps <= last]
    heights = np.array([np.interp(at, *curve) for curve in seeds])
    generator = np.random.default_rng(0)
    return pictures.ArmCurve(
        arm, at, [over_runs({"": column}, lambda runs: runs.mean(axis=-1), generator) for column in heights.T]
    )


def _dots(found: Comparison, task: str) -> list[pictures.ArmDots]:
    measure: Measure = "fidelity" if found.measure == "fidelity" else "true_return"
    dots = []
    for arm in found.arms:
        if task in arm.tasks:
            trials = [each for each in found.files.finished if (each.arm, each.task) == (arm.name, task)]
            values = [value_of(trial, measure) for trial in trials]
            dots.append(pictures.ArmDots(arm.name, values, arm.tasks[task].final))
    return dots


def _random_policy(found: Comparison, task: str) -> float | None:
    means = [
        each.files.result["random_return"]["mean"]
        for each in found.files.finished
        if each.task == task and each.files and "random_return" in each.files.result
    ]
    return float(np.mean(means)) if means else None


def _costs(found: Comparison) -> dict[str, plots.Drawing]:
    stages = {
        arm.name: {stage: arm.costs.seconds[stage] for stage in STAGES_OF_COMPUTE if stage in arm.costs.seconds}
        for arm in found.arms
        if arm.costs
    }
    phases = {arm.name: arm.costs.phases for arm in found.arms if arm.costs and arm.costs.phases}
    drawings = {}
    if any(stages.values()):
        drawings["stages"] = pictures.stacked_seconds(stages, "seconds of a trial, by stage")
    if phases:
        drawings["phases"] = pictures.stacked_seconds(phases, "seconds of the agent's training, by phase")
    title = {"fidelity": "Spearman inside an episode", "score": "Normalised score", "true_return": "True return"}
    compared = [arm for arm in _candidates(found.ranked) if arm.costs and arm.overall]
    prices = {
        "front": ("seconds from nothing to the end of a trial", [arm.costs.compute for arm in compared if arm.costs])
    }
    waits = [1000 * arm.costs.latency for arm in compared if arm.costs and arm.costs.latency]
    if found.measure == "fidelity" and len(waits) == len(compared):
        prices["latency"] = ("milliseconds of a call with one frame", waits)
    for name, (words, price) in prices.items():
        points = [
            plots.Point(arm.name, each, _value(arm.overall))
            for arm, each in zip(compared, price, strict=True)
            if arm.overall
        ]
        if len(points) > 1:
            drawings[name] = plots.front(points, words, title[found.measure])
    return drawings


def _value(estimate: Estimate) -> float:
    return estimate.value
