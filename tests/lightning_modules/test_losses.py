"""Losses of each frame against values by hand."""

import math

import pytest
import torch

from lightning_modules.losses import LOSSES, LossName, ranking

STUDENT, TEACHER = torch.tensor([0.0, 0.5, 3.0]), torch.tensor([0.0, 0.0, 0.0])


def test_mse_is_the_square_of_each_difference() -> None:
    assert LOSSES["reward"]["mse"](STUDENT, TEACHER).tolist() == pytest.approx([0, 0.25, 9])


def test_huber_is_quadratic_within_one_deviation_and_linear_beyond() -> None:
    assert LOSSES["reward"]["huber"](STUDENT, TEACHER).tolist() == pytest.approx([0, 0.5 * 0.25, 3 - 0.5])


@pytest.mark.parametrize("name", ["mse", "huber"])
def test_members_of_an_ensemble_are_compared_with_the_one_teacher(name: LossName) -> None:
    loss = LOSSES["reward"][name]
    members = torch.stack([STUDENT, -STUDENT, STUDENT + 1], dim=1)
    expected = [loss(member, STUDENT).tolist() for member in members.unbind(dim=1)]
    assert loss(members, STUDENT[:, None]).T.tolist() == expected


def test_cosine_is_one_less_the_cosine_of_the_angle() -> None:
    degrees = torch.tensor([0.0, 60.0, 90.0, 180.0])
    student = torch.stack([torch.cos(torch.deg2rad(degrees)), torch.sin(torch.deg2rad(degrees))], dim=1)
    assert LOSSES["embedding"]["cosine"](student, torch.tensor([1.0, 0.0])).tolist() == pytest.approx(
        [0, 0.5, 1, 2], abs=1e-6
    )


def test_cosine_of_several_clips_is_their_sum() -> None:
    student, teacher = torch.tensor([1.0, 0.0, 0.6, 0.8]), torch.tensor([0.0, 1.0, 1.0, 0.0])
    assert LOSSES["embedding"]["cosine"](student, teacher).item() == pytest.approx((1 - 0) + (1 - 0.6))


def test_ranking_is_the_mean_logistic_loss_of_the_teacher_s_pairs() -> None:
    student, teacher = torch.tensor([0.0, 1.0, -2.0]), torch.tensor([1.0, 2.0, 2.0])
    # pairs in the teacher's order: second over first by 1, third over first by -2
    by_hand = (math.log1p(math.exp(-1.0)) + math.log1p(math.exp(2.0))) / 2
    assert ranking(student, teacher).item() == pytest.approx(by_hand)


def test_ranking_without_an_order_to_learn_is_zero() -> None:
    assert ranking(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 3.0])).item() == 0.0
