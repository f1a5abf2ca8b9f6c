"""Label collected frames with a CLIP teacher."""

from pathlib import Path

from lightning_modules.settings import TeacherSettings
from scripts.command import run


def label_frames(
    frames: Path,
    teacher: TeacherSettings,
    out: Path,
    prompts: tuple[str, ...] = (),
    *,
    workers: int | None = None,
    follow: bool = False,
) -> Path:
    """Score every frame once with the teacher and keep its embedding, so that any sentence can be tried without it.

    python -m scripts.label_frames --frames runs/x/frames --teacher conf/teacher/bundled.yaml --out runs/x/labels

    Run again after a stop: finished shards are kept. Run again with --prompts: sentences are added, no frame is scored.
    Several of these commands, on one machine or many, may label one folder: each takes shards that no other has. With
    RAY_ADDRESS set the workers run on that Ray cluster; its machines must see both folders under the same path.

    Args:
        frames: folder written by scripts.collect_frames
        teacher: a file of conf/teacher, or single settings
        out: folder for the labelled shards
        prompts: sentences to have ready beside the task's own, as '["a pole upright", "a cart"]'
        workers: teachers side by side; left out, one for each GPU, or one where there is none
        follow: label shards while scripts.collect_frames is still at work on their folder
    """
    from lightning_modules.label_job import label_folder  # torch loads only after the arguments proved right

    return label_folder(frames, teacher, out, prompts, workers=workers, follow=follow)


if __name__ == "__main__":
    run(label_frames)
