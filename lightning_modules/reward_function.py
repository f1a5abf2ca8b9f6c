"""What rewards an agent: frames in, numbers out. Plain numpy at the boundary, so any agent code can use it.

reward = StudentReward.load(Path("runs/demo/student"))
reward(frames)  # uint8 (batch, height, width, 3) -> float32 (batch,)
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray

from datamodules.pixels import check_frames, to_model_input
from datamodules.tasks import Prompts
from lightning_modules.fused import fuse_batch_norm
from lightning_modules.rewards import EmbeddingReward, Standardisation
from lightning_modules.student_files import StudentCard, load_student
from lightning_modules.student_network import StudentNetwork

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
    """A fitted student, on the CPU. Uses as many threads as torch is set to."""

    def __init__(self, network: StudentNetwork, card: StudentCard) -> None:
        """Take a network in eval mode; `load` is the usual way."""
        self.card = card
        # channels-last convolutions are up to twice as fast on CPUs, and frames arrive in that order
        self._network = fuse_batch_norm(network).to(memory_format=torch.channels_last)

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Load a student folder. Raises DataError when it holds no student, or a damaged one."""
        return cls(*load_student(Path(folder)))

    def __call__(self, frames: Frames) -> Rewards:
        """Standardised reward of frames uint8 (B, P, P, 3): mean 0 and deviation 1 over the training frames."""
        check_frames(frames, self.card.pixels)
        with torch.inference_mode():
            rewards: Rewards = self._network(to_model_input(frames)).numpy()
        return rewards

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
