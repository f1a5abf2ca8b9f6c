"""Distillation losses: the student's reward against the teacher's, both standardised."""

from collections.abc import Callable
from typing import Literal

from torch import Tensor
from torch.nn import functional as F

Loss = Callable[[Tensor, Tensor], Tensor]
"""(student (B,), teacher (B,)) -> scalar, the mean over the batch"""

LossName = Literal["mse", "huber"]


def mse(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared error, as Ba and Caruana 2014 ("Do Deep Nets Really Need to be Deep?") match a teacher's logits."""
    return F.mse_loss(student, teacher)


def huber(student: Tensor, teacher: Tensor) -> Tensor:
    """Huber 1964 ("Robust Estimation of a Location Parameter"): quadratic within one standard deviation, linear beyond.

    Standardised rewards have unit deviation, so the bend at 1 keeps rare extreme frames from ruling the fit.
    """
    return F.huber_loss(student, teacher, delta=1.0)


def ranking(student: Tensor, teacher: Tensor) -> Tensor:
    """RankNet (Burges et al. 2005) over the batch's pairs: how surely the student puts a pair in the teacher's order.

    The mean of log(1 + exp(-(s_i - s_j))) over all pairs with t_i > t_j; 0 where the teacher sees no difference.
    """
    ahead = teacher[:, None] > teacher[None, :]
    surprise = F.softplus(student[None, :] - student[:, None])
    return (surprise * ahead).sum() / ahead.sum().clamp(min=1)


LOSSES: dict[LossName, Loss] = {"mse": mse, "huber": huber}
