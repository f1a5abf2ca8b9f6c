"""Makes the bundled teacher: frames of every family, captioned and learned, then tested on states it never saw."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from datamodules.conf import read_conf
from datamodules.errors import SettingsError
from datamodules.progress import progress_bar
from datamodules.results import write_atomically, write_result
from datamodules.tasks import Task
from lightning_modules.caption_batches import CaptionedFrames
from lightning_modules.captioned_clip import save_weights, train_captioned_clip
from lightning_modules.sentences import Sentences, read_sentences
from lightning_modules.settings import CaptionedClipSettings, TeacherSettings
from lightning_modules.teacher import ClipTeacher
from lightning_modules.teacher_scores import TaskScore, markdown_table, score_task
from rllib_envs.captioned_frames import Source, draw_frames, random_policy, wide

CONF = Path("conf")
CAPTIONS = CONF / "teacher" / "captions.yaml"
MODEL = CONF / "teacher" / "bundled_model.json"
FRAMES = {
    "cartpole_swingup": 10_000,
    "gym_cartpole": 4_000,
    "reacher_easy": 10_000,
    "walker_stand": 8_000,
    "cheetah_run": 4_000,
    "humanoid_stand": 5_000,
    "gym_mountain_car": 2_000,
}
"""Training frames of one task a family; tasks that share a simulator look the same."""
HELD_OUT_FRAMES = 500
SEEDS = {"training": 1, "held-out": 1_000_001}


def train_bundled_teacher(out: Path, training: CaptionedClipSettings, share: float) -> Path:
    """Draw frames, train, test; write weights, a table of figures and the result. Returns the result's path.

    Drawn frames are kept in `out`/frames, so a run that was stopped does not draw them again.

    Args:
        out: output folder.
        training: how long and how fast.
        share: share of the frames that are drawn for training and test (above 0 to 1).
    """
    if not 0 < share <= 1:
        raise SettingsError(f"share is {share}: it must lie above 0 and at most 1")
    start = time.monotonic()
    counts = {name: max(10, round(share * count)) for name, count in FRAMES.items()}
    data = draw_all(counts, SEEDS["training"], out / "frames", wide)
    drawn = time.monotonic()
    with progress_bar("train", "steps") as report:
        model = train_captioned_clip(MODEL, data, read_sentences(CAPTIONS), training, report)
    weights = out / "bundled.safetensors"
    save_weights(model, weights)
    trained = time.monotonic()

    teacher = ClipTeacher(TeacherSettings(model=str(MODEL), weights=str(weights)))
    held_out = read_sentences(CAPTIONS, held_out=True)
    counts = dict.fromkeys(FRAMES, max(10, round(share * HELD_OUT_FRAMES)))
    scores = {
        source.__name__: score_all(teacher, draw_all(counts, SEEDS["held-out"], out / "frames", source), held_out)
        for source in (wide, random_policy)
    }
    tables = "\n\n".join(f"### States: {name}\n\n{markdown_table(rows)}" for name, rows in scores.items())
    write_atomically(out / "figures.md", f"{tables}\n".encode())
    figures = {
        "scores": {name: [asdict(row) for row in rows] for name, rows in scores.items()},
        "seconds": {"draw": drawn - start, "train": trained - drawn, "test": time.monotonic() - trained},
        "bytes": weights.stat().st_size,
        "digest": teacher.digest,
    }
    return write_result(out, figures, {"training": asdict(training), "share": share, "frames": FRAMES, "seeds": SEEDS})


def draw_all(counts: dict[str, int], seed: int, cache: Path, source: Source) -> list[CaptionedFrames]:
    """Draw frames of every family; `counts` says how many of each task."""
    data = []
    for name, count in counts.items():
        with progress_bar(f"draw {name}", "frames") as report:
            data.append(draw_frames(_task(name), count, seed, cache, report, source=source))
    return data


def score_all(teacher: ClipTeacher, data: Sequence[CaptionedFrames], held_out: Sentences) -> list[TaskScore]:
    """Score frames of every family with the prompts of its task."""
    return [score_task(teacher, part, _task(part.task).prompts, held_out) for part in data]


def _task(name: str) -> Task:
    return read_conf(Task, CONF / "tasks" / f"{name}.yaml")
