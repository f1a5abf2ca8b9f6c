"""How close a student is to its teacher, in the field's measures.

Where a measure is undefined because one side is constant, it takes the value of an uninformative student:
correlation 0, order accuracy 1/2, EPIC distance sqrt(1/2).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from datamodules.errors import DataError

Values = NDArray[np.float64]
MARGINS = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0)
"""lower ends of the bins into which pairs of frames go, in standard deviations of the teacher's reward"""
MOST_PAIRS = 5_000_000
"""up to this many pairs are all counted (3,162 frames); beyond, as many are drawn"""
PAIRS_AT_ONCE = 1_000_000


@dataclass(frozen=True)
class Fidelity:
    """Agreement of student and teacher over the same frames."""

    pearson: float
    """linear correlation (-1 to 1)"""
    spearman_pooled: float
    """rank correlation over all frames (-1 to 1); differences between episodes inflate it"""
    spearman_within_episode: float
    """rank correlation inside an episode, mean over episodes (-1 to 1)"""
    pairwise_order_accuracy: float
    """share of frame pairs that the student puts in the teacher's order (0 to 1, chance 0.5)"""
    epic: float
    """EPIC distance (0 same, .707 uncorrelated, 1 opposite)"""
    mse: float
    """mean squared difference, in the units of the rewards given"""
    samples: int
    """frames compared"""


@dataclass(frozen=True)
class OrderAtMargin:
    """Pairs of frames that the teacher sees about equally far apart."""

    low: float
    """their teacher rewards differ by more than this, in standard deviations of the teacher's reward"""
    high: float | None
    """and by at most this; None: however much"""
    accuracy: float | None
    """share that the student puts in the teacher's order (0 to 1, chance .5), its ties counting half; None: no pair"""
    pairs: int
    """pairs counted"""


def measure_fidelity(student: ArrayLike, teacher: ArrayLike, episode: ArrayLike) -> Fidelity:
    """Compare student and teacher rewards `(N,)` of the same frames, N at least 2; `episode` `(N,)` groups them.

    Raises DataError when the lengths differ, there are fewer than two frames, or a reward is not finite.
    """
    ours, theirs, groups = np.asarray(student, np.float64), np.asarray(teacher, np.float64), np.asarray(episode)
    if not ours.shape == theirs.shape == groups.shape or ours.ndim != 1 or ours.size < 2:
        raise DataError(
            f"student, teacher and episode have shapes {ours.shape}, {theirs.shape} and {groups.shape}: "
            "fidelity needs one value a frame in each, and at least two frames"
        )
    for name, values in (("student", ours), ("teacher", theirs)):
        if not np.isfinite(values).all():
            raise DataError(f"{int((~np.isfinite(values)).sum())} of {values.size} {name} rewards are not finite")
    return Fidelity(
        pearson=pearson(ours, theirs),
        spearman_pooled=spearman(ours, theirs),
        spearman_within_episode=spearman_within_episode(ours, theirs, groups),
        pairwise_order_accuracy=pairwise_order_accuracy(ours, theirs),
        epic=epic_distance(ours, theirs),
        mse=float(np.mean((ours - theirs) ** 2)),
        samples=ours.size,
    )


def pearson(first: Values, second: Values) -> float:
    """Linear correlation of two `(N,)` arrays, -1 to 1."""
    one, two = first - first.mean(), second - second.mean()
    scale = np.linalg.norm(one) * np.linalg.norm(two)
    # a constant array still has rounding noise around its mean
    if np.ptp(first) == 0 or np.ptp(second) == 0 or scale == 0:
        return 0.0
    return float(np.clip(one @ two / scale, -1.0, 1.0))


def spearman(first: Values, second: Values) -> float:
    """Rank correlation of two `(N,)` arrays, ties sharing their mean rank, -1 to 1."""
    return pearson(stats.rankdata(first), stats.rankdata(second))


def spearman_within_episode(student: Values, teacher: Values, episode: NDArray[Any]) -> float:
    """Mean over episodes of the rank correlation inside the episode, -1 to 1.

    Episodes whose teacher reward never changes have no order to agree with and are left out; 0 when none is left.
    """
    scores = spearman_by_episode(student, teacher, episode)
    return float(np.nanmean(scores)) if np.isfinite(scores).any() else 0.0


def spearman_by_episode(first: Values, second: Values, episode: NDArray[Any]) -> Values:
    """Rank correlation inside each episode `(E,)`, in `np.unique(episode)` order; NaN where `second` is constant."""
    return pearson_by_episode(ranks_by_episode(first, episode), ranks_by_episode(second, episode), episode)


def pearson_by_episode(first: Values, second: Values, episode: NDArray[Any]) -> Values:
    """Linear correlation inside each episode `(E,)`, as `spearman_by_episode`."""
    _, starts, group, lengths = np.unique(episode, return_index=True, return_inverse=True, return_counts=True)
    # Less its first value a constant episode is exactly 0; less its mean it would be rounding noise.
    shifted = [side - side[starts][group] for side in (first, second)]
    one, two = (side - (np.bincount(group, side) / lengths)[group] for side in shifted)
    power = np.bincount(group, one**2), np.bincount(group, two**2)
    scale = np.sqrt(power[0] * power[1])
    score = np.divide(np.bincount(group, one * two), scale, out=np.zeros_like(scale), where=scale > 0)
    return np.where(power[1] > 0, np.clip(score, -1.0, 1.0), np.nan)


def ranks_by_episode(values: Values, episode: NDArray[Any]) -> Values:
    """Each value's rank inside its episode `(N,)`, from 1, ties sharing their mean rank."""
    _, group, lengths = np.unique(episode, return_inverse=True, return_counts=True)
    place = stats.rankdata(values, "dense")
    ranks = stats.rankdata(group * (place.max() + 1) + place)
    return np.asarray(ranks - (np.cumsum(lengths) - lengths)[group], np.float64)


def pairwise_order_accuracy(student: Values, teacher: Values) -> float:
    """Share of the pairs with different teacher rewards that the student orders alike, its own ties counting half.

    With C concordant and D discordant pairs, n0 pairs in all, n1 tied in the teacher and n2 in the student, Kendall's
    tau-b is (C - D) / sqrt((n0 - n1)(n0 - n2)), so the share (C + ties / 2) / (n0 - n1) is exact in O(N log N).
    """
    pairs = student.size * (student.size - 1) / 2
    ordered_by_teacher, ordered_by_student = pairs - _tied_pairs(teacher), pairs - _tied_pairs(student)
    if ordered_by_teacher == 0 or ordered_by_student == 0:
        return 0.5
    tau = stats.kendalltau(student, teacher, variant="b").statistic
    return float(np.clip(0.5 + 0.5 * tau * np.sqrt(ordered_by_student / ordered_by_teacher), 0.0, 1.0))


def order_accuracy_by_margin(student: Values, teacher: Values, seed: int = 0) -> tuple[OrderAtMargin, ...]:
    """Pairwise order accuracy by how far apart the teacher sees two frames, for rewards `(N,)` of the same frames.

    A student that errs only where its teacher hardly sees a difference loses little; one that swaps frames far apart
    misleads an agent. Pairs are put into the bins of `MARGINS` by |difference of teacher rewards| / standard deviation
    of the teacher's rewards; pairs that the teacher ties have no order and are left out. Exact up to `MOST_PAIRS`
    pairs; of more frames `MOST_PAIRS` pairs are drawn evenly, with replacement, by the generator of `seed` (standard
    error of a share at most sqrt(.25 / pairs in its bin)).
    """
    scale = float(teacher.std())
    right, counts = np.zeros(len(MARGINS)), np.zeros(len(MARGINS), np.int64)
    for one, other in _pairs(teacher.size, np.random.default_rng(seed)):
        apart = teacher[one] - teacher[other]
        agreed = 0.5 + 0.5 * np.sign(student[one] - student[other]) * np.sign(apart)
        ordered = apart != 0
        number = np.searchsorted(MARGINS, np.abs(apart[ordered]) / scale, side="left") - 1 if scale > 0 else ordered[:0]
        right += np.bincount(number, agreed[ordered], minlength=right.size)
        counts += np.bincount(number, minlength=right.size)
    return tuple(
        OrderAtMargin(low, high, float(good / pairs) if pairs else None, int(pairs))
        for low, high, good, pairs in zip(MARGINS, (*MARGINS[1:], None), right, counts, strict=True)
    )


def _pairs(size: int, generator: np.random.Generator) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Positions of the two frames of each pair, all pairs once or `MOST_PAIRS` drawn, some at a time."""
    if size * (size - 1) // 2 <= MOST_PAIRS:
        rows = max(1, PAIRS_AT_ONCE // max(1, size))
        for start in range(0, size, rows):
            own = np.arange(start, min(start + rows, size))
            one, other = np.nonzero(own[:, None] > np.arange(size)[None, :])
            yield own[one], other
        return
    for start in range(0, MOST_PAIRS, PAIRS_AT_ONCE):
        one = generator.integers(0, size, min(PAIRS_AT_ONCE, MOST_PAIRS - start))
        yield one, (one + generator.integers(1, size, one.size)) % size


def epic_distance(first: Values, second: Values) -> float:
    """EPIC distance of two rewards of the next state alone, over this very sample of states.

    Gleave et al. 2021, "Quantifying Differences in Reward Functions": sqrt((1 - rho) / 2) with Pearson's rho of the
    canonicalised rewards; a reward of the next state alone is its own canonical form up to a constant. To the teacher
    it is a figure of `Fidelity`; to the simulator's true reward it says what the student, or its teacher, is worth.
    """
    return float(np.sqrt((1.0 - pearson(first, second)) / 2.0))


def _tied_pairs(values: Values) -> float:
    _, counts = np.unique(values, return_counts=True)
    return float((counts * (counts - 1) / 2).sum())
