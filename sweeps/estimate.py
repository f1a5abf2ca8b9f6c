"""What a sweep will cost, before it starts: what there is to do, and seconds measured in earlier trials where there are
any, else by a stated rule."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from datamodules.results import read_json
from rllib_envs.settings import learning_settings
from sweeps.answer import duration
from sweeps.comparison_tables import Table
from sweeps.journal import Journal
from sweeps.settings import SweepConfig, TrialConfig
from sweeps.shared_stages import shared_stages
from sweeps.space import SweepTrial, trials_of
from sweeps.trial_files import RESULT, is_finished

EPOCHS = 32
"""of a student's file that does not say"""
RULE = (
    "one core of the machine of docs/figures.md with the bundled teacher, right to a factor of two or three; backbones "
    "that are not in conf/sweeps/backbones.yaml may take many times as long to fit. Finished trials of a kind take its "
    "place here"
)
PER_UNIT: Mapping[str, float] = {"collect": 0.003, "label": 0.005, "fit": 0.0013, "train": 0.0065, "evaluate": 0.09}
"""seconds for one of each, as `make demo` takes on `RULE`: frame, frame, frame and epoch, agent step, episode"""
SLOWER: Mapping[str, float] = {
    "fit mobilenetv3_small_050": 1.1,
    "fit mobilenetv4_conv_small": 2.3,
    "fit mobilenetv3_large_100": 3.6,
    "fit efficientnet_b0": 7.4,
    "fit resnet18": 10.7,
    "fit vit_tiny_patch16_224": 7.3,
}
"""how many times as long as the default backbone others take to fit, side by side in results/backbones"""
TEACHER_SECONDS = 0.005
"""of one frame, where the teacher scores each agent step"""
LOOK_SECONDS = 6.0
"""of one refinement as conf/refinement/default.yaml has it, but for its queries"""


@dataclass(frozen=True)
class Work:
    """One stage of one trial."""

    stage: str
    units: float
    """frames, frames and epochs, agent steps or episodes"""
    queries: int
    """frames for the teacher"""
    kind: str
    """work of the same kind takes the same time for a unit"""
    place: str
    """its folder: what lies in the same place is done once"""
    looks: int = 0
    """refinements in it"""


def print_estimate(sweep: SweepConfig) -> Path:
    """Print every trial, what is left to do in it, and the sum; returns the sweep's folder.

    Raises SuiteError: a mistake in any trial's settings.
    """
    from sweeps.launch import check_trials

    trials = trials_of(sweep)
    if sweep.search is not None:
        from sweeps.search import trials_to_expect

        trials = trials_to_expect(sweep)
    waiting = {trial.name for trial in check_trials(trials)}
    measured = measured_rates(trials)
    seen: set[str] = set()
    rows, seconds, queries, ruled = [], 0.0, 0, False
    for trial in trials:
        if trial.name not in waiting:
            rows.append([trial.name, "done before", "", ""])
            continue
        left = [work for work in work_of(trial.config) if work.place not in seen]
        seen |= {work.place for work in left}
        own = sum(seconds_of(work, measured) for work in left)
        asked = sum(work.queries for work in left)
        ruled |= any(work.kind not in measured for work in left)
        rows.append([trial.name, ", ".join(work.stage for work in left), f"{asked:,}", duration(own)])
        seconds, queries = seconds + own, queries + asked
    print(Table(["trial", "to do", "teacher queries", "one slot"], rows).plain())
    print(
        f"\n{len(waiting)} of {len(trials)} trials to run: {queries:,} teacher queries, {duration(seconds)} of a slot; "
        "less in several, where each is slower for the others beside it."
        + " The search ends most of its samples early."
        * (sweep.search is not None)
    )
    print(f"By a rule: {RULE}." if ruled else "From the seconds of finished trials of the same kind in this folder.")
    return sweep.out


def work_of(config: TrialConfig) -> list[Work]:
    """What a trial's stages take, those that are finished left out."""
    from sweeps.trial import stages_of

    stages = stages_of(config)
    shared = shared_stages(config.shared, config.out, stages)
    amounts = _amounts(config)
    return [
        Work(
            stage.name,
            *amounts[stage.name],
            str(shared[stage.name].root / shared[stage.name].name)
            if stage.name in shared
            else f"{config.out}/{stage.name}",
            looks_of(config) if stage.name == "train" else 0,
        )
        for stage in Journal(config.out).unfinished(stages)
    ]


def measured_rates(trials: Sequence[SweepTrial]) -> dict[str, float]:
    """Seconds for a unit of each kind of work, mean over the finished trials."""
    found: dict[str, list[float]] = defaultdict(list)
    for trial in trials:
        if not is_finished(trial.config.out):
            continue
        seconds = read_json(trial.config.out / RESULT)["seconds"]
        for stage, (units, _, kind) in _amounts(trial.config).items():
            if seconds.get(stage) and units:
                found[kind].append(seconds[stage] / units)
    return {kind: float(np.mean(rates)) for kind, rates in found.items()}


def seconds_of(work: Work, measured: Mapping[str, float]) -> float:
    """At the measured rate of its kind, else by the rule."""
    if work.kind in measured:
        return work.units * measured[work.kind]
    asking = TEACHER_SECONDS * work.queries if work.stage != "label" else 0.0
    return work.units * PER_UNIT[work.stage] * SLOWER.get(work.kind, 1.0) + asking + LOOK_SECONDS * work.looks


def looks_of(config: TrialConfig) -> int:
    """How often a training is interrupted for a refinement: never at its end, when nothing would come of it."""
    if config.refinement is None:
        return 0
    return (learning_settings(config.sac, config.ppo).total_steps - 1) // config.refinement.every_steps


def _refinement_queries(config: TrialConfig) -> int:
    """What of their budget a training's refinements can spend; a threshold of theirs may leave more of it."""
    if config.refinement is None:
        return 0
    each = config.refinement.queries + config.refinement.audited
    return min(config.refinement.query_budget, looks_of(config) * each * len(config.teacher.clips))


def _amounts(config: TrialConfig) -> dict[str, tuple[float, int, str]]:
    """Units, teacher queries and kind of each stage."""
    task, learning, frames = config.task, learning_settings(config.sac, config.ppo), config.collect.frames
    evaluations = (
        (learning.total_steps // learning.evaluation_every_steps + 1)
        * learning.evaluation_episodes
        * task.episode_steps
    )
    final = config.evaluation_episodes * task.episode_steps
    teacher, judged = config.reward == "teacher", config.reward == "teacher" or config.judge
    asked = (learning.total_steps if teacher else 0) + (evaluations if judged else 0) + _refinement_queries(config)
    fit = _fit_settings(config)
    share = float(fit.get("data", {}).get("data_fraction", 1.0))
    epochs = int(fit.get("trainer", {}).get("max_epochs", EPOCHS))
    backbone = fit.get("model", {}).get("backbone", "")
    return {
        "collect": (frames, 0, f"collect {task.name}"),
        "label": (frames, frames, f"label {config.teacher.clips}"),
        "fit": (frames * share * epochs, 0, f"fit {backbone}"),
        "train": (
            learning.total_steps,
            asked,
            f"train {type(learning).__name__} {task.name} {config.reward} {config.judge}"
            + " refined" * (config.refinement is not None),
        ),
        "evaluate": (config.evaluation_episodes, final if judged else 0, f"evaluate {task.name} {config.reward}"),
    }


def _fit_settings(config: TrialConfig) -> dict[str, Any]:
    """The student's file with what this trial changes in it."""
    content: dict[str, Any] = yaml.safe_load(config.student.read_text()) or {}
    return _merged(content, config.fit)


def _merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    keys: Iterable[str] = {**one, **other}
    return {
        key: _merged(one[key], other[key])
        if isinstance(one.get(key), Mapping) and isinstance(other.get(key), Mapping)
        else other.get(key, one.get(key))
        for key in keys
    }
