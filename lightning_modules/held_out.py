"""`held_out.npz`: student and teacher side by side on episodes that neither fit nor early stopping has seen."""

from dataclasses import asdict, dataclass, fields
from io import BytesIO
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from datamodules.errors import DataError
from datamodules.frames_datamodule import FramesDataModule
from datamodules.results import write_atomically
from lightning_modules.student_scores import Scores, episode_numbers

HELD_OUT = "held_out.npz"
CHOSEN_FRAMES = 8


@dataclass(frozen=True, eq=False)
class HeldOut:
    """The arrays of the file, one entry a frame; rewards standardised, each frame's by its own target.

    K frames of three kinds are kept as pictures, K being 8, or N where there are fewer; `top`, `bottom` and `worst` say
    which of the N they are.
    """

    student: NDArray[np.float32]
    """(N,) mean over the ensemble's members"""
    spread: NDArray[np.float32]
    """(N,) standard deviation over the members; 0 where there is one"""
    teacher: NDArray[np.float32]
    """(N,)"""
    true_reward: NDArray[np.float32]
    """(N,) the simulator's own"""
    target: NDArray[np.int64]
    """(N,) number of the target in the student's card"""
    episode: NDArray[np.int64]
    """(N,) told apart over all data sets"""
    step: NDArray[np.int64]
    """(N,) agent decisions since the reset"""
    top: NDArray[np.int64]
    """(K,) highest teacher reward, highest first"""
    top_frames: NDArray[np.uint8]
    """(K, P, P, 3)"""
    bottom: NDArray[np.int64]
    """(K,) lowest teacher reward, lowest first"""
    bottom_frames: NDArray[np.uint8]
    """(K, P, P, 3)"""
    worst: NDArray[np.int64]
    """(K,) largest difference between student and teacher, largest first"""
    worst_frames: NDArray[np.uint8]
    """(K, P, P, 3)"""

    def write(self, folder: Path) -> None:
        """Write the file, whole or not at all."""
        buffer = BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **asdict(self))
        write_atomically(folder / HELD_OUT, buffer.getvalue())


def read_held_out(folder: Path) -> HeldOut:
    """What a fit has left in this folder. Raises DataError where there is no such file or it is damaged."""
    path = folder / HELD_OUT
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return HeldOut(**{field.name: arrays[field.name] for field in fields(HeldOut)})
    except (ValueError, KeyError, OSError, EOFError, BadZipFile) as error:
        raise DataError(
            f"{path} cannot be read ({type(error).__name__}: {error}): remove {folder} and fit the student again"
        ) from error


def held_out_from(scores: Scores, target_of_set: NDArray[np.int64], data: FramesDataModule) -> HeldOut:
    """Scores of the test split, and its chosen frames; `target_of_set` (S,) is the target of each data set."""
    student, teacher = scores.student.numpy(), scores.teacher.numpy()
    order = np.argsort(teacher, kind="stable")
    bottom, top = order[:CHOSEN_FRAMES], order[::-1][:CHOSEN_FRAMES]
    worst = np.argsort(-np.abs(student - teacher), kind="stable")[:CHOSEN_FRAMES]
    frames = _test_frames(data, scores, np.concatenate([top, bottom, worst]))
    top_frames, bottom_frames, worst_frames = np.split(frames, [len(top), len(top) + len(bottom)])
    return HeldOut(
        student=student,
        spread=scores.spread.numpy(),
        teacher=teacher,
        true_reward=scores.true_reward.numpy(),
        target=target_of_set[scores.data_set.numpy()],
        episode=scores.episode.numpy(),
        step=scores.step.numpy(),
        top=top,
        top_frames=top_frames,
        bottom=bottom,
        bottom_frames=bottom_frames,
        worst=worst,
        worst_frames=worst_frames,
    )


def _test_frames(data: FramesDataModule, scores: Scores, positions: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Frames (K, P, P, 3) of the samples at these positions of the scores, one batch in memory at a time."""
    episode, step = scores.episode.numpy()[positions], scores.step.numpy()[positions]
    keys = list(zip(episode.tolist(), step.tolist(), strict=True))
    wanted = set(keys)
    found: dict[tuple[int, int], NDArray[np.uint8]] = {}
    for batch in data.every_batch("test"):
        samples = zip(episode_numbers(batch).tolist(), batch.step.tolist(), batch.frames.numpy(), strict=True)
        found |= {(episode, step): frame for episode, step, frame in samples if (episode, step) in wanted}
    return np.stack([found[key] for key in keys])
