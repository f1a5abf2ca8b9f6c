"""Pictures become square frames with their proportions kept."""

import numpy as np
from numpy.testing import assert_array_equal

from rllib_envs.square_frame import square_frame


def test_wide_picture_is_padded_above_and_below() -> None:
    picture = np.full((2, 4, 3), 200, np.uint8)
    picture[0, 0] = (10, 20, 30)
    frame = square_frame(picture, 4)
    assert_array_equal(frame[1:3], picture)
    assert_array_equal(frame[[0, 3]], np.full((2, 4, 3), (10, 20, 30)))


def test_pixels_are_averaged() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    expected = picture.reshape(4, 2, 4, 2, 3).mean((1, 3))
    np.testing.assert_allclose(square_frame(picture, 4), expected, atol=1)
    assert square_frame(picture, 4).dtype == np.uint8


def test_frame_of_the_right_size_stays_and_can_be_written_to() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    frame = square_frame(picture, 4)
    assert_array_equal(frame, picture)
    frame[:] = 0
    assert picture.any()
