"""Is this student faithful enough to train on? The verdict on its figures, in words, with the thresholds behind it."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from lightning_modules.fidelity import Fidelity, epic_distance, spearman_by_episode
from lightning_modules.residuals import residuals_by_quantile
from sweeps.audit_verdict import shown
from sweeps.statistics import Interval
from sweeps.student_folder import FittedStudent

Verdict = Literal["good", "weak", "bad"]


@dataclass(frozen=True)
class Mark:
    """From where on one figure of fidelity is good, and from where on it is bad; weak in between."""

    figure: str
    """field of `Fidelity`"""
    name: str
    """what it is, in words"""
    good: float
    bad: float
    why: str
    """what the two numbers mean"""

    def grade(self, fidelity: Fidelity) -> Verdict:
        """Of a student; for EPIC, a distance, less is better."""
        value, sign = getattr(fidelity, self.figure), 1 if self.good > self.bad else -1
        return "good" if sign * value >= sign * self.good else "bad" if sign * value < sign * self.bad else "weak"


# Of normally distributed rewards with rank correlation s, a share of 1/2 + arcsin(2 sin(pi s / 6)) / pi of the pairs
# stands in the same order (Kendall 1948): .886 at .93, .802 at .8, .926 at .97 and .862 at .9.
MARKS = (
    Mark(
        "spearman_within_episode",
        "Spearman inside an episode",
        0.93,
        0.8,
        "one pair of frames of an episode in nine stands in the wrong order at .93, one in five at .8",
    ),
    Mark(
        "spearman_pooled",
        "Spearman over all frames",
        0.97,
        0.9,
        "one pair of frames in thirteen stands in the wrong order at .97, one in seven at .9",
    ),
    Mark(
        "epic",
        "EPIC distance to the teacher",
        0.12,
        0.25,
        "the teacher's reward explains 94 % of the student's variance at .12, 77 % at .25",
    ),
)
WORDS: dict[Verdict, str] = {
    "good": "Faithful enough to train on.",
    "weak": "Usable, with care.",
    "bad": "Not faithful: do not train on it.",
}
FAINT = 0.25
"""standard deviation of the teacher's standardised reward inside an episode below which it hardly has an order"""
OVERFITTED = 2.0
"""times the training frames' error that the held-out frames' must be to call more data the cure"""


@dataclass(frozen=True)
class Answer:
    """The first lines of the page."""

    verdict: Verdict
    """as its worst figure is"""
    word: str
    """the verdict in a few words"""
    sentences: tuple[str, ...]
    """how faithful, where it is worst, what to beware of"""


def verdict_of(fidelity: Fidelity) -> Verdict:
    """As its worst figure is."""
    grades = {mark.grade(fidelity) for mark in MARKS}
    return "bad" if "bad" in grades else "weak" if "weak" in grades else "good"


def answer_of(student: FittedStudent, within: Interval) -> Answer:
    """The verdict on a student; `within` is its rank correlation inside an episode, with its interval."""
    fidelity = student.card.fidelity
    verdict = verdict_of(fidelity)
    episodes = np.unique(student.held_out.episode).size
    sentences = [
        f"On {fidelity.samples:,} frames of {episodes:,} episodes that it never saw, it puts an episode's frames in "
        f"its teacher's order with a Spearman of {shown(within.mean, 3)} ({plain(within)}), all frames together with "
        f"{shown(fidelity.spearman_pooled, 3)}; its EPIC distance is {shown(fidelity.epic, 3)}.",
        _falls_short(fidelity),
        _worst_task(student),
        _worst_frames(student),
        _overfitted(student),
        _teacher_first(student),
    ]
    return Answer(verdict, WORDS[verdict], tuple(filter(None, sentences)))


def plain(interval: Interval) -> str:
    """'95 % .989 to .993'."""
    return f"95\N{NO-BREAK SPACE}% {shown(interval.low, 3)} to {shown(interval.high, 3)}"


def _falls_short(fidelity: Fidelity) -> str:
    short = [mark for mark in MARKS if mark.grade(fidelity) != "good"]
    if not short:
        return ""
    missed = ", ".join(
        f"{mark.name} is {shown(getattr(fidelity, mark.figure), 3)} and should be "
        f"{'at least' if mark.good > mark.bad else 'at most'} {shown(mark.good)}"
        for mark in short
    )
    return f"It falls short where {missed}: more frames, more epochs or a larger backbone may mend that."


def _worst_task(student: FittedStudent) -> str:
    targets = student.card.targets
    if len(targets) == 1:
        return ""
    worst = min(targets, key=lambda target: target.fidelity.spearman_within_episode)
    best = max(targets, key=lambda target: target.fidelity.spearman_within_episode)
    return (
        f"Of its {len(targets)} tasks it follows {best.task} best (Spearman inside an episode "
        f"{shown(best.fidelity.spearman_within_episode, 3)}) and {worst.task} worst "
        f"({shown(worst.fidelity.spearman_within_episode, 3)})."
    )


def _worst_frames(student: FittedStudent) -> str:
    held_out = student.held_out
    said, asked = held_out.student.astype(np.float64), held_out.teacher.astype(np.float64)
    parts = residuals_by_quantile(said, asked)
    number = max(range(len(parts)), key=lambda part: parts[part].mae)
    part, mean = parts[number], float(np.abs(said - asked).mean())
    place = {0: "lowest tenth", len(parts) - 1: "highest tenth"}.get(
        number, f"{_ordinal(number + 1)} tenth (from the lowest)"
    )
    one_sided = abs(part.bias) > part.mae / 2
    direction = f", mostly too {'high' if part.bias > 0 else 'low'}" if one_sided else ", to both sides"
    sentence = (
        f"It errs most in the {place} of the teacher's rewards: by {part.mae:.2f} standard deviations on average, "
        f"against {mean:.2f} over all frames{direction}."
    )
    scores = spearman_by_episode(said, asked, held_out.episode)
    if not np.isfinite(scores).any():
        return sentence
    worst = int(np.nanargmin(scores))
    episode = int(np.unique(held_out.episode)[worst])
    faint = asked[held_out.episode == episode].std() < FAINT
    return (
        f"{sentence} The episode that it follows worst is {student.episode_name(episode)} (Spearman "
        f"{shown(float(scores[worst]), 3)}{', where the teacher sees hardly any difference' if faint else ''})."
    )


def _overfitted(student: FittedStudent) -> str:
    mse = student.result.get("mse")
    if not mse or mse["test"] < OVERFITTED * mse["train"]:
        return ""
    return (
        f"Its mean squared error is {mse['train']:.3f} on the frames it was fitted to and {mse['test']:.3f} on others: "
        "frames of more episodes would help more than more epochs."
    )


def _teacher_first(student: FittedStudent) -> str:
    if len(student.card.targets) > 1:
        return ""
    held_out = student.held_out
    true = held_out.true_reward.astype(np.float64)
    own, teachers = (epic_distance(each.astype(np.float64), true) for each in (held_out.student, held_out.teacher))
    return (
        f"Faithful to the teacher is not the same as right: by EPIC the teacher is {shown(teachers, 2)} away from the "
        f"task's true reward, the student {shown(own, 2)} (.71 is unrelated)."
    )


def _ordinal(number: int) -> str:
    return f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(number, 'th') }"
