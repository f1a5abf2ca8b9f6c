"""Did the sentence train the agent? The answer in words, from the returns alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from sweeps.statistics import mean_difference_interval
from sweeps.trial_files import TrialFiles

Verdict = Literal["better", "worse", "unclear", "unknown"]

BY_SENTENCE = ("student", "teacher")
"""rewards that come from the prompts"""
TRAINED_ON = {
    "student": "trained on the student's reading of this sentence",
    "teacher": "trained on the teacher's reading of this sentence at every step",
    "random": "trained on a random reward (a control that should fail)",
    "true": "trained on the simulator's own reward, without any sentence (the reference to reach)",
}


@dataclass(frozen=True)
class Answer:
    """The first lines of the page."""

    verdict: Verdict
    """what the episodes show of the agent beside the random policy"""
    word: str
    """the verdict in a word or two"""
    sentence: str
    """the verdict with its figures"""


def answer_of(files: TrialFiles) -> Answer:
    """The answer with its intervals, episodes, seconds and teacher queries.

    The verdict is `better` or `worse` where the 95 % interval of the difference of means leaves out 0, with at least
    two episodes on each side; the simulator's own reward is the measure, whatever the agent was trained on.
    """
    agent, random = files.result.get("true_return"), files.result.get("random_return")
    cost = _cost(files.result)
    if agent is None or random is None:
        return Answer("unknown", "Not known yet.", f"This trial has not been evaluated against a random policy.{cost}")
    verdict = _verdict(agent["episodes"], random["episodes"])
    by_sentence = files.reward in BY_SENTENCE
    trained = TRAINED_ON[files.reward]
    reached = f"{returns_in_words(agent)}, against {returns_in_words(random)} for a random policy"
    match verdict:
        case "better":
            ratio = f", {number(agent['mean'] / random['mean'])} times as much" if random["mean"] > 0 else ""
            return Answer(
                verdict,
                "Yes." if by_sentence else "It learned.",
                f"The agent, {trained}, reaches a mean true return of {reached}{ratio}.{cost}",
            )
        case "worse":
            return Answer(
                verdict,
                "No." if by_sentence else "It did not learn.",
                f"The agent, {trained}, does worse than acting at random: its mean true return is {reached}.{cost}",
            )
        case _:
            return Answer(
                verdict,
                "Not shown.",
                f"The agent, {trained}, is no better than a random policy as far as these episodes can tell: "
                f"its mean true return is {reached}.{cost}",
            )


def returns_in_words(entry: Mapping[str, Any]) -> str:
    """'512 (95 % interval 480 to 543, 10 episodes)'."""
    count = len(entry["episodes"])
    if count == 1:
        return f"{number(entry['mean'])} (one episode, so without an interval)"
    interval = f"95\N{NO-BREAK SPACE}% interval {number(entry['low'])} to {number(entry['high'])}"
    return f"{number(entry['mean'])} ({interval}, {count} episodes)"


def quoted(sentences: Sequence[str]) -> str:
    """The first of the goal sentences in quotation marks, and how many more there are: a page's title."""
    more = f" (and {len(sentences) - 1} more)" if len(sentences) > 1 else ""
    return f"\N{LEFT DOUBLE QUOTATION MARK}{sentences[0]}\N{RIGHT DOUBLE QUOTATION MARK}{more}"


def number(value: float) -> str:
    """A figure as a person writes it: three digits that count, thousands set apart, and a true minus sign."""
    size = abs(value)
    digits = 0 if size >= 99.95 else 1 if size >= 9.995 else 2
    return f"{value:,.{digits}f}".replace("-", "\N{MINUS SIGN}")


def duration(seconds: float) -> str:
    """'41 s', '9 min 12 s', '2 h 5 min'."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def total_seconds(result: Mapping[str, Any]) -> float | None:
    """Seconds of all stages together; the stage that writes the page cannot know its own yet."""
    stages = {name: seconds for name, seconds in result.get("seconds", {}).items() if name != "total"}
    return float(sum(stages.values())) if stages else None


def _cost(result: Mapping[str, Any]) -> str:
    parts = []
    if (seconds := total_seconds(result)) is not None:
        parts.append(duration(seconds))
    if "teacher_queries" in result:
        parts.append(f"{result['teacher_queries']:,} teacher queries")
    return f" Cost: {' and '.join(parts)}." if parts else ""


def _verdict(agent: Sequence[float], random: Sequence[float]) -> Verdict:
    if min(len(agent), len(random)) < 2:
        return "unclear"
    difference = mean_difference_interval(agent, random, np.random.default_rng(0))
    return "better" if difference.low > 0 else "worse" if difference.high < 0 else "unclear"
