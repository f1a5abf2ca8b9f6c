"""A trial's folder -> `report.html`: one page that opens from disk, with every picture and the video inside it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_modules.held_out import HeldOut
from sweeps import figures
from sweeps.answer import BY_SENTENCE, answer_of, duration, number, quoted, returns_in_words, total_seconds
from sweeps.costs import cost_rows
from sweeps.measures import measure_rows, watch_of
from sweeps.pages import data_uri, picture_uri, settings_in_rows, write_page
from sweeps.refinement_page import farthest_clouds, refinement_rows, refinement_summary
from sweeps.trial_files import TrialFiles, read_trial

VIDEO_BYTES = 3_400_000
"""a longer video is linked instead: base64 adds a third, and the page must stay below 6 MB"""

# Key in student.json's fidelity -> name, what it says, and where good lies (FIELD: Gleave et al. 2021 for EPIC).
FIDELITY = {
    "spearman_within_episode": ("Spearman, within an episode", "order of an episode's frames; 1 is best"),
    "spearman_pooled": ("Spearman, pooled", "order of all frames; easier than within an episode"),
    "pairwise_order_accuracy": ("Pairs in the right order", "share of pairs of frames; 0.5 is guessing"),
    "pearson": ("Pearson", "linear agreement; 1 is best"),
    "epic": ("EPIC distance", "0 same reward, 0.707 unrelated"),
    "mse": ("Mean squared error", "of standardised rewards; 0 is best"),
    "samples": ("Held-out frames", "from episodes the student never saw"),
}


def write_report(trial: Path) -> Path:
    """Write the page of a trial, whole or not at all, and return its path.

    Sections without data are left out: a trial on the true reward has no student, an unfinished one no curve.

    Raises:
        DataError: the folder holds no trial, or one of its files is damaged.
    """
    files = read_trial(trial)
    return write_page(trial / "report.html", "page.html.j2", page_content(files))


def page_content(files: TrialFiles) -> dict[str, Any]:
    """Everything the template shows, already in words; None or empty where this trial has nothing to show."""
    result = files.result
    by_sentence = files.reward in BY_SENTENCE
    prompts = result.get("prompts") if by_sentence else None
    return {
        "task": result["task"],
        "seed": result["seed"],
        "title": quoted(prompts["goal"])
        if prompts
        else {"true": "The simulator's own reward"}.get(files.reward, "A random reward"),
        "by_sentence": by_sentence,
        "answer": answer_of(files),
        "tiles": _tiles(files),
        "prompts": prompts,
        "teacher": result.get("teacher") if by_sentence else None,
        "video": _video(files.video),
        "figures": _figures(files),
        "points": None if files.held_out is None else len(files.held_out.teacher),
        "returns": _returns(result),
        "watch": watch_of(files),
        "measures": measure_rows(files),
        "refinement": refinement_summary(files),
        "refinements": refinement_rows(files),
        "drifted_at": f"{farthest[1].steps:,}" if (farthest := farthest_clouds(files)) else None,
        "fidelity": _fidelity(files.student.get("fidelity", {})),
        "student": _student(files.student),
        "frames": _frame_rows(files),
        "costs": cost_rows(files),
        "settings": settings_in_rows(result.get("settings", {})),
        "versions": result.get("versions", {}),
        "command": result.get("command"),
        "mlflow": result.get("mlflow"),
    }


def _figures(files: TrialFiles) -> dict[str, str | None]:
    drawn = {name: data_uri("image/svg+xml", drawing.svg()) for name, drawing in figures.draw_figures(files).items()}
    return {name: drawn.get(name) for name in figures.NAMES}


def _student(student: Mapping[str, Any]) -> str | None:
    if not student:
        return None
    return f"The student is {student['backbone']} on frames of {student['pixels']} by {student['pixels']} pixels."


def _returns(result: Mapping[str, Any]) -> str | None:
    """The alternative text of the learning curve's end."""
    if "true_return" not in result or "random_return" not in result:
        return None
    return f"agent {returns_in_words(result['true_return'])}, random policy {returns_in_words(result['random_return'])}"


def _tiles(files: TrialFiles) -> list[tuple[str, str, str]]:
    """(figure, name, remark) of the handful of figures that matter most."""
    result, tiles = files.result, []
    if agent := result.get("true_return"):
        tiles.append((number(agent["mean"]), "true return", _scale_of_returns(files.agent.get("task"))))
    if random := result.get("random_return"):
        tiles.append((number(random["mean"]), "random policy", "true return, for scale"))
    within = files.student.get("fidelity", {}).get("spearman_within_episode")
    if within is not None:
        tiles.append((number(within), "student to teacher", "rank correlation within an episode"))
    if "teacher_queries" in result:
        tiles.append((f"{result['teacher_queries']:,}", "teacher queries", "frames the teacher scored"))
    if (seconds := total_seconds(result)) is not None:
        tiles.append((duration(seconds), "from start to end", "on this machine"))
    return tiles


def _scale_of_returns(task: Mapping[str, Any] | None) -> str:
    """What a true return is to be held against."""
    if task is None:
        return "mean of an episode"
    if ends := task.get("score_range"):  # where the best frame ends the episode, no episode is full of them
        return f"the task's reference is {number(ends[1])}"
    return f"of at most {number(task['reward_per_frame'][1] * task['episode_frames'])}"


def _fidelity(fidelity: Mapping[str, float | None]) -> list[tuple[str, str, str]]:
    rows = []
    for key, (name, meaning) in FIDELITY.items():
        if key in fidelity:
            value = fidelity[key]
            shown = "not defined" if value is None else f"{value:,}" if key == "samples" else f"{value:.3f}"
            rows.append((name, shown, meaning))
    return rows


def _frame_rows(files: TrialFiles) -> list[tuple[str, list[dict[str, str]]]]:
    if files.held_out is None:
        return []
    held_out = files.held_out
    rows = (("Highest", held_out.top, held_out.top_frames), ("Lowest", held_out.bottom, held_out.bottom_frames))
    return [
        (title, [_thumbnail(held_out, *frame) for frame in zip(positions, frames, strict=True)])
        for title, positions, frames in rows
    ]


def _thumbnail(held_out: HeldOut, position: int, pixels: NDArray[np.uint8]) -> dict[str, str]:
    return {
        "image": picture_uri(pixels),
        "student": f"{held_out.student[position]:.2f}",
        "teacher": f"{held_out.teacher[position]:.2f}",
    }


def _video(path: Path | None) -> dict[str, str | None] | None:
    if path is None:
        return None
    if path.stat().st_size > VIDEO_BYTES:
        return {"inside": None, "beside": f"{path.parent.name}/{path.name}"}
    return {"inside": data_uri("video/mp4", path.read_bytes()), "beside": None}
