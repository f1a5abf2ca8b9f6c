"""A student's folder -> `student.html`: how faithful the fit is, where it errs, what it cost; one file, all inside."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.manifest import Manifest
from lightning_modules.calibration import Calibration, calibrate
from lightning_modules.fidelity import epic_distance, measure_fidelity
from lightning_modules.fit_cli import FitCLI
from lightning_modules.student_files import WEIGHTS
from lightning_modules.tracking import FitLogger
from sweeps.answer import duration, number, quoted
from sweeps.audit_verdict import shown
from sweeps.pages import data_uri, picture_uri, settings_in_rows, write_page
from sweeps.statistics import spearman_interval, within_episode_interval
from sweeps.student_answer import MARKS, answer_of, plain
from sweeps.student_figures import NAMES, draw_student
from sweeps.student_folder import FittedStudent, read_student

PAGE = "student.html"


def write_student_page(folder: Path, manifests: Sequence[Manifest] = ()) -> Path:
    """Write the page of a fitted student, whole or not at all, and return its path.

    Args:
        folder: what a fit left behind.
        manifests: of the data sets it was fitted to, where they are at hand: what the labels cost stands in them.

    Raises:
        DataError: the folder holds no finished fit, or one of its files is damaged.
    """
    return write_page(folder / PAGE, "student.html.j2", page_content(read_student(folder), manifests))


def present_fit(fitted: FitCLI) -> Path:
    """Write the page of a fit that just ended, keep it in its MLflow run where it has one, and return its path."""
    page = write_student_page(fitted.out, fitted.datamodule.manifests)
    for logger in fitted.trainer.loggers:
        if isinstance(logger, FitLogger):
            logger.keep(page)
    return page


def page_content(student: FittedStudent, manifests: Sequence[Manifest]) -> dict[str, Any]:
    """Everything the template shows, already in words; None or empty where this fit has nothing to show."""
    card, held_out, result = student.card, student.held_out, student.result
    rewards = _Rewards(student, np.ones(held_out.student.size, bool))
    calibration = calibrate(held_out.spread.astype(np.float64), rewards.student, rewards.teacher)
    drawn = {
        name: data_uri("image/svg+xml", drawing.svg()) for name, drawing in draw_student(student, calibration).items()
    }
    several = len(card.targets) > 1
    return {
        "title": f"One student of {len(card.targets)} tasks" if several else quoted(card.targets[0].prompts.goal),
        "tasks": ", ".join(dict.fromkeys(target.task for target in card.targets)),
        "card": card,
        "answer": answer_of(student, rewards.within),
        "marks": [(mark.name, shown(mark.good), shown(mark.bad), mark.good > mark.bad, mark.why) for mark in MARKS],
        "tiles": _tiles(student, rewards),
        "figures": {name: drawn.get(name) for name in NAMES},
        "points": held_out.student.size,
        "fidelity": _fidelity(student, rewards),
        "targets": [_target_row(student, number) for number in range(len(card.targets))] if several else [],
        "worst": _pictures(student, held_out.worst, held_out.worst_frames),
        "extremes": [
            ("Highest", _pictures(student, held_out.top, held_out.top_frames)),
            ("Lowest", _pictures(student, held_out.bottom, held_out.bottom_frames)),
        ],
        "calibration": _calibration(calibration),
        "costs": _costs(student, manifests),
        "settings": settings_in_rows(result.get("settings", {})),
        "versions": result.get("versions", {}),
    }


class _Rewards:
    """Student and teacher over some of the held-out frames, with the intervals of their rank correlations."""

    def __init__(self, student: FittedStudent, chosen: NDArray[np.bool_]) -> None:
        held_out = student.held_out
        self.student, self.teacher, self.true_reward = (
            each[chosen].astype(np.float64) for each in (held_out.student, held_out.teacher, held_out.true_reward)
        )
        self.episode = held_out.episode[chosen]
        generator = np.random.default_rng(0)  # the same folder always gives the same page
        self.pooled = spearman_interval(self.student, self.teacher, self.episode, generator)
        self.within = within_episode_interval(self.student, self.teacher, self.episode, generator)


def _tiles(student: FittedStudent, rewards: _Rewards) -> list[tuple[str, str, str]]:
    """(figure, name, remark) of the handful of figures that matter most."""
    fidelity, result = student.card.fidelity, student.result
    tiles = [
        (shown(rewards.within.mean, 3), "Spearman, inside an episode", plain(rewards.within)),
        (shown(rewards.pooled.mean, 3), "Spearman, all frames", plain(rewards.pooled)),
        (shown(fidelity.epic, 3), "EPIC to the teacher", "0 the same, .71 unrelated"),
        (f"{fidelity.pairwise_order_accuracy:.1%}", "pairs in order", "50 % is guessing"),
    ]
    if "parameters" in result:
        tiles.append((_count(result["parameters"]), "parameters", student.card.backbone))
    if "seconds" in result:
        tiles.append((duration(result["seconds"]), "fitted", f"in {result['epochs']} epochs on this machine"))
    return tiles


def _fidelity(student: FittedStudent, rewards: _Rewards) -> list[tuple[str, str, str, str]]:
    """(name, meaning, figure, interval) of every figure."""
    fidelity = student.card.fidelity
    rows = [
        ("Spearman, inside an episode", "order of an episode's frames, mean over episodes; 1 is best", rewards.within),
        ("Spearman, all frames", "order of all frames; differences between episodes make it easier", rewards.pooled),
    ]
    figures = [(name, meaning, shown(found.mean, 3), plain(found)) for name, meaning, found in rows]
    figures += [
        (
            "Pairs in the right order",
            "share of pairs of frames; .5 is guessing",
            shown(fidelity.pairwise_order_accuracy, 3),
            "",
        ),
        ("Pearson", "linear agreement; 1 is best", shown(fidelity.pearson, 3), ""),
        ("EPIC to the teacher", "distance of the rewards; 0 the same, .707 unrelated", shown(fidelity.epic, 3), ""),
    ]
    if len(student.card.targets) == 1:
        own, teachers = (epic_distance(each, rewards.true_reward) for each in (rewards.student, rewards.teacher))
        meaning = f"to the simulator's own reward, never trained on; the teacher's is {shown(teachers, 3)}"
        figures.append(("EPIC to the true reward", meaning, shown(own, 3), ""))
    return figures + _errors(student)


def _errors(student: FittedStudent) -> list[tuple[str, str, str, str]]:
    """Mean squared errors by split, of the exported student."""
    names = {
        "train": ("Squared error, training frames", "mean, of standardised rewards; 1 is what guessing the mean gives"),
        "validation": ("Squared error, validation frames", "on the episodes that chose the epoch"),
        "test": ("Squared error, held-out frames", "on episodes that the fit never saw"),
    }
    mse = student.result.get("mse") or {"test": student.card.fidelity.mse}
    return [(*names[split], f"{mse[split]:.4f}", "") for split in names if mse.get(split) is not None]


def _target_row(student: FittedStudent, place: int) -> dict[str, Any]:
    """One line of the table of tasks, from the held-out frames of this target."""
    target, held_out = student.card.targets[place], student.held_out
    row: dict[str, Any] = {"task": target.task, "goal": target.prompts.goal}
    chosen = held_out.target == place
    if np.count_nonzero(chosen) < 2:
        return row | {"frames": 0}
    rewards = _Rewards(student, chosen)
    fidelity = measure_fidelity(rewards.student, rewards.teacher, rewards.episode)
    return row | {
        "frames": fidelity.samples,
        "within": shown(rewards.within.mean, 3),
        "within_bounds": plain(rewards.within),
        "pooled": shown(rewards.pooled.mean, 3),
        "pooled_bounds": plain(rewards.pooled),
        "pairs": shown(fidelity.pairwise_order_accuracy, 3),
        "epic": shown(fidelity.epic, 3),
        "epic_true": shown(epic_distance(rewards.student, rewards.true_reward), 3),
        "teacher_epic_true": shown(epic_distance(rewards.teacher, rewards.true_reward), 3),
        "mse": f"{fidelity.mse:.4f}",
    }


def _pictures(student: FittedStudent, positions: NDArray[np.int64], frames: NDArray[np.uint8]) -> list[dict[str, str]]:
    """Held-out frames (K, P, P, 3) at these positions (K,), with what both said."""
    held_out = student.held_out
    return [
        {
            "image": picture_uri(frame),
            "student": number(float(held_out.student[position])),
            "teacher": number(float(held_out.teacher[position])),
            "where": f"{student.episode_name(int(held_out.episode[position]))}, step {held_out.step[position]}",
        }
        for position, frame in zip(positions, frames, strict=True)
    ]


def _calibration(found: Calibration | None) -> list[tuple[str, str, str]]:
    if found is None:
        return []
    return [
        (
            "Expected normalised calibration error",
            "how far spread and error are apart, as a share of the spread; 0 is best (Levi et al. 2022)",
            shown(found.ence, 3),
        ),
        (
            "Error over spread",
            "above 1 the members agree too easily: multiply their spread by this",
            f"{found.scale:.2f}",
        ),
        (
            "Area under the sparsification error",
            f"0: the spread finds the worst frames; {shown(found.ause_by_chance, 3)} is chance (Ilg et al. 2018)",
            shown(found.ause, 3),
        ),
        (
            "Spearman of spread and error",
            "1: the more they differ, the more they err",
            shown(found.rank_correlation, 3),
        ),
    ]


def _costs(student: FittedStudent, manifests: Sequence[Manifest]) -> list[tuple[str, str, str]]:
    """(name, figure, remark)."""
    result, weights = student.result, student.folder / WEIGHTS
    rows = []
    if "seconds" in result:
        rows.append(("Fit", duration(result["seconds"]), f"{result['epochs']} epochs, on the machine that fitted it"))
    if "parameters" in result:
        size = f"{weights.stat().st_size / 1e6:.1f} MB on disk" if weights.exists() else "weights"
        rows.append(("Parameters", f"{result['parameters']:,}", size))
    if manifests:
        rows.append(("Labelled frames", f"{sum(each.samples for each in manifests):,}", "in all splits together"))
        queries = sum(each.teacher_queries for each in manifests)
        rows.append(("Teacher queries", f"{queries:,}", "asked once, for any sentence and any number of students"))
    return rows


def _count(parameters: int) -> str:
    return f"{parameters / 1e6:.2f} M" if parameters >= 1e5 else f"{parameters / 1e3:.1f} k"
