"""Any number of frames through programs that each take one batch size: fixed sizes are what graphs are fastest at."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

BATCH_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
"""so close that padding adds less than half as many frames as are given"""

Program = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


class FixedBatches:
    """Scores frames with a program of the next larger batch size, in pieces where there are more than the largest."""

    def __init__(self, make_program: Callable[[int], Program]) -> None:
        """`make_program(batch_size)` is called when that size is first needed."""
        self._make_program = make_program
        self._programs: dict[int, Program] = {}

    def __call__(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Frames uint8 (B, P, P, 3) -> float32 (B,) or (B, D)."""
        largest = BATCH_SIZES[-1]
        starts = range(0, max(len(frames), 1), largest)  # no frames at all still have a shape to return
        pieces = [self._score(frames[start : start + largest]) for start in starts]
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def _score(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        size = next(size for size in BATCH_SIZES if size >= len(frames))
        if size not in self._programs:
            self._programs[size] = self._make_program(size)
        padded = frames
        if len(frames) < size:
            padded = np.zeros((size, *frames.shape[1:]), np.uint8)
            padded[: len(frames)] = frames
        return self._programs[size](padded)[: len(frames)]
