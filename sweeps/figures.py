"""A trial's files -> its drawings by name, in the order of the page; a drawing whose data are missing is left out."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from lightning_modules.held_out import HeldOut
from rllib_envs.costs import QUANTILES
from rllib_envs.evaluations import Evaluation
from sweeps import plots
from sweeps.measures import fallen_steps
from sweeps.refinement_page import farthest_clouds, records_of
from sweeps.statistics import Interval, mean_with_interval
from sweeps.trial_files import TrialFiles, read_trial

LEARNING_CURVE, SCATTER, TRACES, HISTOGRAM = "learning_curve", "student_against_teacher", "episode_traces", "rewards"
STAGE_SECONDS, AGENT_SECONDS, LATENCY = "stage_seconds", "agent_seconds", "reward_latency"
DRIFT, BY_EPISODE = "drift", "drift_by_episode"
NAMES = (LEARNING_CURVE, DRIFT, BY_EPISODE, SCATTER, TRACES, HISTOGRAM, STAGE_SECONDS, AGENT_SECONDS, LATENCY)
STAGES = ("collect", "label", "fit", "train", "evaluate", "report")
COSTS = ("simulate", "render", "reward", "update", "refine", "other")


def figures_of_trial(trial: Path) -> dict[str, bytes]:
    """PNG of every drawing of a trial's page, by name, for stores that show nothing else."""
    return {name: drawing.png() for name, drawing in draw_figures(read_trial(trial)).items()}


def draw_figures(files: TrialFiles) -> dict[str, plots.Drawing]:
    """Every drawing that this trial has data for."""
    drawings: dict[str, plots.Drawing] = {}
    if files.evaluations:
        drawings[LEARNING_CURVE] = _learning_curve(files)
    if (farthest := farthest_clouds(files)) is not None:
        clouds, _ = farthest
        drawings[DRIFT] = plots.clouds(clouds.labelled, clouds.visited, clouds.asked)
    if seen := [record.episodes for record in records_of(files) if record.episodes]:
        episodes = [episode for each in seen for episode in each]
        errors = {n: each.audited_error for n, each in enumerate(episodes) if each.audited_error is not None}
        looks = np.cumsum([0, *map(len, seen)])[:-1].tolist()
        drawings[BY_EPISODE] = plots.by_episode([each.drift for each in episodes], errors, looks)
    if files.held_out is not None:
        drawings |= _student_drawings(files.held_out)
    if stages := _known(files.result.get("seconds", {}), STAGES):
        drawings[STAGE_SECONDS] = plots.time_bars(stages)
    if costs := _known(files.training.get("costs", {}), COSTS):
        drawings[AGENT_SECONDS] = plots.time_bars(costs)
    if latency := files.training.get("reward_latency"):
        drawings[LATENCY] = plots.latency_histogram(latency["histogram"], [latency[name] for name in QUANTILES])
    return drawings


def interval_of(entry: Mapping[str, float] | None) -> Interval | None:
    """An interval as result.json holds it."""
    return None if entry is None else Interval(entry["mean"], entry["low"], entry["high"])


def _learning_curve(files: TrialFiles) -> plots.Drawing:
    generator = np.random.default_rng(0)  # the same folder always gives the same page

    def curve(evaluations: list[Evaluation], kind: str) -> plots.Curve:
        intervals = [mean_with_interval(getattr(evaluation, kind), generator) for evaluation in evaluations]
        return plots.Curve([evaluation.steps for evaluation in evaluations], intervals)

    # Where the agent learns from the true reward, the learned return is the same curve again.
    learned = [evaluation for evaluation in files.evaluations if evaluation.learned_returns and files.reward != "true"]
    return plots.learning_curve(
        curve(list(files.evaluations), "true_returns"),
        curve(learned, "learned_returns") if learned else None,
        interval_of(files.result.get("random_return")),
        interval_of(files.result.get("true_return")),
        overoptimised=fallen_steps(files),
        asked=[record.steps for record in records_of(files)],
    )


def _student_drawings(held_out: HeldOut) -> dict[str, plots.Drawing]:
    return {
        SCATTER: plots.student_against_teacher(held_out.student, held_out.teacher),
        TRACES: plots.episode_traces(chosen_traces(held_out)),
        HISTOGRAM: plots.reward_histogram(held_out.student, held_out.teacher),
    }


def chosen_traces(held_out: HeldOut, name: Callable[[int], str] = "episode {}".format) -> list[plots.Trace]:
    """The held-out episodes that the student follows best, in the middle and worst by Spearman's rank correlation.

    Episodes where either is constant have no rank correlation and are passed over; fewer than three are all shown.
    `name` says what a reader calls an episode.
    """
    scored: list[tuple[float, int]] = []
    for episode in np.unique(held_out.episode):
        inside = held_out.episode == episode
        student, teacher = held_out.student[inside], held_out.teacher[inside]
        if np.ptp(student) > 0 and np.ptp(teacher) > 0:
            scored.append((float(spearmanr(student, teacher).statistic), int(episode)))
    scored.sort(reverse=True)
    if len(scored) > 3:
        labels = ("best followed", "median", "worst followed")
        picked = list(zip(labels, (scored[0], scored[len(scored) // 2], scored[-1]), strict=True))
    else:
        picked = [("", entry) for entry in scored]
    return [_trace(held_out, label, *entry, name) for label, entry in picked]


def _trace(held_out: HeldOut, label: str, correlation: float, episode: int, name: Callable[[int], str]) -> plots.Trace:
    inside = np.flatnonzero(held_out.episode == episode)
    inside = inside[np.argsort(held_out.step[inside])]
    title = ", ".join(filter(None, [name(episode), label, f"Spearman {correlation:.2f}"]))
    return plots.Trace(title, held_out.step[inside], held_out.student[inside], held_out.teacher[inside])


def _known(seconds: Mapping[str, float], names: tuple[str, ...]) -> dict[str, float]:
    return {name: float(seconds[name]) for name in names if name in seconds}
