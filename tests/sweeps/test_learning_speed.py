"""Areas and first times that can be worked out by hand."""

import pytest

from datamodules.errors import DataError
from sweeps.learning_speed import area_under_curve, first_reached, steps_to_threshold


def test_area_is_the_mean_height() -> None:
    assert area_under_curve([0, 10, 30], [5.0, 5.0, 5.0]) == 5.0
    # by hand: 10 * (0 + 1) / 2 + 30 * (1 + 2) / 2 = 50, over 40 steps
    assert area_under_curve([0, 10, 40], [0.0, 1.0, 2.0]) == pytest.approx(50 / 40)


def test_of_two_curves_that_end_alike_the_earlier_one_has_more_area() -> None:
    early, late = area_under_curve([0, 10, 20], [0, 9, 10]), area_under_curve([0, 10, 20], [0, 1, 10])
    assert early > late


@pytest.mark.parametrize("steps", [[5, 10], [0], [0, 10, 10]])
def test_an_area_needs_a_curve_from_step_zero_on(steps: list[int]) -> None:
    with pytest.raises(DataError, match="steps"):
        area_under_curve(steps, [1.0] * len(steps))


def test_the_first_evaluation_at_or_above_the_threshold_counts() -> None:
    steps, scores = [0, 10, 20, 30], [0.0, 0.5, 0.2, 0.9]
    assert first_reached(steps, scores, 0.5) == 10
    assert first_reached(steps, scores, 0.6) == 30
    assert first_reached(steps, scores, 0.0) == 0
    assert first_reached(steps, scores, 0.95) is None


def test_scores_that_are_not_finite_or_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match="not finite"):
        first_reached([0, 1], [0.0, float("nan")], 1.0)
    with pytest.raises(DataError, match="one score for each evaluation"):
        first_reached([0, 1], [0.0], 1.0)


def test_runs_that_never_got_there_are_the_slowest() -> None:
    found = steps_to_threshold([300, None, 100, 200, None])
    assert (found.median, found.reached, found.runs) == (300, 3, 5)
    assert found.censored == pytest.approx(0.4)


def test_the_median_is_not_known_where_half_of_the_runs_never_got_there() -> None:
    assert steps_to_threshold([100, 200, None, None]).median is None
    assert steps_to_threshold([None]).median is None
    assert steps_to_threshold([100, 200, None, 150]).median == 175
    with pytest.raises(DataError, match="no runs"):
        steps_to_threshold([])
