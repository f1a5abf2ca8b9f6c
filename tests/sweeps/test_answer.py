"""The answer says what the episodes show, no more."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sweeps.answer import answer_of, duration, number
from sweeps.trial_files import TrialFiles

GOOD = [500.0, 510.0, 490.0, 505.0, 495.0]
POOR = [30.0, 20.0, 40.0, 35.0, 25.0]
SPREAD = [10.0, 60.0, 5.0, 70.0, 15.0]


def entry(episodes: list[float]) -> dict[str, Any]:
    """A return as result.json holds it; the interval is plain minimum and maximum, so that its source shows."""
    return {"mean": float(np.mean(episodes)), "low": min(episodes), "high": max(episodes), "episodes": episodes}


def files(agent: list[float] | None, random: list[float], reward: str = "student") -> TrialFiles:
    """A trial of which nothing but returns and costs is known."""
    result: dict[str, Any] = {
        "random_return": entry(random),
        "teacher_queries": 8000,
        "seconds": {"label": 200.4, "train": 352.0},
    }
    if agent is not None:
        result["true_return"] = entry(agent)
    return TrialFiles(Path("trial"), result, {}, None, (), {"reward": reward}, {}, None)


def test_better_than_random_is_a_yes_with_intervals_episodes_and_costs() -> None:
    answer = answer_of(files(GOOD, POOR))

    assert (answer.verdict, answer.word) == ("better", "Yes.")
    plain = answer.sentence.replace("\N{NO-BREAK SPACE}", " ")
    assert "500 (95 % interval 490 to 510, 5 episodes)" in plain
    assert "30.0 (95 % interval 20.0 to 40.0, 5 episodes) for a random policy" in plain
    assert "16.7 times as much" in plain
    assert plain.endswith("Cost: 9 min 12 s and 8,000 teacher queries.")


def test_worse_than_random_is_said_plainly() -> None:
    answer = answer_of(files(POOR, GOOD))

    assert (answer.verdict, answer.word) == ("worse", "No.")
    assert "does worse than acting at random" in answer.sentence
    assert "times as much" not in answer.sentence


@pytest.mark.parametrize("agent", [SPREAD, [500.0]], ids=["overlapping", "one episode"])
def test_what_the_episodes_cannot_tell_is_not_claimed(agent: list[float]) -> None:
    answer = answer_of(files(agent, POOR))

    assert (answer.verdict, answer.word) == ("unclear", "Not shown.")
    assert "no better than a random policy as far as these episodes can tell" in answer.sentence


def test_one_episode_has_no_interval() -> None:
    assert "500 (one episode, so without an interval)" in answer_of(files([500.0], POOR)).sentence


def test_no_ratio_where_the_random_policy_is_below_zero() -> None:
    answer = answer_of(files(GOOD, [-5.0, -6.0, -4.0]))

    assert answer.verdict == "better"
    assert "times as much" not in answer.sentence
    assert "\N{MINUS SIGN}5.00" in answer.sentence


@pytest.mark.parametrize(
    ("reward", "words"),
    [
        ("student", "the student's reading of this sentence"),
        ("teacher", "the teacher's reading of this sentence at every step"),
        ("random", "a random reward"),
        ("true", "the simulator's own reward, without any sentence"),
    ],
)
def test_the_reward_is_named(reward: str, words: str) -> None:
    assert words in answer_of(files(GOOD, POOR, reward)).sentence


@pytest.mark.parametrize("reward", ["true", "random"])
def test_yes_is_kept_for_sentences(reward: str) -> None:
    """The page's question is whether the sentence trained the agent; these rewards have none."""
    assert answer_of(files(GOOD, POOR, reward)).word == "It learned."
    assert answer_of(files(POOR, GOOD, reward)).word == "It did not learn."


def test_without_an_evaluation_nothing_is_claimed() -> None:
    answer = answer_of(files(None, POOR))

    assert answer.verdict == "unknown"
    assert "has not been evaluated" in answer.sentence


@pytest.mark.parametrize(
    ("value", "words"),
    [(1234.5, "1,234"), (99.96, "100"), (12.34, "12.3"), (0.5, "0.50"), (9.999, "10.0"), (-3.0, "\N{MINUS SIGN}3.00")],
)
def test_numbers_have_three_digits_that_count(value: float, words: str) -> None:
    assert number(value) == words


@pytest.mark.parametrize(
    ("seconds", "words"), [(41.2, "41 s"), (59.7, "1 min 0 s"), (552, "9 min 12 s"), (7500, "2 h 5 min")]
)
def test_durations_are_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words
