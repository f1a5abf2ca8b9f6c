"""Distillation losses of each frame: the student's guess against what the teacher says."""

from collections.abc import Callable
from typing import Literal

from torch import Tensor
from torch.nn import functional as F

Loss = Callable[[Tensor, Tensor], Tensor]
"""(student, teacher), which broadcast -> loss of each frame and member; rewards have any shape, embeddings (..., D)"""

LossName = Literal["mse", "huber", "cosine"]
HeadName = Literal["reward", "embedding"]


def mse(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared error, as Ba and Caruana 2014 ("Do Deep Nets Really Need to be Deep?") match a teacher's logits."""
    return (student - teacher).square()


def huber(student: Tensor, teacher: Tensor) -> Tensor:
    """Huber 1964 ("Robust Estimation of a Location Parameter"): quadratic within one standard deviation, linear beyond.

    Standardised rewards have unit deviation, so the bend at 1 keeps rare extreme frames from ruling the fit.
    """
    difference = student - teacher
    return F.huber_loss(difference, difference.new_zeros(()).expand_as(difference), reduction="none", delta=1.0)


def cosine(student: Tensor, teacher: Tensor) -> Tensor:
    """1 - cosine similarity of unit vectors (..., D) -> (...); of several CLIPs' the sum over them.

    For unit vectors that is half their squared distance, which stays exact where they nearly agree.
    """
    return 0.5 * (student - teacher).square().sum(dim=-1)


def ranking(student: Tensor, teacher: Tensor) -> Tensor:
    """RankNet (Burges et al. 2005) over the batch's pairs: how surely the student puts a pair in the teacher's order.

    The mean of log(1 + exp(-(s_i - s_j))) over all pairs with t_i > t_j; 0 where the teacher sees no difference.
    """
    ahead = teacher[:, None] > teacher[None, :]
    surprise = F.softplus(student[None, :] - student[:, None])
    return (surprise * ahead).sum() / ahead.sum().clamp(min=1)


LOSSES: dict[HeadName, dict[LossName, Loss]] = {"reward": {"huber": huber, "mse": mse}, "embedding": {"cosine": cosine}}
"""What each head can be fitted with, the default first."""
