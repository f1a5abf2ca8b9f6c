"""Two families of pictures whose grade is a brightness: what training must learn is visible in one pixel."""

import numpy as np

from lightning_modules.caption_batches import CaptionedFrames
from lightning_modules.sentences import Caption, Sentences

SENTENCES = Sentences(
    (
        Caption("a bright square", "square", 1.0),
        Caption("a white square", "square", 1.0),
        Caption("a grey square", "square", 0.5),
        Caption("a black square", "square", 0.0),
        Caption("a square", "square", None),
        Caption("a red disc", "disc", 1.0),
        Caption("a dark disc", "disc", 0.0),
        Caption("a disc", "disc", None),
    ),
    openers=("", "a picture of "),
)


def bright_frames(family: str, channels: tuple[int, ...], count: int, seed: int) -> CaptionedFrames:
    """Noisy frames, uint8 (count, 32, 32, 3), whose grade is the brightness of some channels."""
    generator = np.random.default_rng(seed)
    grades = generator.random(count).astype(np.float32)
    frames = generator.integers(0, 30, size=(count, 32, 32, 3), dtype=np.uint8)
    for channel in channels:
        frames[..., channel] += (grades[:, None, None] * 220).astype(np.uint8)
    return CaptionedFrames(family, family, frames, grades, grades, grades[:, None])


def squares(count: int, seed: int) -> CaptionedFrames:
    """Frames that are black to white."""
    return bright_frames("square", (0, 1, 2), count, seed)


def discs(count: int, seed: int) -> CaptionedFrames:
    """Frames that are black to red."""
    return bright_frames("disc", (0,), count, seed)
