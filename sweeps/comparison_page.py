"""A comparison -> `comparison.html`: the question, the answer, every arm with its intervals; one file, all inside."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.results import versions
from sweeps.answer import duration, number
from sweeps.audit_verdict import shown
from sweeps.comparison import ArmFigures, Comparison, value_of
from sweeps.comparison_answer import (
    CHANCE,
    ENOUGH_SEEDS,
    NAMES,
    answer_of,
    digits_of,
    figure,
    gates_of,
    interval,
    is_unbeaten,
    percent,
    pick_of,
)
from sweeps.comparison_figures import draw_comparison
from sweeps.measures import watch_of
from sweeps.pages import data_uri, write_page
from sweeps.refinement_answer import refined_rows, refinement_sentences
from sweeps.run_statistics import Estimate
from sweeps.sweep_files import SweptTrial

PAGE = "comparison.html"
VIDEO_BYTES, VIDEOS_BYTES = 1_500_000, 12_000_000
"""larger videos, and those beyond so much in all, are left out: base64 adds a third"""


def write_comparison_page(found: Comparison) -> Path:
    """Write the page, whole or not at all, and return its path."""
    return write_page(found.files.folder / PAGE, "comparison.html.j2", page_content(found))


DRAWN = ("trend", "profiles", "improvement", "stages", "phases", "front", "latency")
"""pictures that a page may lack"""


def page_content(found: Comparison) -> dict[str, Any]:
    """Everything the template shows, already in words."""
    files = found.files
    drawn = {name: data_uri("image/svg+xml", drawing.svg()) for name, drawing in draw_comparison(found).items()}
    return {
        "title": files.question,
        "name": files.name,
        "varied": ", ".join(files.varied),
        "sentences": answer_of(found),
        "tiles": _tiles(found),
        "gates": gates_of(found),
        "measure": NAMES[found.measure],
        "fits_only": found.measure == "fidelity",
        "tasks": files.tasks,
        "arms": [_arm_row(found, arm) for arm in found.arms],
        "overall": any(arm.overall for arm in found.arms),
        "thresholds": [(task, number(level)) for task, level in found.thresholds.items()],
        "curves": [(task, drawn.get(f"curves-{task}"), drawn.get(f"finals-{task}")) for task in files.tasks],
        "refined": refined_rows(found),
        "refinement_sentences": refinement_sentences(found),
        "queries": [(task, drawn[f"queries-{task}"]) for task in files.tasks if f"queries-{task}" in drawn],
        "drawn": {name: drawn.get(name) for name in DRAWN},
        "beats": _beats(found),
        "enough": ENOUGH_SEEDS,
        "chance": percent(CHANCE),
        "pick": pick_of(found),
        "costs": [_cost_row(arm) for arm in found.arms if arm.costs],
        "watched": _watched(files.finished),
        "failures": [
            (trial.name, trial.status, trial.error or "see its log.txt")
            for trial in files.trials
            if trial.files is None
        ],
        "videos": _videos(found),
        "shared": _shared(files.finished),
        "search": _search(files.search),
        "command": files.command,
        "mlflow": files.result.get("mlflow"),
        "versions": versions(),
    }


def _tiles(found: Comparison) -> list[tuple[str, str, str]]:
    files = found.files
    tiles = [
        (
            f"{len(files.finished)} of {len(files.trials)}",
            "trials finished",
            "a trial is one arm on one task with one seed",
        ),
        (str(len(files.arms)), "arms", ", ".join(files.varied) or "seeds alone"),
        (str(found.seeds), "seeds", "the fewest of an arm on a task"),
    ]
    if "seconds" in files.result:
        tiles.append((duration(files.result["seconds"]), "wall time", "of the whole sweep, on its machine"))
    queries = _queries(files.finished)
    if queries:
        tiles.append((f"{queries:,}", "teacher queries", "all trials together, shared labels once"))
    return tiles


def _queries(trials: Sequence[SweptTrial]) -> int:
    """Frames that the teacher scored for all of these trials; labels that several share count once."""
    labels: dict[str, int] = {}
    others = 0
    for trial in trials:
        if trial.files is None:
            continue
        result = trial.files.result
        place = result.get("shared", {}).get("label")
        own = int(result.get("labelling_queries", 0))
        if place and own:
            labels[place] = max(own, labels.get(place, 0))
            others += int(result["teacher_queries"]) - own
        else:
            others += int(result["teacher_queries"])
    return others + sum(labels.values())


def _arm_row(found: Comparison, arm: ArmFigures) -> dict[str, Any]:
    digits = digits_of(found)
    return {
        "name": arm.name,
        "finished": f"{arm.finished} of {arm.trials}",
        "overall": _cell(arm.overall, digits),
        "mean": _cell(arm.mean, digits),
        "level": arm in found.ranked and is_unbeaten(found, arm, found.ranked),
        "overoptimised": arm.overoptimised,
        "tasks": [_task_cell(found, arm, task) for task in found.files.tasks],
    }


def _cell(estimate: Estimate | None, digits: int | None) -> dict[str, str] | None:
    if estimate is None:
        return None
    return {"figure": figure(estimate, digits), "interval": interval(estimate, digits)}


def _task_cell(found: Comparison, arm: ArmFigures, task: str) -> dict[str, Any] | None:
    figures = arm.tasks.get(task)
    if figures is None:
        return None
    cell: dict[str, Any] = {
        **(_cell(figures.final, 3 if found.measure == "fidelity" else None) or {}),
        "runs": figures.runs,
        "area": _cell(figures.area, None),
        "speed": None,
    }
    if figures.speed is not None:
        reached = f"{figures.speed.reached} of {figures.speed.runs} runs"
        median = figures.speed.median
        cell["speed"] = f"{median:,.0f} steps, {reached}" if median is not None else f"not reached by most, {reached}"
    return cell


def _beats(found: Comparison) -> list[tuple[str, list[str | None]]]:
    """(arm, chance that one of its runs beats one of each arm), in the order of the table."""

    def cell(one: str, other: str) -> str | None:
        estimate = found.improvement.get((one, other))
        if estimate is None:
            return None
        return f"{percent(estimate.value)} ({percent(estimate.low)} to {percent(estimate.high)})"

    names = [arm.name for arm in found.arms]
    return [(one, [cell(one, other) for other in names]) for one in names] if found.improvement else []


def _cost_row(arm: ArmFigures) -> dict[str, Any]:
    costs = arm.costs
    assert costs is not None
    whole = sum(costs.phases.values())
    latency = costs.latency
    return {
        "name": arm.name,
        "compute": duration(costs.compute),
        "stages": ", ".join(
            f"{stage} {duration(costs.seconds[stage])}"
            for stage in ("collect", "label", "fit", "train")
            if costs.seconds.get(stage)
        ),
        "speed": None if costs.steps_per_second is None else f"{number(costs.steps_per_second)} steps/s",
        "phases": ", ".join(f"{name} {percent(seconds / whole)}" for name, seconds in costs.phases.items())
        if whole
        else None,
        "queries": f"{costs.queries:,.0f}",
        "memory": None if costs.peak_memory is None else f"{costs.peak_memory:.2f} GiB",
        "latency": None if latency is None else f"{number(latency * 1e3)} ms",
        "parameters": None if costs.parameters is None else f"{costs.parameters / 1e6:.2f} M",
        "fidelity": None if costs.fidelity is None else f"Spearman {shown(costs.fidelity, 3)}",
    }


def _search(search: Mapping[str, Any]) -> dict[str, Any] | None:
    """The samples of a search, the best first; None for a grid."""
    if not search:
        return None
    samples = search["samples"]
    keys = list(dict.fromkeys(key for each in samples for key in each["values"]))
    rows = [
        {
            "name": each["name"],
            "values": [shown_value(each["values"].get(key)) for key in keys],
            "figure": "\N{EN DASH}" if each["value"] is None else f"{each['value']:.3f}",
            "ended": "whole" if each["whole"] else "failed" if each["value"] is None else "ended early",
            "winner": each["name"] == search["winner"],
        }
        for each in samples
    ]
    return {"keys": keys, "rows": rows, "conf": search["conf"], "whole": sum(each["whole"] for each in samples)}


def shown_value(value: Any) -> str:
    """A drawn value with as many digits as matter."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _watched(trials: Sequence[SweptTrial]) -> list[tuple[str, str]]:
    """(trial, in words) of agents that over-optimised their reward."""
    found = [(trial.name, watch_of(trial.files)) for trial in trials if trial.files]
    return [(name, watch.sentence) for name, watch in found if watch is not None and watch.verdict == "worse"]


def _videos(found: Comparison) -> list[tuple[str, list[dict[str, Any]]]]:
    """(task, videos) of the agent of each arm's median seed, as far as they are small."""
    room, shown = VIDEOS_BYTES, []
    for task in found.files.tasks:
        row = []
        for arm in found.files.arms:
            trial = median_trial([each for each in found.files.finished if (each.arm, each.task) == (arm, task)])
            video = trial and trial.files and trial.files.video
            if not trial or not video or not (size := video.stat().st_size) <= min(room, VIDEO_BYTES):
                continue
            room -= size
            row.append(
                {
                    "arm": arm,
                    "seed": trial.seed,
                    "value": number(value_of(trial, "true_return")),
                    "video": data_uri("video/mp4", video.read_bytes()),
                }
            )
        shown.append((task, row))
    return [(task, row) for task, row in shown if row]


def median_trial(trials: Sequence[SweptTrial]) -> SweptTrial | None:
    """The trial in the middle by true return, the lower one of two; None where there is no agent."""
    agents = [trial for trial in trials if trial.files and "true_return" in trial.files.result]
    if not agents:
        return None
    values = np.argsort([value_of(trial, "true_return") for trial in agents], kind="stable")
    return agents[int(values[(len(agents) - 1) // 2])]


def _shared(trials: Sequence[SweptTrial]) -> list[tuple[str, int, int]]:
    """(stage, folders, trials that use them) of what trials made together."""
    used: dict[str, list[str]] = {}
    for trial in trials:
        shared: Mapping[str, str] = trial.files.result.get("shared", {}) if trial.files else {}
        for stage, place in shared.items():
            used.setdefault(stage, []).append(place)
    return [(stage, len(set(places)), len(places)) for stage, places in used.items() if len(set(places)) < len(places)]
