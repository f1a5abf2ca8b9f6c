"""`held_out.npz`: student and teacher side by side on episodes that neither fit nor early stopping has seen."""

from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datamodules.frames_datamodule import FramesDataModule
from datamodules.results import write_atomically
from lightning_modules.rewards import Standardisation
from lightning_modules.student_module import Scores, episode_numbers

HELD_OUT = "held_out.npz"
EXTREME_FRAMES = 8


@dataclass(frozen=True, eq=False)
class HeldOut:
    """The arrays of the file, one entry a frame; rewards on the raw scale. Top and bottom are by teacher reward."""

    student: NDArray[np.float32]
    """(N,)"""
    teacher: NDArray[np.float32]
    """(N,)"""
    true_reward: NDArray[np.float32]
    """(N,) the simulator's own"""
    episode: NDArray[np.int64]
    """(N,)"""
    step: NDArray[np.int64]
    """(N,) agent decisions since the reset"""
    top_frames: NDArray[np.uint8]
    """(K, P, P, 3), highest first; K is 8, or N where there are fewer"""
    top_student: NDArray[np.float32]
    """(K,)"""
    top_teacher: NDArray[np.float32]
    """(K,)"""
    bottom_frames: NDArray[np.uint8]
    """(K, P, P, 3), lowest first"""
    bottom_student: NDArray[np.float32]
    """(K,)"""
    bottom_teacher: NDArray[np.float32]
    """(K,)"""

    def write(self, folder: Path) -> None:
        """Write the file, whole or not at all."""
        buffer = BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **asdict(self))
        write_atomically(folder / HELD_OUT, buffer.getvalue())


def held_out_from(scores: Scores, standardisation: Standardisation, data: FramesDataModule) -> HeldOut:
    """Scores of the test split, and its extreme frames."""
    scale = np.float32(standardisation.std), np.float32(standardisation.mean)
    student, teacher = (values.numpy() * scale[0] + scale[1] for values in (scores.student, scores.teacher))
    order = np.argsort(teacher, kind="stable")
    bottom, top = order[:EXTREME_FRAMES], order[::-1][:EXTREME_FRAMES]
    return HeldOut(
        student=student,
        teacher=teacher,
        true_reward=scores.true_reward.numpy(),
        episode=scores.episode.numpy(),
        step=scores.step.numpy(),
        top_frames=_test_frames(data, scores, top),
        top_student=student[top],
        top_teacher=teacher[top],
        bottom_frames=_test_frames(data, scores, bottom),
        bottom_student=student[bottom],
        bottom_teacher=teacher[bottom],
    )


def _test_frames(data: FramesDataModule, scores: Scores, positions: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Frames (K, P, P, 3) of the samples at these positions of the scores, one batch in memory at a time."""
    episode, step = scores.episode.numpy()[positions], scores.step.numpy()[positions]
    keys = list(zip(episode.tolist(), step.tolist(), strict=True))
    found: dict[tuple[int, int], NDArray[np.uint8]] = {}
    for batch in data.every_test_batch():
        samples = zip(episode_numbers(batch).tolist(), batch.step.tolist(), batch.frames.numpy(), strict=True)
        found |= {(episode, step): frame for episode, step, frame in samples if (episode, step) in keys}
    return np.stack([found[key] for key in keys])
