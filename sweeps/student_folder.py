"""A fitted student's folder, read: what its page and comparisons show."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamodules.errors import DataError
from datamodules.results import read_json
from lightning_modules.held_out import HeldOut, read_held_out
from lightning_modules.student_files import StudentCard, read_card
from lightning_modules.student_scores import EPISODES


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
