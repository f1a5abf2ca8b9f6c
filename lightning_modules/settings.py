"""Settings of this room, free of torch so that any conf file loads anywhere."""

from dataclasses import dataclass
from typing import Literal

from datamodules.errors import SettingsError


@dataclass(frozen=True)
class TeacherSettings:
    """Which CLIP labels the frames."""

    model: str
    """an open_clip model name, as 'ViT-B-32', or the path of an open_clip model configuration (JSON)"""
    weights: str
    """an open_clip pretrained tag, as 'laion2b_s34b_b79k', or the path of a local checkpoint"""
    batch_size: int = 64
    """frames scored in one call (1 to 4096)"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """where the teacher runs; auto takes the GPU when there is one"""
    simulators: tuple[str, ...] = ()
    """the only simulators that it was trained on, as 'cartpole' or 'CartPole-v1'; empty: pictures of all kinds"""

    def __post_init__(self) -> None:
        if not 1 <= self.batch_size <= 4096:
            raise SettingsError(f"teacher.batch_size is {self.batch_size}: it must lie between 1 and 4096")


@dataclass(frozen=True)
class CaptionedClipSettings:
    """How the bundled teacher is trained."""

    steps: int = 2600
    """optimiser steps (at least 20)"""
    batch_size: int = 64
    """frames and sentences in one step (2 to 4096)"""
    learning_rate: float = 1.5e-3
    """peak of AdamW's one-cycle schedule (above 0)"""
    seed: int = 0
    """seed of weights and batches"""

    def __post_init__(self) -> None:
        if self.steps < 20:  # a tenth of them warms up
            raise SettingsError(f"training.steps is {self.steps}: it must be at least 20")
        if not 2 <= self.batch_size <= 4096:
            raise SettingsError(f"training.batch_size is {self.batch_size}: it must lie between 2 and 4096")
        if self.learning_rate <= 0:
            raise SettingsError(f"training.learning_rate is {self.learning_rate}: it must be above 0")
