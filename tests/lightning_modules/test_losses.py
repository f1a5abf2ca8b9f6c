"""Losses against values by hand."""

import math

import pytest
import torch

from lightning_modules.losses import LOSSES, ranking

STUDENT, TEACHER = torch.tensor([0.0, 0.5, 3.0]), torch.tensor([0.0, 0.0, 0.0])


def test_mse_is_the_mean_of_squares() -> None:
    assert LOSSES["mse"](STUDENT, TEACHER).item() == pytest.approx((0 + 0.25 + 9) / 3)


def test_huber_is_quadratic_within_one_deviation_and_linear_beyond() -> None:
    assert LOSSES["huber"](STUDENT, TEACHER).item() == pytest.approx((0 + 0.5 * 0.25 + (3 - 0.5)) / 3)


def test_ranking_is_the_mean_logistic_loss_of_the_teacher_s_pairs() -> None:
    student, teacher = torch.tensor([0.0, 1.0, -2.0]), torch.tensor([1.0, 2.0, 2.0])
    # pairs in the teacher's order: second over first by 1, third over first by -2
    by_hand = (math.log1p(math.exp(-1.0)) + math.log1p(math.exp(2.0))) / 2
    assert ranking(student, teacher).item() == pytest.approx(by_hand)


def test_ranking_without_an_order_to_learn_is_zero() -> None:
    assert ranking(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 3.0])).item() == 0.0
