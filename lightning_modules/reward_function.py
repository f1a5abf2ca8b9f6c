"""What rewards an agent: frames in, numbers out. Plain numpy at the boundary, so any agent code can use it.

reward = StudentReward.load(Path("runs/demo/student"))
reward(frames)  # uint8 (batch, height, width, 3) -> float32 (batch,)
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from datamodules.errors import DataError, SettingsError
from datamodules.pixels import check_frames
from datamodules.tasks import Prompts
from lightning_modules.frame_network import FrameNetwork
from lightning_modules.onnx_export import student_onnx
from lightning_modules.rewards import EmbeddingReward, Standardisation
from lightning_modules.runtime_choice import open_fastest
from lightning_modules.runtimes import Runtime, RuntimeName, open_runtime
from lightning_modules.student_embeddings import StudentEmbeddings
from lightning_modules.student_files import StudentCard, StudentTarget, load_student

Frames = NDArray[np.uint8]
Rewards = NDArray[np.float32]


class RewardFunction(Protocol):
    """All that an environment knows of its reward."""

    def __call__(self, frames: Frames) -> Rewards:
        """Score frames uint8 (B, H, W, 3), 0 to 255 -> float32 (B,). Raises DataError for another shape or dtype."""
        ...


class Teacher(Protocol):
    """What a reward needs of a teacher (`lightning_modules.teacher.ClipTeacher` is one)."""

    @property
    def dims(self) -> tuple[int, ...]:
        """Length of each CLIP's embedding; D is their sum."""
        ...

    @property
    def digest(self) -> str:
        """Which teacher it is, as `ClipTeacher.digest` says it."""
        ...

    def embed_frames(self, frames: Frames) -> NDArray[np.float32]:
        """Frames uint8 (N, H, W, 3) -> each CLIP's unit-norm embeddings, one after the other, (N, D)."""
        ...

    def embed_prompts(self, sentences: Sequence[str]) -> NDArray[np.float32]:
        """Sentences -> each CLIP's unit-norm embeddings, one after the other, (N, D)."""
        ...


class StudentReward:
    """A fitted student, with as many threads as torch is set to when it is loaded."""

    def __init__(
        self,
        outputs: Runtime,
        card: StudentCard,
        target: StudentTarget,
        reward: EmbeddingReward,
        spread_penalty: float = 0.0,
    ) -> None:
        """Take a student that is ready to run; `load` is the usual way.

        Args:
            outputs: its network.
            card: what it is.
            target: the task whose frames are to be scored.
            reward: of an embedding head: what makes rewards of embeddings; of a reward head only its scales count.
            spread_penalty: how much of the members' spread is taken off their mean (at least 0).
        """
        self._outputs, self._reward, self.card, self.target = outputs, reward, card, target
        self._spread_penalty = np.float32(spread_penalty)

    @classmethod
    def load(
        cls,
        folder: Path | str,
        runtime: RuntimeName | Literal["auto"] = "auto",
        *,
        task: str | None = None,
        prompts: Prompts | None = None,
        teacher: Teacher | None = None,
        spread_penalty: float = 0.0,
    ) -> Self:
        """Load a student folder.

        Args:
            folder: what a fit has left behind.
            runtime: what runs the network. 'auto' is the fastest of those installed here, timed once and remembered
                (runtime_choice.py); 'torch' needs nothing else and gives the same numbers in all installations.
            task: whose frames it is to score; needed where it was fitted to several.
            prompts: the reward, where the student has an embedding head: any goal, baseline and alpha, standardised on
                the training frames. Those of the fit unless given.
            teacher: embeds sentences that the student does not know yet; they are kept in its folder.
            spread_penalty: of an ensemble: the reward is the members' mean less this times their spread (at least 0),
                so that an agent gains nothing where they disagree. Coste et al. 2024 (arXiv 2310.02743),
                uncertainty-weighted optimisation, which penalises the members' variance instead.

        Raises:
            DataError: the folder holds no student or a damaged one, the runtime gives other numbers than torch, a
                sentence is not known and there is no teacher, or that is not the one that the student learned from.
            SettingsError: prompts are asked for that a reward head was not fitted to, a task must be named, or the
                spread of a single student is to be penalised.
            UnknownNameError, MissingDependencyError: there is no such runtime or task, or it is not installed.
        """
        folder = Path(folder)
        network, card = load_student(folder)
        check_spread_penalty(spread_penalty, card.members, folder)
        target = card.target_of(task)
        reward = reward_of_student(folder, card, target, prompts or target.prompts, teacher)
        with_frames = FrameNetwork(network, card.pixels)
        onnx = cache(partial(student_onnx, folder, with_frames))
        outputs = open_fastest(with_frames, onnx) if runtime == "auto" else open_runtime(runtime, with_frames, onnx)
        return cls(outputs, card, target, reward, spread_penalty)

    def __call__(self, frames: Frames) -> Rewards:
        """Standardised reward of frames uint8 (B, P, P, 3): mean 0 and deviation 1 over the training frames.

        Of an ensemble the mean of its members, less `spread_penalty` times their standard deviation.
        """
        if self.card.members == 1:
            return self.members(frames)[:, 0]
        mean, spread = self.mean_and_spread(frames)
        return mean - self._spread_penalty * spread if self._spread_penalty else mean

    def members(self, frames: Frames) -> Rewards:
        """Standardised reward of frames uint8 (B, P, P, 3) by each of the ensemble's K members, float32 (B, K)."""
        check_frames(frames, self.card.pixels)
        outputs = self._outputs(frames)
        if self.card.head == "reward":
            return outputs
        return self._reward.standardised(outputs.reshape(-1, outputs.shape[2])).reshape(outputs.shape[:2])

    def mean_and_spread(self, frames: Frames) -> tuple[Rewards, Rewards]:
        """The mean over the members for frames uint8 (B, P, P, 3), and their standard deviation, float32 (B,) each.

        The spread says where the members disagree, which is where they had little to learn from; 0 of a single one.
        """
        members = self.members(frames)
        return members.mean(axis=1), members.std(axis=1)

    def raw(self, frames: Frames) -> Rewards:
        """The reward on the teacher's own scale (a cosine similarity where alpha is 0)."""
        scale = self._reward.standardisation
        return np.asarray(self(frames) * np.float32(scale.std) + np.float32(scale.mean), np.float32)


def check_spread_penalty(penalty: float, members: int, student: Path) -> None:
    """Raise SettingsError for a penalty that is negative or not finite, or where a student has no spread."""
    if not 0.0 <= penalty < float("inf"):
        raise SettingsError(f"spread_penalty is {penalty}: it must be at least 0 and finite")
    if penalty and members < 2:
        raise SettingsError(
            f"spread_penalty is {penalty} but the student of {student} is a single one, which has no spread: set it to "
            "0, or fit an ensemble (--model.members 4)"
        )


def reward_of_student(
    folder: Path, card: StudentCard, target: StudentTarget, prompts: Prompts, teacher: Teacher | None = None
) -> EmbeddingReward:
    """What prompts make of the embeddings of a student; of a reward head it has no embeddings, and only its scales.

    Raises as `StudentReward.load` does for prompts.
    """
    if card.head == "reward":
        if prompts != target.prompts:
            raise SettingsError(
                f"the student in {folder} was fitted to the reward of {_in_words(target.prompts)} and has no other: "
                f"{_in_words(prompts)} needs a fit of its own (--model.goal, --model.baseline, --model.alpha), or a "
                "student with an embedding head (--model.head embedding), which takes any prompt"
            )
        nothing = np.zeros((0, sum(card.teacher.dims)), np.float32)
        return EmbeddingReward(nothing, nothing, prompts.alpha, card.teacher.dims, target.scales)
    embeddings = StudentEmbeddings.read(folder, card.tasks, card.teacher.dim)
    sentences = (*prompts.goal, *prompts.baseline)
    if teacher is not None and embeddings.missing(sentences):
        if teacher.digest != card.teacher.digest:
            raise DataError(
                f"the student in {folder} learned from {card.teacher.name} (digest {card.teacher.digest[:12]}), "
                f"not from the teacher given (digest {teacher.digest[:12]}): their embeddings cannot be compared"
            )
        embeddings = embeddings.with_sentences(sentences, teacher.embed_prompts)
        embeddings.write(folder)
    reward = embeddings.reward(prompts, target.task, card.teacher.dims)
    return replace(reward, scales=target.scales) if prompts == target.prompts else reward


def _in_words(prompts: Prompts) -> str:
    against = f" against {', '.join(map(repr, prompts.baseline))}" if prompts.baseline else ""
    return f"{', '.join(map(repr, prompts.goal))}{against} with alpha {prompts.alpha:g}"


class TeacherReward:
    """The teacher itself as the reward: slow, and counted in teacher queries."""

    def __init__(self, teacher: Teacher, prompts: Prompts, scales: Sequence[Standardisation] = ()) -> None:
        """Embed the prompts once; `scales` has one entry for each CLIP, as `scales_on` finds them.

        Without them the reward of one CLIP stays on its own scale, and that of several cannot be had.
        """
        goal = teacher.embed_prompts(prompts.goal)
        baseline = teacher.embed_prompts(prompts.baseline) if prompts.baseline else goal[:0]
        self._teacher = teacher
        self._reward = EmbeddingReward(goal, baseline, prompts.alpha, tuple(teacher.dims), tuple(scales))

    def __call__(self, frames: Frames) -> Rewards:
        """Score frames uint8 (B, H, W, 3) -> float32 (B,)."""
        check_frames(frames)
        embeddings = self._teacher.embed_frames(frames)
        return self._reward.standardised(embeddings) if self._reward.scales else self._reward.raw(embeddings)

    def scales_on(self, frames: Frames) -> tuple[Standardisation, ...]:
        """The scales with which the reward of these frames has mean 0 and deviation 1."""
        return self._reward.frozen_to(self._teacher.embed_frames(frames)).scales


class RandomReward:
    """Noise with the student's scale (mean 0, deviation 1): what an agent learns from a reward that says nothing."""

    def __init__(self, seed: int) -> None:
        """Start the sequence of this seed."""
        self._generator = np.random.default_rng(seed)

    def __call__(self, frames: Frames) -> Rewards:
        """Draw one standard normal number for each of the frames uint8 (B, H, W, 3)."""
        check_frames(frames)
        return self._generator.standard_normal(len(frames), dtype=np.float32)
