"""Any number of students on any number of labelled data sets: their own, other seeds and policies, other tasks."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import permutations
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from datamodules.errors import DataError
from datamodules.labelled_set import LabelledSet
from datamodules.progress import Report, silent
from datamodules.splits import episodes_of
from datamodules.tasks import Prompts
from lightning_modules.fidelity import Fidelity, measure_fidelity
from lightning_modules.frame_network import FrameNetwork
from lightning_modules.held_out import HELD_OUT, read_held_out
from lightning_modules.onnx_export import student_onnx
from lightning_modules.reward_audit import audited_rewards
from lightning_modules.runtime_choice import open_fastest
from lightning_modules.runtimes import Runtime
from lightning_modules.student_files import StudentCard, load_student
from lightning_modules.student_scores import EPISODES
from sweeps.audit_settings import PromptList
from sweeps.benchmarks import interleaved_medians
from sweeps.statistics import Interval, spearman_interval, within_episode_interval

BATCH_SIZES = (1, 16)
"""frames in a call whose latency is measured: an environment by itself, and a vector of them"""
BATCH = 64
"""frames scored together"""
ROUNDS = 15
Origin = Literal["held out", "perhaps seen", "new frames", "other task"]
"""held out: its own data set, of which only the test episodes count; perhaps seen: a task that it learned, from data
sets that cannot be told, so again only the test episodes count; new frames: a task that it learned, other frames of it;
other task: a task that it never saw"""


@dataclass(frozen=True, eq=False)
class Contestant:
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
    data_sets: int | None
    """how many data sets it was fitted to; None: not known"""

    @property
    def takes_prompts(self) -> bool:
        """Whether it answers any sentence."""
        return self.card.head == "embedding"

    def score(self, frames: NDArray[np.uint8], report: Callable[[int], None]) -> NDArray[np.float32]:
        """Frames (N, P, P, 3) -> each member's reward (N, K) or embedding (N, K, D); `report` is told of each batch."""
        parts = []
        for start in range(0, len(frames), BATCH):
            batch = np.ascontiguousarray(frames[start : start + BATCH])
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

    contestants: tuple[Contestant, ...]
    sets: tuple[LabelledSet, ...]
    origin: Mapping[tuple[str, str], Origin]
    """by (student, place of the data set): which of its frames count"""
    agreement: Mapping[tuple[str, str], Agreement]
    """by (student, place), on the reward of the data set's own task prompts"""
    asked: Mapping[tuple[str, str], tuple[tuple[AskedPrompt, Agreement], ...]]
    """by (student with an embedding head, place), on every prompt of the list"""
    milliseconds: Mapping[str, tuple[float, ...]]
    """by student: median of a call with each of BATCH_SIZES frames, all students taking turns"""


def open_students(folders: Sequence[Path]) -> tuple[Contestant, ...]:
    """Load students, each in the fastest runtime here. Raises as `load_student` and `open_fastest`."""
    short = Counter(folder.resolve().name for folder in folders)
    return tuple(
        _open(folder, str(folder) if short[folder.resolve().name] > 1 else folder.resolve().name) for folder in folders
    )


def _open(folder: Path, name: str) -> Contestant:
    network, card = load_student(folder)
    with_frames = FrameNetwork(network, card.pixels)
    outputs = open_fastest(with_frames, cache(partial(student_onnx, folder, with_frames)))
    parameters = sum(weights.numel() for weights in network.parameters())
    size = (folder / "student.safetensors").stat().st_size
    data_sets = int(read_held_out(folder).episode.max()) // EPISODES + 1 if (folder / HELD_OUT).exists() else None
    return Contestant(name, folder, card, outputs, parameters, size, data_sets)


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
                    f"{folder} learned from {card.teacher.name} (weights "
                    f"{card.teacher.digest[:12]}) and {one.place} was labelled by {one.teacher.name} (weights "
                    f"{one.teacher.digest[:12]}): two teachers cannot be compared; label those frames with the first"
                )


def origin_of(student: Contestant, one: LabelledSet, sets: Sequence[LabelledSet]) -> Origin:
    """Which frames of a data set a student may be judged by.

    A card holds the digest of the data set that the student was fitted to; of several, the digest of their digests in
    order, which is looked for among all orders of the data sets at hand.
    """
    digest, mine = student.card.manifest_digest, one.manifest.digest
    if digest == mine:
        return "held out"
    if one.manifest.task.name not in {target.task for target in student.card.targets}:
        return "other task"
    if student.data_sets == 1:
        return "new frames"
    digests = [each.manifest.digest for each in sets]
    for count in [student.data_sets] if student.data_sets else range(2, len(digests) + 1):
        for chosen in permutations(digests, count):
            if hashlib.sha256("".join(chosen).encode()).hexdigest() == digest:
                return "held out" if mine in chosen else "new frames"
    return "perhaps seen"


def rows_that_count(one: LabelledSet, origin: Origin) -> NDArray[np.int64]:
    """Numbers of the data set's samples that a student of this origin is judged by. Raises DataError: there is none."""
    episode = np.asarray(one.decoded.episode)
    if origin in ("new frames", "other task"):
        return np.arange(len(episode))
    rows = np.flatnonzero(np.isin(episode, sorted(episodes_of(episode, "test"))))
    if len(rows) < 2:
        raise DataError(
            f"{one.place} has no test episode: only those count for a student that was fitted to the others"
        )
    return rows


def evaluate(
    contestants: Sequence[Contestant],
    sets: Sequence[LabelledSet],
    prompts: PromptList | None,
    generator: np.random.Generator,
    report: Report = silent,
) -> Evaluation:
    """Score, compare and time all students; `check_comparable` comes before.

    Args:
        contestants: the students.
        sets: the data sets; all sentences of their tasks and of `prompts` are in their manifests.
        prompts: asked of the students with an embedding head.
        generator: draws the episodes of the intervals.
        report: called with the frames scored and to score.
    """
    origin = {(student.name, one.place): origin_of(student, one, sets) for student in contestants for one in sets}
    rows = {key: rows_that_count(one, origin[key[0], one.place]) for one in sets for key in _keys(contestants, one)}
    total, done = sum(map(len, rows.values())), 0
    agreement: dict[tuple[str, str], Agreement] = {}
    asked: dict[tuple[str, str], tuple[tuple[AskedPrompt, Agreement], ...]] = {}
    for one in sets:
        for student in contestants:
            key, note = (student.name, one.place), f"{student.name} on {one.manifest.task.name}"

            def told(frames: int, note: str = note) -> None:
                nonlocal done
                done += frames
                report(done, total, note)

            beside = _Beside(student, one, rows[key], generator, told)
            agreement[key] = beside.agreement(one.manifest.task.prompts)
            if prompts is not None and student.takes_prompts:
                asked[key] = tuple((each, beside.agreement(each.prompts)) for each in prompts_of(prompts))
    return Evaluation(tuple(contestants), tuple(sets), origin, agreement, asked, latency(contestants))


def prompts_of(prompts: PromptList) -> list[AskedPrompt]:
    """Every candidate of a list at each of its alphas."""
    return [
        AskedPrompt(candidate.name, Prompts(candidate.goal, candidate.baseline, alpha))
        for candidate in prompts.candidates
        for alpha in prompts.alphas_of(candidate)
    ]


def latency(contestants: Sequence[Contestant]) -> dict[str, tuple[float, ...]]:
    """Median milliseconds of a call of each student with each of BATCH_SIZES frames; the students take turns."""
    taken: list[dict[str, float]] = []
    for size in BATCH_SIZES:
        calls = {student.name: partial(student.outputs, _made_up(size, student.card.pixels)) for student in contestants}
        taken.append(interleaved_medians(calls, ROUNDS))
    return {student.name: tuple(of_size[student.name] for of_size in taken) for student in contestants}


class _Beside:
    """A student and its teacher on the same frames, for any prompt."""

    def __init__(
        self,
        student: Contestant,
        one: LabelledSet,
        rows: NDArray[np.int64],
        generator: np.random.Generator,
        report: Callable[[int], None],
    ) -> None:
        self._set, self._generator = one, generator
        self._episode = np.asarray(one.decoded.episode)[rows]
        self._embeddings = np.asarray(one.decoded.embeddings[rows], np.float32)
        self._outputs = student.score(one.decoded.frames[rows], report)
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
            pooled=spearman_interval(student, teacher, self._episode, self._generator),
            within=within_episode_interval(student, teacher, self._episode, self._generator),
            episodes=int(np.unique(self._episode).size),
        )


def _standardised(rewards: NDArray[Any]) -> NDArray[np.float64]:
    values = rewards.astype(np.float64)
    deviation = values.std()
    return np.asarray((values - values.mean()) / (deviation if deviation > 0 else 1.0), np.float64)


def _keys(contestants: Sequence[Contestant], one: LabelledSet) -> list[tuple[str, str]]:
    return [(student.name, one.place) for student in contestants]


def _made_up(size: int, pixels: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (size, pixels, pixels, 3), dtype=np.uint8)
