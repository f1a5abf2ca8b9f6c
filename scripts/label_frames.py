"""Label collected frames with a CLIP teacher."""

from pathlib import Path

from lightning_modules.settings import TeacherSettings
from scripts.command import run


def label_frames(frames: Path, teacher: TeacherSettings, out: Path, prompts: tuple[str, ...] = ()) -> Path:
    """Score every frame once with the teacher and keep its embedding, so that any sentence can be tried without it.

    python -m scripts.label_frames --frames runs/x/frames --teacher conf/teacher/bundled.yaml --out runs/x/labels

    Run again after a stop: finished shards are kept. Run again with --prompts: sentences are added, no frame is scored.

    Args:
        frames: folder written by scripts.collect_frames
        teacher: a file of conf/teacher, or single settings
        out: folder for the labelled shards
        prompts: sentences to have ready beside the task's own, as '["a pole upright", "a cart"]'
    """
    from lightning_modules.labelling import label_folder  # torch loads only after the arguments proved right

    return label_folder(frames, teacher, out, prompts)


if __name__ == "__main__":
    run(label_frames)
