"""What rewards an agent: frames in, numbers out. Plain numpy at the boundary, so any agent code can use it.

reward = StudentReward.load(Path("runs/demo/student"))
reward(frames)  # uint8 (batch, height, width, 3) -> float32 (batch,)
"""

from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from datamodules.pixels import check_frames
from datamodules.tasks import Prompts
from lightning_modules.frame_network import FrameNetwork
from lightning_modules.onnx_export import student_onnx
from lightning_modules.rewards import EmbeddingReward, Standardisation
from lightning_modules.runtime_choice import open_fastest
from lightning_modules.runtimes import Runtime, RuntimeName, open_runtime
from lightning_modules.student_files import StudentCard, load_student

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

    def embed_frames(self, frames: Frames) -> NDArray[np.float32]:
        """Frames uint8 (N, H, W, 3) -> each CLIP's unit-norm embeddings, one after the other, (N, D)."""
        ...

    def embed_prompts(self, sentences: Sequence[str]) -> NDArray[np.float32]:
        """Sentences -> each CLIP's unit-norm embeddings, one after the other, (N, D)."""
        ...


class StudentReward:
    """A fitted student, with as many threads as torch is set to when it is loaded."""

    def __init__(self, score: Runtime, card: StudentCard) -> None:
        """Take a student that is ready to run; `load` is the usual way."""
        self._score, self.card = score, card

    @classmethod
    def load(cls, folder: Path | str, runtime: RuntimeName | Literal["auto"] = "auto") -> Self:
        """Load a student folder.

        Args:
            folder: what a fit has left behind.
            runtime: what runs the network. 'auto' is the fastest of those installed here, timed once and remembered
                (runtime_choice.py); 'torch' needs nothing else and gives the same numbers in all installations.

        Raises:
            DataError: the folder holds no student or a damaged one, or the runtime gives other numbers than torch.
            UnknownNameError, MissingDependencyError: there is no such runtime, or it is not installed.
        """
        folder = Path(folder)
        network, card = load_student(folder)
        with_frames = FrameNetwork(network, card.pixels)
        onnx = cache(partial(student_onnx, folder, with_frames))
        score = open_fastest(with_frames, onnx) if runtime == "auto" else open_runtime(runtime, with_frames, onnx)
        return cls(score, card)

    def __call__(self, frames: Frames) -> Rewards:
        """Standardised reward of frames uint8 (B, P, P, 3): mean 0 and deviation 1 over the training frames."""
        check_frames(frames, self.card.pixels)
        return self._score(frames)

    def raw(self, frames: Frames) -> Rewards:
        """The reward on the teacher's own scale (a cosine similarity where alpha is 0)."""
        scale = self.card.standardisation
        return np.asarray(self(frames) * np.float32(scale.std) + np.float32(scale.mean), np.float32)


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
