"""Fixed batch sizes: every frame gets its own answer, and few sizes are ever made."""

import numpy as np
import pytest
from numpy.typing import NDArray

from lightning_modules.batch_sizes import BATCH_SIZES, FixedBatches, Program


class FirstPixel:
    """Answers with each frame's first pixel, and remembers which sizes were made and run."""

    def __init__(self) -> None:
        self.made: list[int] = []
        self.run: list[int] = []

    def __call__(self, batch_size: int) -> Program:
        self.made.append(batch_size)

        def program(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
            assert frames.shape == (batch_size, 2, 2, 3)
            self.run.append(batch_size)
            return frames[:, 0, 0, 0].astype(np.float32)

        return program


def numbered(count: int) -> NDArray[np.uint8]:
    frames = np.full((count, 2, 2, 3), 255, np.uint8)
    frames[:, 0, 0, 0] = np.arange(count)
    return frames


@pytest.mark.parametrize(
    ("count", "sizes"),
    [(0, [1]), (1, [1]), (5, [6]), (16, [16]), (17, [24]), (64, [64]), (65, [64, 1]), (150, [64, 64, 24])],
)
def test_every_frame_is_scored_once_and_in_order(count: int, sizes: list[int]) -> None:
    programs = FirstPixel()
    np.testing.assert_array_equal(FixedBatches(programs)(numbered(count)), np.arange(count))
    assert programs.run == sizes


def test_a_program_is_made_once() -> None:
    programs = FirstPixel()
    score = FixedBatches(programs)
    for count in (7, 8, 7, 70):
        score(numbered(count))
    assert programs.made == [8, 64, 6]


def test_padding_stays_within_the_stated_bound() -> None:
    for count in range(1, BATCH_SIZES[-1] + 1):
        size = next(size for size in BATCH_SIZES if size >= count)
        assert size - count < count / 2


def test_wide_answers_keep_their_width() -> None:
    def make_program(batch_size: int) -> Program:
        return lambda frames: np.zeros((batch_size, 7), np.float32)

    assert FixedBatches(make_program)(numbered(0)).shape == (0, 7)
    assert FixedBatches(make_program)(numbered(70)).shape == (70, 7)
