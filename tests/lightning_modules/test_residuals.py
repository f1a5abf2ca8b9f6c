"""Residuals by quantile and by time, by hand."""

import numpy as np
import pytest

from lightning_modules.residuals import Residuals, residuals_by_quantile, residuals_by_time


def test_groups_by_teacher_reward_hold_equally_many_frames() -> None:
    teacher = np.array([3.0, 0.0, 2.0, 1.0, 4.0])
    student = np.array([2.0, 1.0, 2.0, 1.5, 1.0])
    low, high = residuals_by_quantile(student, teacher, parts=2)
    # teacher 0, 1, 2 with residuals 1, .5, 0; teacher 3, 4 with residuals -1, -3
    assert low == Residuals(low=0.0, high=2.0, bias=0.5, mae=0.5, frames=3)
    assert high == Residuals(low=3.0, high=4.0, bias=-2.0, mae=2.0, frames=2)


def test_a_student_that_plays_safe_is_above_at_the_bottom_and_below_at_the_top() -> None:
    teacher = np.random.default_rng(0).normal(size=1000)
    found = residuals_by_quantile(0.5 * teacher, teacher)
    assert [each.frames for each in found] == [100] * 10
    assert found[0].bias == pytest.approx(-0.5 * np.sort(teacher)[:100].mean())
    assert found[0].bias > 0 > found[-1].bias


def test_few_frames_are_a_group_each() -> None:
    assert [each.frames for each in residuals_by_quantile(np.zeros(3), np.arange(3.0))] == [1, 1, 1]


def test_time_is_cut_into_equally_long_parts_of_the_episode() -> None:
    step = np.array([0, 1, 2, 3, 0, 1, 2, 3])
    teacher = np.zeros(8)
    student = np.array([1.0, 2.0, 3.0, 4.0, -1.0, 2.0, -3.0, 0.0])
    first, second = residuals_by_time(student, teacher, step, parts=2)
    assert first == Residuals(low=0.0, high=1.0, bias=1.0, mae=1.5, frames=4)
    assert second == Residuals(low=2.0, high=3.0, bias=1.0, mae=2.5, frames=4)


def test_parts_of_the_time_without_a_frame_are_left_out() -> None:
    found = residuals_by_time(np.ones(3), np.zeros(3), np.array([0, 0, 99]))
    assert [(each.low, each.frames) for each in found] == [(0.0, 2), (99.0, 1)]
