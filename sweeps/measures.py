"""A trial's evaluation in words: the rows of its table, and whether the agent over-optimised its reward."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rllib_envs.overoptimisation import LEAST_EVALUATIONS
from sweeps.answer import number
from sweeps.trial_files import TrialFiles

Row = tuple[str, str, str]
"""name, figure, what it means"""

# Key in result.json -> name and meaning of a return over the final evaluation's episodes.
RETURNS = {
    "learned_return": ("Learned return", "the reward that the agent was trained on, summed over the same episodes"),
    "teacher_return": (
        "Teacher's return",
        "the teacher's own reward over the same frames, standardised as a student's",
    ),
}
GOLDS = {"true": "true return", "teacher": "teacher's return"}
TELLING_EVALUATIONS = 11
"""from so many evaluations on, simulated falls were flagged in 99 of 100 trainings (overoptimisation.py)"""


@dataclass(frozen=True)
class Watch:
    """What the monitor of over-optimisation has to say."""

    verdict: str
    """`worse` where it is flagged, else `unknown`: names of the page's colours"""
    word: str
    """the verdict in a word or two"""
    sentence: str
    """the verdict with its figures"""


def measure_rows(files: TrialFiles) -> list[Row]:
    """Everything the final evaluation measured beside the true return; empty where there was none."""
    result, task, rows = files.result, files.agent.get("task"), []
    if task and (score := result.get("score")):
        rows.append(_row("Normalised score", score, _meaning_of_score(task)))
    if task and (successes := result.get("successes")):
        rows.append(
            (
                "Successes",
                f"{sum(successes)} of {len(successes)} episodes",
                f"true reward a frame of at least {task['success_reward']:g} over the last tenth",
            )
        )
    for key, (name, meaning) in RETURNS.items():
        same = key == "learned_return" and files.reward == "true"  # the true return again
        if not same and (entry := result.get(key)):
            rows.append(_row(name, entry, meaning))
    if (area := result.get("area_under_curve")) is not None:
        rows.append(("Mean over training", number(area), "area under the true return's learning curve, over its steps"))
    return rows


def watch_of(files: TrialFiles) -> Watch | None:
    """Whether the learned return rose while a gold return fell, in words; None for a trial that was not watched."""
    found: Mapping[str, Any] | None = files.result.get("overoptimisation")
    if found is None or files.reward == "true" or not files.evaluations:
        return None
    flagged = {name: fall for name, fall in found.items() if fall}
    if flagged:
        name, fall = next(iter(flagged.items()))
        return Watch(
            "worse",
            "Over-optimised.",
            f"Between steps {fall['peak_steps']:,} and {fall['fallen_steps']:,} the learned return rose from "
            f"{number(fall['proxy_peak'])} to {number(fall['proxy_fallen'])} while the {GOLDS[name]} fell from "
            f"{number(fall['gold_peak'])} to {number(fall['gold_fallen'])}, more than chance explains.",
        )
    if not found:
        return Watch(
            "unknown",
            "Over-optimisation: not known.",
            f"{len(files.evaluations)} evaluations are too few to tell a fall from chance; {LEAST_EVALUATIONS} are the "
            "least (sac.evaluation_every_steps).",
        )
    golds = " or the ".join(GOLDS[name] for name in found)
    few = f" {len(files.evaluations)} evaluations may miss it: {TELLING_EVALUATIONS} and more would show it."
    return Watch(
        "unknown",
        "No over-optimisation seen.",
        f"At no time did the learned return rise while the {golds} fell, by more than chance explains."
        + (few if len(files.evaluations) < TELLING_EVALUATIONS else ""),
    )


def fallen_steps(files: TrialFiles) -> tuple[int, int] | None:
    """Agent steps between which the agent over-optimised its reward, if it did."""
    flagged = [fall for fall in (files.result.get("overoptimisation") or {}).values() if fall]
    return (flagged[0]["peak_steps"], flagged[0]["fallen_steps"]) if flagged else None


def _row(name: str, entry: Mapping[str, Any], meaning: str) -> Row:
    interval = f"95\N{NO-BREAK SPACE}% interval over episodes {number(entry['low'])} to {number(entry['high'])}"
    return name, number(entry["mean"]), f"{meaning}; {interval}"


def _meaning_of_score(task: Mapping[str, Any]) -> str:
    ends = task.get("score_range")
    if ends is None:
        return "share of the highest return that an episode can reach"
    return f"0 is a random policy ({number(ends[0])}), 1 the task's reference ({number(ends[1])})"
