"""Losses against values by hand."""

import pytest
import torch

from lightning_modules.losses import LOSSES

STUDENT, TEACHER = torch.tensor([0.0, 0.5, 3.0]), torch.tensor([0.0, 0.0, 0.0])


def test_mse_is_the_mean_of_squares() -> None:
    assert LOSSES["mse"](STUDENT, TEACHER).item() == pytest.approx((0 + 0.25 + 9) / 3)


def test_huber_is_quadratic_within_one_deviation_and_linear_beyond() -> None:
    assert LOSSES["huber"](STUDENT, TEACHER).item() == pytest.approx((0 + 0.5 * 0.25 + (3 - 0.5)) / 3)
