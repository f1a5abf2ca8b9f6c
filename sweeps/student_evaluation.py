"""Any number of students on any number of labelled data sets: their own, other seeds and policies, other tasks."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.errors import DataError
from datamodules.labelled_set import LabelledSet
from datamodules.progress import Report, silent
from datamodules.tasks import Prompts, Task
from lightning_modules.fidelity import Fidelity, measure_fidelity
from lightning_modules.frame_network import FrameNetwork
from lightning_modules.held_out import HELD_OUT, read_held_out
from lightning_modules.onnx_export import student_onnx
from lightning_modules.reward_audit import audited_rewards
from lightning_modules.runtime_choice import open_fastest
from lightning_modules.runtimes import Runtime
from lightning_modules.student_files import WEIGHTS, StudentCard, load_student
from lightning_modules.student_scores import EPISODES
from sweeps.audit_settings import PromptList
from sweeps.benchmarks import interleaved_medians
from sweeps.statistics import Interval, spearman_interval, within_episode_interval
from sweeps.student_origin import Origin, origin_of, rows_that_count

BATCH_SIZES = (1, 16)
"""frames in a call whose latency is measured: an environment by itself, and a vector of them"""
BATCH = 64
"""frames scored together"""
ROUNDS = 15

Cell = tuple[str, str]
"""name of a student, place of a data set"""


@dataclass(frozen=True, eq=False)
class ReadyStudent:
    """A student that is ready to run."""

    name: str
    """what tables call it"""
    folder: Path
    """its folder"""
    card: StudentCard
    """what it is"""
    outputs: Runtime
    """its network in the fastest runtime here: frames uint8 (B, P, P, 3) -> each member's output"""
    parameters: int
    """weights in the network"""
    bytes: int
    """size of its weights' file"""
    fitted_sets: int | None
    """how many data sets it was fitted to; None: not known"""

    @property
    def takes_prompts(self) -> bool:
        """Whether it answers any sentence."""
        return self.card.head == "embedding"

    def fitted_to_other_sentences(self, task: Task) -> bool:
        """Whether it learned this task by other sentences than the task's own, and cannot be asked for those."""
        return not self.takes_prompts and any(
            target.task == task.name and target.prompts != task.prompts for target in self.card.targets
        )

    def score(
        self, frames: NDArray[np.uint8], rows: NDArray[np.int64], report: Callable[[int], None]
    ) -> NDArray[np.float32]:
        """Some rows (N,) of many frames -> each member's reward (N, K) or embedding (N, K, D); `report` is told of each
        batch."""
        parts = []
        for start in range(0, len(rows), BATCH):
            batch = frames[rows[start : start + BATCH]]
            parts.append(self.outputs(batch))
            report(len(batch))
        return np.concatenate(parts)


@dataclass(frozen=True)
class Agreement:
    """One student beside the teacher on the frames of one data set that count, for one prompt."""

    fidelity: Fidelity
    """both rewards standardised over these frames"""
    pooled: Interval
    """rank correlation over all frames, and its interval over episodes"""
    within: Interval
    """rank correlation inside an episode, mean over episodes, and its interval"""
    episodes: int
    """episodes whose frames count"""


@dataclass(frozen=True)
class AskedPrompt:
    """A prompt of the list on a data set."""

    candidate: str
    """its name in the list"""
    prompts: Prompts
    """its sentences and alpha"""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Everything that was found out."""

    students: tuple[ReadyStudent, ...]
    sets: tuple[LabelledSet, ...]
    origin: Mapping[Cell, Origin]
    """which of the data set's frames count"""
    agreement: Mapping[Cell, Agreement]
    """on the reward of the data set's own task prompts"""
    asked: Mapping[Cell, tuple[tuple[AskedPrompt, Agreement], ...]]
    """of students with an embedding head, on every prompt of the list"""
    milliseconds: Mapping[str, tuple[float, ...]]
    """by student: median of a call with each of BATCH_SIZES frames, all students taking turns"""


def open_students(folders: Sequence[Path]) -> tuple[ReadyStudent, ...]:
    """Load students, each in the fastest runtime here. Raises as `load_student` and `open_fastest`."""
    short = Counter(folder.resolve().name for folder in folders)
    return tuple(
        _open(folder, str(folder) if short[folder.resolve().name] > 1 else folder.resolve().name) for folder in folders
    )


def _open(folder: Path, name: str) -> ReadyStudent:
    network, card = load_student(folder)
    with_frames = FrameNetwork(network, card.pixels)
    outputs = open_fastest(with_frames, cache(partial(student_onnx, folder, with_frames)))
    parameters = sum(weights.numel() for weights in network.parameters())
    size = (folder / WEIGHTS).stat().st_size
    fitted_sets = int(read_held_out(folder).episode.max()) // EPISODES + 1 if (folder / HELD_OUT).exists() else None
    return ReadyStudent(name, folder, card, outputs, parameters, size, fitted_sets)


def check_comparable(cards: Mapping[Path, StudentCard], sets: Sequence[LabelledSet]) -> None:
    """Raise DataError, naming the two, unless all students take the frames and share the teacher of all data sets.

    `cards` are the students' by their folder.
    """
    for one in sets:
        pixels = one.manifest.task.render.frame_pixels
        for folder, card in cards.items():
            if card.pixels != pixels:
                raise DataError(
                    f"{folder} takes frames of {card.pixels} pixels, those in {one.place} have "
                    f"{pixels}: compare students and data sets of one size"
                )
            if card.teacher.digest != one.teacher.digest:
                raise DataError(
                    f"{folder} learned from {card.teacher.name} (digest "
                    f"{card.teacher.digest[:12]}) and {one.place} was labelled by {one.teacher.name} (digest "
                    f"{one.teacher.digest[:12]}): two teachers cannot be compared; label those frames with the first"
                )


def evaluate(
    students: Sequence[ReadyStudent],
    sets: Sequence[LabelledSet],
    prompts: PromptList | None = None,
    seed: int = 0,
    report: Report = silent,
) -> Evaluation:
    """Score, compare and time all students; `check_comparable` comes before.

    Args:
        students: the rows of the table.
        sets: its columns; all sentences of their tasks and of `prompts` are in their manifests.
        prompts: asked of the students with an embedding head.
        seed: draws the episodes of each interval.
        report: called with the rewards compared and to compare: one for each frame and prompt.

    Raises DataError where a data set has no frame that a student may be judged by.
    """
    cells = [(student, one) for one in sets for student in students]
    origin = {cell_of(*cell): origin_of(cell[0].card, cell[0].fitted_sets, cell[1], sets) for cell in cells}
    rows = {cell_of(*cell): rows_that_count(cell[1], origin[cell_of(*cell)]) for cell in cells}
    questions = prompts_of(prompts) if prompts is not None else []
    total = sum(len(rows[cell_of(*cell)]) * (1 + len(questions) * cell[0].takes_prompts) for cell in cells)
    done = 0
    agreement: dict[Cell, Agreement] = {}
    asked: dict[Cell, tuple[tuple[AskedPrompt, Agreement], ...]] = {}
    for student, one in cells:
        key = cell_of(student, one)

        def told(rewards: int, note: str = f"{student.name} on {one.manifest.task.name}") -> None:
            nonlocal done
            done += rewards
            report(done, total, note)

        beside = _Beside(student, one, rows[key], seed, told)
        agreement[key] = beside.agreement(one.manifest.task.prompts)
        if questions and student.takes_prompts:
            answers = []
            for each in questions:
                answers.append((each, beside.agreement(each.prompts)))
                told(len(rows[key]))
            asked[key] = tuple(answers)
    return Evaluation(tuple(students), tuple(sets), origin, agreement, asked, latency(students))


def cell_of(student: ReadyStudent, one: LabelledSet) -> Cell:
    """What a cell of the table is found by."""
    return student.name, one.place


def prompts_of(prompts: PromptList) -> list[AskedPrompt]:
    """Every candidate of a list at each of its alphas."""
    return [
        AskedPrompt(candidate.name, Prompts(candidate.goal, candidate.baseline, alpha))
        for candidate in prompts.candidates
        for alpha in prompts.alphas_of(candidate)
    ]


def latency(students: Sequence[ReadyStudent]) -> dict[str, tuple[float, ...]]:
    """Median milliseconds of a call of each student with each of BATCH_SIZES frames; the students take turns."""
    taken: list[dict[str, float]] = []
    for size in BATCH_SIZES:
        calls = {student.name: partial(student.outputs, _made_up(size, student.card.pixels)) for student in students}
        taken.append(interleaved_medians(calls, ROUNDS))
    return {student.name: tuple(of_size[student.name] for of_size in taken) for student in students}


class _Beside:
    """A student and its teacher on the same frames, for any prompt."""

    def __init__(
        self,
        student: ReadyStudent,
        one: LabelledSet,
        rows: NDArray[np.int64],
        seed: int,
        report: Callable[[int], None],
    ) -> None:
        self._set, self._seed = one, seed
        self._episode = np.asarray(one.decoded.episode)[rows]
        self._embeddings = np.asarray(one.decoded.embeddings[rows], np.float32)
        self._outputs = student.score(one.decoded.frames, rows, report)
        self._takes_prompts = student.takes_prompts

    def agreement(self, prompts: Prompts) -> Agreement:
        """On the reward that prompts make of the teacher's embeddings, and, of an embedding head, of the student's."""
        goal, baseline = (self._set.prompt_embeddings(each) for each in (prompts.goal, prompts.baseline))
        reward = partial(
            audited_rewards, goal=goal, baseline=baseline, alpha=prompts.alpha, dims=tuple(self._set.teacher.dims)
        )
        members = np.moveaxis(self._outputs, 1, 0)  # (K, N) or (K, N, D)
        student = _standardised(np.mean([reward(each) for each in members] if self._takes_prompts else members, axis=0))
        teacher = _standardised(reward(self._embeddings))
        return Agreement(
            fidelity=measure_fidelity(student, teacher, self._episode),
            pooled=spearman_interval(student, teacher, self._episode, np.random.default_rng(self._seed)),
            within=within_episode_interval(student, teacher, self._episode, np.random.default_rng(self._seed)),
            episodes=int(np.unique(self._episode).size),
        )


def _standardised(rewards: NDArray[Any]) -> NDArray[np.float64]:
    values = rewards.astype(np.float64)
    deviation = values.std()
    return np.asarray((values - values.mean()) / (deviation if deviation > 0 else 1.0), np.float64)


def _made_up(size: int, pixels: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (size, pixels, pixels, 3), dtype=np.uint8)
