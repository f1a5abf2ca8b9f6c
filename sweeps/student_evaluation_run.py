"""From student folders and labels to `students.html` and `result.json`."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from datamodules.errors import DataError, SettingsError
from datamodules.labelled_set import LabelledSet, why_not_cached
from datamodules.progress import progress_bar
from datamodules.results import read_json, write_result
from datamodules.storage import is_address
from lightning_modules.settings import TeacherSettings
from lightning_modules.student_files import read_card
from sweeps.audit import with_sentences
from sweeps.audit_settings import PromptList
from sweeps.student_evaluation import (
    BATCH_SIZES,
    Evaluation,
    ReadyStudent,
    check_comparable,
    evaluate,
    open_students,
)
from sweeps.students_page import write_students_page

PAGE = "students.html"


def evaluate_folders(
    students: Sequence[Path],
    labels: Sequence[str],
    out: Path,
    *,
    prompts: PromptList | None = None,
    teacher: TeacherSettings | None = None,
    seed: int = 0,
    command: str = "",
) -> Path:
    """What scripts.evaluate_students does: check, read, score, page, `result.json`. Returns its path.

    Raises:
        SettingsError: nothing to compare, a folder named twice, or prompts without a student that takes any.
        DataError: a student or data set that is missing, damaged or of another frame size or teacher; a sentence
            that a data set has no embedding of.
    """
    start = time.monotonic()
    _check_settings(students, labels, seed)
    sets = tuple(LabelledSet(str(place).rstrip("/")) for place in labels)
    _check_readable(sets)
    cards = {folder: read_card(folder) for folder in students}
    check_comparable(cards, sets)
    if prompts is not None and all(card.head == "reward" for card in cards.values()):
        raise SettingsError(
            "prompts is given and no student has an embedding head: only those answer sentences that they were not "
            "fitted to; fit one with `--model.head embedding`, or leave prompts out"
        )
    sets = tuple(_with_prompts(one, prompts, teacher) for one in sets)
    ready = open_students(students)
    _decode(sets)
    with progress_bar("evaluate", "rewards") as report:
        found = evaluate(ready, sets, prompts, seed, report)
    figures = content_of(found)
    figures |= {"seed": seed, "command": command, "seconds": round(time.monotonic() - start, 2)}
    write_students_page(out / PAGE, found, figures)
    settings = {"students": students, "labels": labels, "prompts": prompts, "teacher": teacher, "seed": seed}
    return write_result(out, figures, settings)


def content_of(found: Evaluation) -> dict[str, Any]:
    """The figures of `result.json`."""
    return {
        "students": {student.name: _content_of_student(found, student) for student in found.students},
        "data_sets": {
            one.place: {
                "task": one.manifest.task.name,
                "prompts": one.manifest.task.prompts,
                "collection": one.manifest.collection,
                "samples": one.manifest.samples,
                "manifest_digest": one.manifest.digest,
                "teacher": {"name": one.teacher.name, "digest": one.teacher.digest},
            }
            for one in found.sets
        },
        "agreement": {
            student.name: {
                one.place: {
                    "frames": found.origin[student.name, one.place],
                    "fitted_to_other_sentences": student.fitted_to_other_sentences(one.manifest.task),
                    **asdict(found.agreement[student.name, one.place]),
                }
                for one in found.sets
            }
            for student in found.students
        },
        "prompts": [
            {"student": student, "labels": place, **asdict(each), **asdict(agreement)}
            for (student, place), answers in found.asked.items()
            for each, agreement in answers
        ],
    }


def _content_of_student(found: Evaluation, student: ReadyStudent) -> dict[str, Any]:
    card, fit = student.card, _result_of_fit(student.folder)
    return {
        "folder": student.folder,
        "backbone": card.backbone,
        "head": card.head,
        "members": card.members,
        "tasks": [target.task for target in card.targets],
        "parameters": student.parameters,
        "bytes": student.bytes,
        "fit_seconds": fit.get("seconds"),
        "epochs": fit.get("epochs"),
        "milliseconds": dict(zip(map(str, BATCH_SIZES), found.milliseconds[student.name], strict=True)),
        "fidelity": card.fidelity,
    }


def _result_of_fit(folder: Path) -> dict[str, Any]:
    """What the fit took; nothing for a student that came without it."""
    try:
        return read_json(folder / "result.json")
    except (OSError, ValueError):
        return {}


def _check_settings(students: Sequence[Path], labels: Sequence[str], seed: int) -> None:
    for name, given in (("students", students), ("labels", labels)):
        if not given:
            raise SettingsError(f"{name} is empty: give at least one folder")
        twice = [place for place, count in Counter(map(str, given)).items() if count > 1]
        if twice:
            raise SettingsError(f"{name} names {twice[0]} twice: name each once")
    if seed < 0:
        raise SettingsError(f"seed is {seed}: it must be 0 or above")


def _check_readable(sets: Sequence[LabelledSet]) -> None:
    """Raise DataError unless each data set is finished and knows its own prompts, and all can be decoded once."""
    for one in sets:
        prompts = one.manifest.task.prompts
        one.prompt_embeddings((*prompts.goal, *prompts.baseline))
    if reason := why_not_cached(sets):
        raise DataError(f"the frames cannot be kept decoded: {reason}; make room, or copy the labels")


def _decode(sets: Sequence[LabelledSet]) -> None:
    """Fill the caches of decoded frames that are not there yet, with a progress bar."""
    missing = [one for one in sets if not one.is_decoded]
    if not missing:
        return
    total, before = sum(one.manifest.samples for one in missing), 0
    with progress_bar("read", "frames") as report:
        for one in missing:

            def on_top(done: int, _: int, note: str = "", before: int = before) -> None:
                report(before + done, total, note)

            one.read(True, on_top)
            before += one.manifest.samples


def _with_prompts(one: LabelledSet, prompts: PromptList | None, teacher: TeacherSettings | None) -> LabelledSet:
    """The data set with every sentence of the list in its manifest. Raises DataError as `with_sentences`."""
    if prompts is None:
        return one
    if is_address(one.place):
        one.prompt_embeddings([sentence for each in prompts.candidates for sentence in each.sentences])
        return one
    with_sentences(Path(one.place), one.manifest, prompts, teacher)
    return LabelledSet(one.place)
