"""What an evaluation measured, in words."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sweeps.measures import fallen_steps, measure_rows, watch_of
from sweeps.trial_files import TrialFiles, read_trial

FALL = {
    "peak_steps": 6_000,
    "fallen_steps": 10_500,
    "gold_peak": 512.4,
    "gold_fallen": 305.0,
    "proxy_peak": -3.126,
    "proxy_fallen": 45.25,
}


@pytest.fixture
def files(built_trial: Path) -> TrialFiles:
    return read_trial(built_trial)


def with_result(files: TrialFiles, **changed: Any) -> TrialFiles:
    return replace(files, result={**files.result, **changed})


def figures(files: TrialFiles) -> Mapping[str, str]:
    return {name: figure for name, figure, _ in measure_rows(files)}


def test_every_measure_of_the_evaluation_is_a_row(files: TrialFiles) -> None:
    judged = with_result(files, teacher_return={"mean": 70.2, "low": 66, "high": 75, "episodes": [70.2]})
    assert figures(judged) == {
        "Normalised score": "0.50",
        "Successes": "7 of 10 episodes",
        "Learned return": "64.5",
        "Teacher's return": "70.2",
        "Mean over training": "262",
    }
    meanings = {name: meaning for name, _, meaning in measure_rows(judged)}
    assert meanings["Normalised score"].startswith("share of the highest return")
    assert meanings["Successes"] == "true reward a frame of at least 0.8 over the last tenth"
    assert meanings["Learned return"].endswith("interval over episodes 60.2 to 68.0")


def test_a_score_between_references_names_them(files: TrialFiles) -> None:
    task = {**files.agent["task"], "score_range": [22.2, 475.0]}
    rows = measure_rows(replace(files, agent={**files.agent, "task": task}))
    assert "0 is a random policy (22.2), 1 the task's reference (475)" in rows[0][2]


def test_what_was_not_measured_is_left_out(files: TrialFiles) -> None:
    assert measure_rows(replace(files, result={"task": "t", "seed": 0})) == []
    assert "Learned return" not in figures(replace(files, agent={**files.agent, "reward": "true"}))
    assert "Successes" not in figures(with_result(files, successes=None))
    assert list(figures(replace(files, agent={}))) == ["Learned return", "Mean over training"]


def test_a_fall_is_named_with_its_steps_and_returns(files: TrialFiles) -> None:
    flagged = with_result(files, overoptimisation={"true": FALL})
    watch = watch_of(flagged)
    assert watch is not None
    assert (watch.verdict, watch.word) == ("worse", "Over-optimised.")
    assert watch.sentence.startswith(
        "Between steps 6,000 and 10,500 the learned return rose from \N{MINUS SIGN}3.13 to 45.2 while the true return "
        "fell from 512 to 305"
    )
    assert fallen_steps(flagged) == (6_000, 10_500)


def test_a_fall_in_the_teachers_eyes_counts_too(files: TrialFiles) -> None:
    watch = watch_of(with_result(files, overoptimisation={"true": None, "teacher": FALL}))
    assert watch is not None
    assert "while the teacher's return fell from 512 to 305" in watch.sentence


def test_nothing_seen_says_what_was_watched(files: TrialFiles) -> None:
    watch = watch_of(files)
    assert watch is not None
    assert watch.word == "No over-optimisation seen."
    assert "the true return fell" in watch.sentence
    assert f"{len(files.evaluations)} evaluations may miss it: 11 and more would show it" in watch.sentence
    longer = watch_of(replace(files, evaluations=files.evaluations * 2))
    assert longer is not None
    assert longer.sentence.endswith("more than chance explains.")
    assert fallen_steps(files) is None


def test_a_curve_too_short_says_so(files: TrialFiles) -> None:
    short = replace(with_result(files, overoptimisation={}), evaluations=files.evaluations[:4])
    watch = watch_of(short)
    assert watch is not None
    assert "4 evaluations are too few" in watch.sentence


def test_trials_that_were_not_watched_say_nothing(files: TrialFiles) -> None:
    assert watch_of(replace(files, agent={**files.agent, "reward": "true"})) is None
    assert watch_of(with_result(files, overoptimisation=None)) is None
