"""A few gradient steps on a fitted student: new labels beside replayed old ones, so that nothing is forgotten.

Plain torch: a refinement takes a hundred steps in the middle of a training, and a trainer would cost more than they do.
"""

import copy
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datamodules.pixels import as_tensor, random_shift, to_model_input
from lightning_modules.losses import LOSSES
from lightning_modules.rewards import EmbeddingReward
from lightning_modules.student_files import StudentCard
from lightning_modules.student_network import StudentNetwork

Frames = NDArray[np.uint8]
Values = NDArray[np.float32]

BATCH_HALF = 16
"""new frames in a batch, and as many old ones"""
SHIFT_PIXELS = 2
"""by which frames are moved at random, as conf/student/quick.yaml has it, or a few dozen are learned by heart: with 48
new labels of cart-pole's swing-up, 60 steps took the squared error on other visited frames from .30 to .23 without
shifts, and to .09 with them"""
FRAMES_AT_ONCE = 128


@dataclass(frozen=True, eq=False)
class Labelled:
    """N frames that the teacher has scored."""

    frames: Frames
    """(N, P, P, 3)"""
    embeddings: NDArray[np.float16]
    """(N, D) the teacher's"""

    def __len__(self) -> int:
        return len(self.frames)

    def at(self, rows: NDArray[np.int64]) -> "Labelled":
        """The frames of these rows, in memory."""
        return Labelled(self.frames[rows], self.embeddings[rows])

    @classmethod
    def together(cls, *parts: "Labelled") -> "Labelled":
        """All frames of the parts."""
        return cls(np.concatenate([part.frames for part in parts]), np.concatenate([part.embeddings for part in parts]))


@dataclass(frozen=True, eq=False)
class Seen:
    """What a student makes of N frames; rewards standardised."""

    members: Values
    """(N, K) the reward by each member of the ensemble"""
    features: Values
    """(N, F) of all its backbones, one after the other"""

    @property
    def reward(self) -> Values:
        """(N,) mean over the members."""
        return np.asarray(self.members.mean(axis=1), np.float32)

    @property
    def spread(self) -> Values:
        """(N,) standard deviation over the members."""
        return np.asarray(self.members.std(axis=1), np.float32)


class TunableStudent:
    """A student's network with what makes rewards of its teacher's embeddings, on the student's own scale."""

    def __init__(self, network: StudentNetwork, card: StudentCard, reward: EmbeddingReward) -> None:
        """Take a student; `reward` has its scales and the embeddings of its sentences."""
        self.network = network.to(memory_format=torch.channels_last)  # up to twice as fast on CPUs
        self.card, self.reward = card, reward

    def see(self, frames: Frames) -> Seen:
        """Rewards and features of frames uint8 (N, P, P, 3)."""
        starts = range(0, max(1, len(frames)), FRAMES_AT_ONCE)
        with torch.inference_mode():
            parts = [self._see(frames[start : start + FRAMES_AT_ONCE]) for start in starts]
        return Seen(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def teacher_reward(self, embeddings: NDArray[np.float16]) -> Values:
        """The teacher's reward (N,) of embeddings (N, D), on the student's scale."""
        return self.reward.standardised(embeddings)

    def errors(self, labelled: Labelled) -> NDArray[np.float64]:
        """Student less teacher (N,), in standard deviations of the reward."""
        student = self.see(labelled.frames).reward.astype(np.float64)
        return student - self.teacher_reward(labelled.embeddings)

    def squared_error(self, labelled: Labelled) -> float:
        """Mean squared difference of student and teacher, in units of the reward's variance."""
        return float(np.square(self.errors(labelled)).mean())

    def fine_tuned(
        self, new: Labelled, old: Labelled, *, steps: int, learning_rate: float, generator: np.random.Generator
    ) -> "TunableStudent":
        """A copy after some steps of Adam, each on as many new frames as old ones, drawn with replacement and shifted.

        The learning rate falls to 0 in a line. Batch normalisation keeps its statistics: those of a few dozen frames of
        one policy would shift the student's answers to all others.
        """
        network = copy.deepcopy(self.network).eval()
        network.requires_grad_(True)
        optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
        loss = next(iter(LOSSES[self.card.head].values()))
        shifts = torch.Generator().manual_seed(int(generator.integers(2**63)))
        for _ in range(steps):
            batch = Labelled.together(*(_drawn(part, generator) for part in (new, old)))
            frames = random_shift(as_tensor(batch.frames), SHIFT_PIXELS, shifts)
            outputs = network(to_model_input(frames))
            optimizer.zero_grad()
            loss(outputs, self._answers(batch).unsqueeze(1)).mean().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        network.requires_grad_(False)
        return TunableStudent(network, self.card, self.reward)

    def _answers(self, batch: Labelled) -> Tensor:
        """What the head should say: each frame's reward (B,), or its embedding (B, D)."""
        if self.card.head == "embedding":
            return torch.from_numpy(batch.embeddings.astype(np.float32))
        return torch.from_numpy(self.teacher_reward(batch.embeddings))

    def _see(self, frames: Frames) -> tuple[Values, Values]:
        features = self.network.features(to_model_input(frames))
        members = self.network.judge(features).numpy()
        if self.card.head == "embedding":
            members = self.reward.standardised(members.reshape(-1, members.shape[2])).reshape(members.shape[:2])
        return members, torch.cat(features, dim=1).numpy()


def _drawn(labelled: Labelled, generator: np.random.Generator) -> Labelled:
    return labelled.at(generator.integers(0, len(labelled), BATCH_HALF))
