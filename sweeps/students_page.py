"""An evaluation of students -> `students.html`: the table, the front of fidelity and latency, the answer in words."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.labelled_set import LabelledSet
from datamodules.results import versions
from sweeps import plots
from sweeps.answer import duration, number
from sweeps.audit_verdict import shown
from sweeps.pages import data_uri, write_page
from sweeps.student_answer import MARKS, plain
from sweeps.student_evaluation import BATCH_SIZES, Agreement, AskedPrompt, Evaluation, ReadyStudent
from sweeps.student_origin import Origin

ORIGINS: Mapping[Origin, str] = {
    "held out": "the data set it was fitted to: only the episodes it never saw",
    "new frames": "a task it learned, but frames of another collection: all of them",
    "other task": "a task it never saw: all frames",
    "perhaps seen": "a task it learned from data sets that cannot be told: only episodes that no fit trains on",
}
FASTER = 1.2
"""times as many frames a second that are worth a word"""
FOLLOWS = MARKS[0].bad
"""Spearman inside an episode from which a student follows its teacher at all"""


def write_students_page(path: Path, found: Evaluation, result: Mapping[str, Any]) -> Path:
    """Write the page, whole or not at all, and return its path; `result` is what result.json says."""
    several = len(found.students) > 1
    used = [origin for origin in ORIGINS if origin in found.origin.values()]
    return write_page(
        path,
        "students.html.j2",
        {
            "title": f"{_counted(len(found.students), 'student')} on {_counted(len(found.sets), 'data set')}",
            "sentences": answer_of(found),
            "columns": _columns(found.sets),
            "rows": [_row(found, student) for student in found.students],
            "origins": [(origin, ORIGINS[origin]) for origin in used],
            "ablation": [_ablation(found, student, result) for student in found.students],
            "sizes": BATCH_SIZES,
            "front": data_uri("image/svg+xml", _front(found).svg()) if several else None,
            "asked": [
                _asked(found, student, one)
                for one in found.sets
                for student in found.students
                if (student.name, one.place) in found.asked
            ],
            "command": result["command"],
            "seed": result["seed"],
            "seconds": duration(result["seconds"]),
            "versions": versions(),
        },
    )


def answer_of(found: Evaluation) -> list[str]:
    """What the tables show, in whole sentences."""
    sentences = [_trade(found), _elsewhere(found, "new frames"), _elsewhere(found, "other task"), _unseen(found)]
    return [sentence for sentence in sentences if sentence]


def seen(student: ReadyStudent, prompts: AskedPrompt) -> bool:
    """Whether a fit knew these very sentences."""
    asked = prompts.prompts.goal, prompts.prompts.baseline
    return any(asked == (target.prompts.goal, target.prompts.baseline) for target in student.card.targets)


def _within(student: ReadyStudent) -> float:
    return student.card.fidelity.spearman_within_episode


def _trade(found: Evaluation) -> str:
    milliseconds = {student.name: found.milliseconds[student.name][-1] for student in found.students}
    best, worst = max(found.students, key=_within), min(found.students, key=_within)
    fastest = min(found.students, key=lambda student: milliseconds[student.name])
    figures = f"Spearman inside an episode {shown(_within(best), 3)} on the episodes held out of its fit"
    per_call = f"{number(milliseconds[best.name])} ms for {BATCH_SIZES[-1]} frames"
    if len(found.students) == 1:
        return f"{best.name}: {figures}, {per_call}."
    if len({student.card.manifest_digest for student in found.students}) > 1:
        return (
            "The students learned from different data: on the episodes held out of their own fits, Spearman inside an "
            f"episode goes from {shown(_within(worst), 3)} ({worst.name}) to {shown(_within(best), 3)} ({best.name}). "
            f"The fastest is {fastest.name}."
        )
    if best is fastest:
        return f"{best.name} is both the most faithful student ({figures}) and the fastest ({per_call})."
    times = milliseconds[best.name] / milliseconds[fastest.name]
    gain = f"{number(times)} times faster" if times >= FASTER else "hardly faster"
    return (
        f"The most faithful student is {best.name} ({figures}, {per_call}). {fastest.name} is {gain} at "
        f"{shown(_within(fastest), 3)}."
    )


def _elsewhere(found: Evaluation, origin: Origin) -> str:
    """The best and the worst cell of one origin, against what the students reach on their own held-out episodes."""
    cells = [(student, one) for student in found.students for one in found.sets]
    cells = [(student, one) for student, one in cells if found.origin[student.name, one.place] == origin]
    if not cells:
        return ""

    def reached(cell: tuple[ReadyStudent, LabelledSet]) -> float:
        return found.agreement[cell[0].name, cell[1].place].within.mean

    (best, there), (worst, where) = max(cells, key=reached), min(cells, key=reached)
    reach = _place(best, there, reached((best, there)))
    if len(cells) > 1:
        reach = f"from {_place(worst, where, reached((worst, where)))} to {reach}"
    if origin == "new frames":
        drop = max(_within(student) - reached((student, one)) for student, one in cells)
        changed = f"lose at most {shown(drop, 3)}" if drop > 0 else "lose nothing"
        return (
            f"On other frames of a task that they learned, students {changed} against their own held-out episodes "
            f"(Spearman inside an episode {reach})."
        )
    follows = reached((best, there)) >= FOLLOWS
    verdict = f"can be followed by {best.name}" if follows else "is followed by no student: fit one to it"
    return f"A task that a student never saw {verdict} (Spearman inside an episode {reach})."


def _place(student: ReadyStudent, one: LabelledSet, value: float) -> str:
    return f"{shown(value, 3)} of {student.name} on {one.manifest.task.name}"


def _unseen(found: Evaluation) -> str:
    new = [
        (agreement.pooled.mean, student.name, asked)
        for student in found.students
        for one in found.sets
        for asked, agreement in found.asked.get((student.name, one.place), ())
        if not seen(student, asked)
    ]
    if not new:
        return ""
    low, name, asked = min(new, key=lambda each: each[0])
    middle = float(np.median([each[0] for each in new]))
    return (
        f"On {_counted(len(new), 'prompt')} that no fit knew, students with an embedding head order all frames like "
        f"the teacher with a median Spearman of {shown(middle, 3)}; the lowest is {shown(low, 3)} ({name}, "
        f"{asked.candidate!r} at alpha {asked.prompts.alpha:g})."
    )


def _columns(sets: Sequence[LabelledSet]) -> list[dict[str, Any]]:
    """The heads of the table: of what a data set was collected with, only what differs between them, and the seed."""
    collections = [one.manifest.collection for one in sets]
    told = [
        key
        for key in dict.fromkeys(key for each in collections for key in each)
        if key == "seed" or len({str(each.get(key)) for each in collections}) > 1
    ]
    return [
        {
            "task": one.manifest.task.name,
            "place": one.place,
            "about": f"{one.manifest.samples:,} frames"
            + "".join(f", {key} {one.manifest.collection[key]}" for key in told if key in one.manifest.collection),
        }
        for one in sets
    ]


def _row(found: Evaluation, student: ReadyStudent) -> dict[str, Any]:
    return {
        "name": student.name,
        "learned": ", ".join(target.task for target in student.card.targets),
        "cells": [
            {
                "origin": found.origin[student.name, one.place],
                "other_sentences": student.fitted_to_other_sentences(one.manifest.task),
                **_cell(found.agreement[student.name, one.place]),
            }
            for one in found.sets
        ],
    }


def _cell(agreement: Agreement) -> dict[str, Any]:
    fidelity = agreement.fidelity
    return {
        "grade": MARKS[0].grade(fidelity),
        "within": shown(agreement.within.mean, 3),
        "within_bounds": plain(agreement.within),
        "pooled": shown(agreement.pooled.mean, 3),
        "pooled_bounds": plain(agreement.pooled),
        "epic": shown(fidelity.epic, 3),
        "pairs": shown(fidelity.pairwise_order_accuracy, 3),
        "frames": f"{fidelity.samples:,}",
        "episodes": f"{agreement.episodes:,}",
    }


def _ablation(found: Evaluation, student: ReadyStudent, result: Mapping[str, Any]) -> dict[str, Any]:
    card, entry = student.card, result["students"][student.name]
    milliseconds = found.milliseconds[student.name]
    members = f", {card.members} members" if card.members > 1 else ""
    return {
        "name": student.name,
        "about": f"{card.backbone}, {card.head} head{members}",
        "parameters": f"{student.parameters:,}",
        "size": f"{student.bytes / 1e6:.1f} MB",
        "fit": "not known" if entry["fit_seconds"] is None else duration(entry["fit_seconds"]),
        "epochs": "" if entry["epochs"] is None else _counted(entry["epochs"], "epoch"),
        "calls": [
            (number(taken), f"{1000 * size / taken:,.0f}")
            for size, taken in zip(BATCH_SIZES, milliseconds, strict=True)
        ],
        "within": shown(card.fidelity.spearman_within_episode, 3),
        "pooled": shown(card.fidelity.spearman_pooled, 3),
        "epic": shown(card.fidelity.epic, 3),
    }


def _front(found: Evaluation) -> plots.Drawing:
    points = [
        plots.Point(student.name, found.milliseconds[student.name][-1], _within(student)) for student in found.students
    ]
    return plots.front(
        points,
        f"milliseconds for {BATCH_SIZES[-1]} frames",
        "Spearman inside an episode, on episodes held out of the fit",
    )


def _asked(found: Evaluation, student: ReadyStudent, one: LabelledSet) -> dict[str, Any]:
    """The prompts of the list, asked of one student on one data set: a row a candidate, a column an alpha."""
    answers = found.asked[student.name, one.place]
    alphas = sorted({each.prompts.alpha for each, _ in answers})
    by_candidate: dict[str, dict[float, Agreement]] = {}
    for each, agreement in answers:
        by_candidate.setdefault(each.candidate, {})[each.prompts.alpha] = agreement
    asked = {each.candidate: each for each, _ in answers}
    pooled, within = ([getattr(each, name).mean for _, each in answers] for name in ("pooled", "within"))
    return {
        "student": student.name,
        "task": one.manifest.task.name,
        "place": one.place,
        "alphas": [f"{alpha:g}" for alpha in alphas],
        "medians": [shown(float(np.median(each)), 3) for each in (pooled, within)],
        "prompts": len(answers),
        "rows": [
            {
                "name": name,
                "goal": asked[name].prompts.goal,
                "seen": seen(student, asked[name]),
                "cells": [_cell(row[alpha]) if alpha in row else None for alpha in alphas],
            }
            for name, row in by_candidate.items()
        ],
    }


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" + "s" * (number != 1)
