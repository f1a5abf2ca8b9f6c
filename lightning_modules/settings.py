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

    def __post_init__(self) -> None:
        if not 1 <= self.batch_size <= 4096:
            raise SettingsError(f"teacher.batch_size is {self.batch_size}: it must lie between 1 and 4096")
