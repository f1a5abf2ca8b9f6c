"""Train the bundled teacher again from nothing."""

from pathlib import Path

from lightning_modules.settings import CaptionedClipSettings
from scripts.command import run

OUT = Path("runs/teacher")
TRAINING = CaptionedClipSettings()


def train_teacher(out: Path = OUT, training: CaptionedClipSettings = TRAINING, share: float = 1.0) -> Path:
    """Draw captioned frames of every shipped simulator, train a small CLIP on them, test it on states it never saw.

    python -m scripts.train_teacher

    About twenty minutes on one core with bfloat16. To put the new weights to use, copy bundled.safetensors to
    conf/teacher, and the tables of figures.md into conf/teacher/BUNDLED_TEACHER.md.

    Args:
        out: folder for weights, figures and drawn frames
        training: how long and how fast to train
        share: share of the frames to draw (above 0 to 1)
    """
    from rllib_envs.teacher_training import train_bundled_teacher  # torch loads only after the arguments proved right

    return train_bundled_teacher(out, training, share)


if __name__ == "__main__":
    run(train_teacher)
