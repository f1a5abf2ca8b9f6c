"""A fitted student's folder, read: what its page and comparisons show."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.errors import DataError
from datamodules.results import read_json
from datamodules.tasks import Prompts
from lightning_modules.fidelity import Fidelity
from lightning_modules.student_files import read_card as _read_card
from lightning_modules.student_module import EPISODES

# ---- until the cards hold them
Values = NDArray[np.float32]


@dataclass(frozen=True)
class _Teacher:
    name: str
    digest: str
    dims: tuple[int, ...]
    precision: str


@dataclass(frozen=True)
class _Target:
    task: str
    prompts: Prompts
    fidelity: Fidelity


@dataclass(frozen=True)
class StudentCard:
    backbone: str
    pixels: int
    head: str
    head_width: int
    members: int
    shared_backbone: bool
    targets: tuple[_Target, ...]
    teacher: _Teacher | None
    manifest_digest: str
    fidelity: Fidelity


@dataclass(frozen=True, eq=False)
class HeldOut:
    student: Values
    teacher: Values
    spread: Values
    true_reward: Values
    episode: NDArray[np.int64]
    step: NDArray[np.int64]
    target: NDArray[np.int64]
    top_frames: NDArray[np.uint8]
    top: NDArray[np.int64]
    bottom_frames: NDArray[np.uint8]
    bottom: NDArray[np.int64]
    worst_frames: NDArray[np.uint8]
    worst: NDArray[np.int64]


def read_held_out(folder: Path) -> HeldOut:
    card = _read_card(folder)
    with np.load(folder / "held_out.npz", allow_pickle=False) as arrays:
        a = dict(arrays)
    scale = card.standardisation
    student, teacher = (((a[k] - scale.mean) / scale.std).astype(np.float32) for k in ("student", "teacher"))
    order = np.argsort(teacher, kind="stable")
    bottom, top = order[:8], order[::-1][:8]
    both, frames = np.concatenate([top, bottom]), np.concatenate([a["top_frames"], a["bottom_frames"]])
    worst = np.argsort(-np.abs(student - teacher)[both])[:8]
    return HeldOut(
        student,
        teacher,
        np.zeros_like(student),
        a["true_reward"],
        a["episode"],
        a["step"],
        np.zeros(len(student), np.int64),
        a["top_frames"],
        top,
        a["bottom_frames"],
        bottom,
        frames[worst],
        both[worst],
    )


def read_card(folder: Path) -> StudentCard:
    old = _read_card(folder)
    return StudentCard(
        old.backbone,
        old.pixels,
        "reward",
        old.head_width,
        1,
        False,
        (_Target(old.task, old.prompts, old.fidelity),),
        None,
        old.manifest_digest,
        old.fidelity,
    )


# ----


@dataclass(frozen=True, eq=False)
class FittedStudent:
    """What a fit left in its folder."""

    folder: Path
    """the student's folder"""
    card: StudentCard
    """student.json"""
    held_out: HeldOut
    """held_out.npz: student and teacher on episodes that the fit never saw, standardised"""
    result: dict[str, Any]
    """result.json: curves, errors, seconds, settings and versions of the fit"""

    def episode_name(self, number: int) -> str:
        """What a reader calls a held-out episode, whose number counts over all data sets of the fit."""
        data_set, episode = divmod(number, EPISODES)
        if len(self.card.targets) > 1:
            target = self.held_out.target[self.held_out.episode == number][0]
            return f"{self.card.targets[target].task} {episode}"
        return f"episode {episode}" + (f" of data set {data_set + 1}" if self.data_sets > 1 else "")

    @property
    def data_sets(self) -> int:
        """How many data sets it was fitted to."""
        return int(self.held_out.episode.max()) // EPISODES + 1


def read_student(folder: Path) -> FittedStudent:
    """Read a student's folder.

    Raises:
        DataError: there is no student, its fit is not finished, or one of its files is damaged; the message names it.
    """
    card = read_card(folder)
    path = folder / "result.json"
    try:
        result = read_json(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}): give the folder of a finished fit, or fit again") from error
    return FittedStudent(folder, card, read_held_out(folder), result)
