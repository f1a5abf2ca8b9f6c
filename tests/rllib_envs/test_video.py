"""Videos that players can open, with curves that say what they should."""

from pathlib import Path

import imageio.v2 as imageio
import numpy as np
import pytest
from numpy.typing import NDArray

from rllib_envs.video import SIDE, STUDENT, TEACHER, TRUE, Chart, Curve, beside_charts, write_episode

FRAME = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
TIME = np.arange(50.0)


def places_of(picture: NDArray[np.uint8], colour: tuple[int, int, int]) -> tuple[NDArray[np.int64], ...]:
    """Rows and columns, in the panel, of the pixels of exactly this colour."""
    return np.nonzero((picture[:, SIDE:] == colour).all(-1))


def charts() -> list[Chart]:
    return [
        Chart("true reward, a frame", [Curve("true", TRUE, np.sin(TIME))]),
        Chart(
            "learned reward",
            [Curve("student", STUDENT, TIME), Curve("teacher", TEACHER, TIME + 20)],
        ),
    ]


def test_curves_grow_with_the_steps_and_leave_the_frame_alone() -> None:
    inked = []
    for step in (0, 10, 49):
        picture = beside_charts(FRAME, charts(), step)
        assert picture.shape == (SIDE, 2 * SIDE, 3)
        assert (picture[:, :SIDE] == FRAME).all()
        inked.append(places_of(picture, TRUE)[0].size)
    assert 0 < inked[0] < inked[1] < inked[2]


def test_charts_lie_one_below_the_other_and_curves_of_one_chart_share_a_scale() -> None:
    picture = beside_charts(FRAME, charts(), 49)
    assert places_of(picture, TRUE)[0].max() < SIDE // 2
    assert places_of(picture, STUDENT)[0].min() >= SIDE // 2

    def last_height(colour: tuple[int, int, int]) -> float:
        rows, columns = places_of(picture, colour)
        return float(np.mean(rows[columns >= SIDE - 12]))

    assert last_height(TEACHER) < last_height(STUDENT)  # rows count from the top, and the teacher says more


def test_the_word_beside_a_curve_is_its_present_value() -> None:
    """Two charts that differ in the present value alone differ in the words, above the curves."""
    one, other = (
        beside_charts(FRAME, [Chart("reward", [Curve("true", TRUE, np.array([0.0, value, 1.0]))])], 1)
        for value in (0.001, 0.011)
    )
    assert (one[:42] != other[:42]).any()
    same = beside_charts(FRAME, [Chart("reward", [Curve("true", TRUE, np.array([0.0, -0.001, 1.0]))])], 1)
    assert (one[:42] == same[:42]).all()  # 0.00, never -0.00


@pytest.mark.parametrize("values", [[1.0], [1.0, 1.0]])
def test_a_constant_reward_and_a_single_step_can_be_drawn(values: list[float]) -> None:
    picture = beside_charts(FRAME, [Chart("reward", [Curve("true", TRUE, np.array(values))])], len(values) - 1)
    assert picture.shape == (SIDE, 2 * SIDE, 3)


def test_an_episode_has_one_frame_a_decision_and_lasts_about_ten_seconds(tmp_path: Path) -> None:
    write_episode(tmp_path / "sub" / "a.mp4", [FRAME] * 50, charts())
    with imageio.get_reader(tmp_path / "sub" / "a.mp4") as reader:
        assert reader.count_frames() == 50
        assert reader.get_meta_data()["size"] == (2 * SIDE, SIDE)
        assert reader.get_meta_data()["codec"] == "h264"
        assert reader.get_meta_data()["fps"] == 10
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["a.mp4"]
