"""Settings of this room, free of torch so that any conf file loads anywhere."""

from dataclasses import dataclass
from typing import Literal

from datamodules.errors import SettingsError


@dataclass(frozen=True)
class TeacherSettings:
    """Which CLIP labels the frames; with lists of models and weights it is several CLIPs as one teacher."""

    model: str | tuple[str, ...]
    """an open_clip model name, as 'ViT-B-32', or the path of an open_clip model configuration (JSON)"""
    weights: str | tuple[str, ...]
    """an open_clip pretrained tag, as 'laion2b_s34b_b79k', or the path of a local checkpoint: a file, or a folder as
    model hubs have it (open_clip_config.json, weights, the tokenizer's files)"""
    batch_size: int = 64
    """frames scored in one call (1 to 4096); halved once by itself where memory runs out"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """where the teacher runs; auto takes the GPU when there is one"""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """number format it runs in; auto is float32 on CPUs, bfloat16 on GPUs that have it, float16 on others. bfloat16
    is worth a try on CPUs with AVX512-BF16 or AMX; float16 is refused on CPUs"""
    simulators: tuple[str, ...] = ()
    """the only simulators that it was trained on, as 'cartpole' or 'CartPole-v1'; empty: pictures of all kinds"""

    def __post_init__(self) -> None:
        if not 1 <= self.batch_size <= 4096:
            raise SettingsError(f"teacher.batch_size is {self.batch_size}: it must lie between 1 and 4096")
        models, weights = _listed(self.model), _listed(self.weights)
        if len(models) != len(weights) or not models:
            raise SettingsError(
                f"teacher.model names {len(models)} CLIPs and teacher.weights {len(weights)}: give one of each, or two "
                "lists of the same length"
            )
        clips = list(zip(models, weights, strict=True))
        if len(set(clips)) < len(clips):
            raise SettingsError(f"teacher.model and teacher.weights name a CLIP twice ({clips}): name each once")

    @property
    def clips(self) -> tuple[tuple[str, str], ...]:
        """Model and weights of each CLIP."""
        return tuple(zip(_listed(self.model), _listed(self.weights), strict=True))


def _listed(names: str | tuple[str, ...]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


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
