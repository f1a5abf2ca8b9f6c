"""What refinements leave in an agent's folder, and how they are read again.

refinements/labels/             what the teacher was asked in this training (refined_labels.py)
refinements/000002/clouds.npz   labelled, visited and asked frames in the student's features
refinements/000002/student/     the student that the second refinement made; missing where it was rejected
refinements/000002/record.json  what was measured and decided; written last, and never changed
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from datamodules.errors import DataError
from datamodules.results import read_json

REFINEMENTS, LABELS, RECORD, STUDENT = "refinements", "labels", "record.json", "student"


@dataclass(frozen=True)
class EpisodeRecord:
    """What a refinement saw of one episode, before anything was repaired."""

    visited: int
    """frames of it among those that were drawn"""
    drift: float
    """of these"""
    audited: int
    """of these, the ones that the teacher scored to measure"""
    audited_error: float | None
    """on these; None where there was none"""


@dataclass(frozen=True)
class RefinementRecord:
    """What one refinement measured and decided. Errors are squared, in units of the reward's variance."""

    number: int
    """the first is 1"""
    steps: int
    """agent decisions when it was made"""
    accepted: bool
    """whether the agent is rewarded by a new student from here on, whose version is `number`"""
    reason: str
    """why, in words"""
    drift: float
    """how many times as far from the labels visited frames lie as held-out ones, in the student's features"""
    teacher_drift: float | None
    """the same of the audited frames in the teacher's embeddings; None where none was audited"""
    audited: int
    """visited frames drawn at random that the teacher scored"""
    asked: int
    """visited frames chosen by the strategy that the teacher scored"""
    audited_error_before: float | None
    """error on the audited frames; None where none was audited"""
    audited_error_after: float | None
    """the same after fine-tuning, accepted or not; None where there was none, or it is no number"""
    overrated: float | None
    """mean of student less teacher on the audited frames, in standard deviations of the reward, of the student that
    rewards the agent from here on; None where none was audited"""
    held_out_error_before: float
    """error on held-out labels"""
    held_out_error_after: float | None
    """the same after fine-tuning; None likewise"""
    look_seconds: float
    """spent on visited and labelled frames as the student sees them"""
    ask_seconds: float
    """spent on the teacher, loading it included"""
    fit_seconds: float
    """spent on fine-tuning and the gate"""
    episodes: tuple[EpisodeRecord, ...] = ()
    """those that the visited frames are of, in their order"""


def refinement_folder(agent: Path, number: int) -> Path:
    """The folder of one refinement of an agent."""
    return agent / REFINEMENTS / f"{number:06d}"


def read_record(agent: Path, number: int) -> RefinementRecord | None:
    """What was decided in a refinement of an agent; None where that has not happened. DataError: it is damaged."""
    path = refinement_folder(agent, number) / RECORD
    try:
        if not path.exists():
            return None
        content = read_json(path)
        episodes = tuple(EpisodeRecord(**each) for each in content.pop("episodes", ()))
        return RefinementRecord(**content, episodes=episodes)
    except (ValueError, TypeError) as error:
        raise DataError(f"{path} cannot be read ({error}): remove {agent} and train the agent again") from error


def read_records(agent: Path) -> Iterator[RefinementRecord]:
    """All refinements of an agent, in order. Raises as `read_record`."""
    for number in count(1):
        record = read_record(agent, number)
        if record is None:
            return
        yield record


def student_version(agent: Path, version: int) -> Path:
    """The folder of the student that a refinement made."""
    return refinement_folder(agent, version) / STUDENT


def latest_student(agent: Path) -> Path | None:
    """The student that rewarded an agent at the end of its training; None where none was refined."""
    accepted = [record.number for record in read_records(agent) if record.accepted]
    return student_version(agent, accepted[-1]) if accepted else None
