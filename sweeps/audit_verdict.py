"""Is this reward any good? The verdict on its figures, in words, with the thresholds behind it."""

from dataclasses import dataclass
from typing import Literal

from lightning_modules.reward_audit import Bounds, RewardFigures, Truth

Verdict = Literal["good", "weak", "bad", "unknown"]
ORDER_OF_VERDICTS: tuple[Verdict, ...] = ("good", "weak", "unknown", "bad")


@dataclass(frozen=True)
class Threshold:
    """From where on one measure is good, and below which it is bad; weak in between. 0 is chance, 1 all there is."""

    measure: str
    """what is measured, in words"""
    good: float
    """the lower end of the interval, where there is one, must reach this"""
    bad: float
    """a value below this is bad"""
    why: str
    """where the two numbers come from"""


ORDER = Threshold(
    "Order inside an episode (Spearman's rank correlation, as a share of what a reward can reach where the true reward "
    "has ties)",
    0.5,
    0.3,
    "Cohen 1988 calls a correlation of .5 large and one of .3 medium",
)
SEPARATION = Threshold(
    "Successes told from other states (AUROC)",
    0.8,
    0.7,
    "Hosmer and Lemeshow 2000 call .8 excellent and anything below .7 not acceptable",
)
TOP = Threshold(
    "Successes among the 100 frames it likes best, or the best tenth of fewer than 1,000 (0 is their share among all "
    "frames, 1 is all that there are)",
    0.2,
    0.1,
    "an agent climbs to the top of its reward; the demo's cart-pole sentence stands at about a quarter, and its agent "
    "learns the task",
)
THRESHOLDS = (ORDER, SEPARATION, TOP)
FEWEST_EPISODES = 10
"""an interval over fewer episodes than this covers too little (a bootstrap draws from nothing but them)"""
FLAT = 2e-4
"""a reward that varies less than this (standard deviation) is ten times the rounding of float16 embeddings, or less"""
FAINT = 0.1
"""a reward that varies less than this share of the list's widest is called faint, and no better than weak"""
COINCIDING = 0.99
"""cosine of goal and baseline from which their difference is mostly noise"""


@dataclass(frozen=True)
class Judgement:
    """The verdict on one reward."""

    verdict: Verdict
    """good, weak or bad as its worst measure is; unknown where the frames cannot tell"""
    agreement: float
    """mean of the measures that these frames define (0 chance, 1 all there is): what the best alpha is chosen by"""
    reasons: tuple[str, ...]
    """whole sentences, the figures in them"""


@dataclass(frozen=True)
class _Measure:
    grade: Verdict
    value: float
    reason: str


def judge(figures: RewardFigures, truth: Truth, widest: float) -> Judgement:
    """Judge one reward; `widest` is the largest standard deviation among the rewards it is compared with."""
    measures = [
        measure
        for measure in (_order(figures, truth), _separation(figures), _top(figures, truth))
        if measure is not None
    ]
    agreement = sum(measure.value for measure in measures) / len(measures) if measures else 0.0
    if figures.std < FLAT:
        flat = f"It hardly varies over these frames (standard deviation {figures.std:.1g}): there is nothing to climb."
        return Judgement("bad", agreement, (flat,))
    grades = [measure.grade for measure in measures]
    reasons = [measure.reason for measure in measures]
    if figures.std < FAINT * widest:
        grades.append("weak")
        reasons.append(
            f"It varies {widest / figures.std:.0f} times less than the widest reward of this list (standard deviation "
            f"{figures.std:.2g}): these frames hardly differ in what the sentence says."
        )
    if too_few := _too_few(truth):
        return Judgement("unknown", agreement, (*reasons, too_few))
    if "bad" not in grades and (unseen := _unseen(truth)):
        return Judgement("unknown", agreement, (*reasons, unseen))
    verdict: Verdict = "bad" if "bad" in grades else "weak" if "weak" in grades else "good"
    return Judgement(verdict, agreement, tuple(reasons))


def shown(value: float, digits: int = 2) -> str:
    """A correlation as papers write it: .91, a true minus sign, no leading zero."""
    text = f"{value:z.{digits}f}"
    text = text.replace("0.", ".", 1) if abs(float(text)) < 1 else text
    return text.replace("-", "\N{MINUS SIGN}")


def interval(bounds: Bounds, digits: int = 2) -> str:
    """'95 % .89 to .93'."""
    return f"95\N{NO-BREAK SPACE}% {plain_interval(bounds, digits)}"


def plain_interval(bounds: Bounds, digits: int = 2) -> str:
    """'.89 to .93', where it has been said that it is one of 95 %."""
    return f"{shown(bounds.low, digits)} to {shown(bounds.high, digits)}"


def _grade(threshold: Threshold, value: float, low: float) -> Verdict:
    return "bad" if value < threshold.bad else "good" if low >= threshold.good else "weak"


def _order(figures: RewardFigures, truth: Truth) -> _Measure | None:
    if not truth.varies:
        return None
    value, most = figures.spearman_within_episode, truth.attainable
    grade = _grade(ORDER, value / most, figures.spearman_bounds.low / most)
    how = {
        "good": "ranks states inside an episode like the true reward",
        "weak": "ranks states inside an episode only roughly like the true reward",
    }.get(grade, "ranks states inside an episode hardly like the true reward")
    if value / most < -ORDER.bad:
        how = "ranks states inside an episode the wrong way round"
    ties = f", of at most {shown(most)}, since many frames earn the same" if most < 0.95 else ""
    return _Measure(
        grade, value / most, f"It {how} (Spearman {shown(value)}{ties}; {interval(figures.spearman_bounds)})."
    )


def _separation(figures: RewardFigures) -> _Measure | None:
    if figures.auroc is None or figures.auroc_bounds is None:
        return None
    grade = _grade(SEPARATION, figures.auroc, figures.auroc_bounds.low)
    how = {"good": "tells successes from other states", "weak": "tells successes from other states only roughly"}.get(
        grade, "does not tell successes from other states"
    )
    if figures.auroc < 1 - SEPARATION.bad:
        how = "gives successes less than other states"
    return _Measure(
        grade,
        2 * figures.auroc - 1,
        f"It {how} (AUROC {shown(figures.auroc, 3)}; {interval(figures.auroc_bounds)}).",
    )


def _top(figures: RewardFigures, truth: Truth) -> _Measure | None:
    if figures.top_successes is None:
        return None
    share, chance, most = figures.top_successes / truth.top, truth.base_rate, truth.reachable_top
    value = (share - chance) / (most - chance) if most > chance else 0.0
    grade = _grade(TOP, value, value)
    count = {0: "none is a success", 1: "1 is a success"}.get(
        figures.top_successes, f"{figures.top_successes} are successes"
    )
    by_chance = f"{truth.top * chance:.0f}" if truth.top * chance >= 1 else "less than 1"
    reason = f"Of the {truth.top} frames it likes best {count} (by chance: {by_chance})"
    if grade == "bad":
        reason += ", so an agent that climbs to its top does not arrive at the goal"
    return _Measure(grade, value, f"{reason}.")


def _too_few(truth: Truth) -> str:
    """Why these frames cannot judge any reward; empty if they can."""
    if not truth.varies:
        return "The true reward never changes inside an episode, so there is nothing to compare with."
    if truth.judged_episodes < FEWEST_EPISODES:
        return (
            f"The true reward changes inside only {truth.judged_episodes} episodes, which is too few to tell "
            f"(at least {FEWEST_EPISODES})."
        )
    return ""


def _unseen(truth: Truth) -> str:
    """Why these frames cannot show that a reward is good; empty if they can."""
    if truth.successes == 0:
        return "No frame is a success, so nobody can see whether the top of the reward is the goal."
    if truth.successes == truth.reward.size:
        return "Every frame is a success, so nobody can see whether other states are told apart."
    return ""
