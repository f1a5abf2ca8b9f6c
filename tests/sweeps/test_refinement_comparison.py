"""What a sweep of refinements says, for records that are known; expected values by hand."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from datamodules.results import read_json, write_json
from rllib_envs.refinement_records import RECORD, RefinementRecord, refinement_folder
from rllib_envs.refinement_settings import RefinementSettings, Strategy
from sweeps.comparison import Comparison, compare
from sweeps.comparison_answer import gates_of, pick_of
from sweeps.comparison_page import write_comparison_page
from sweeps.refinement_answer import refined_rows, refinement_sentences
from sweeps.refinement_comparison import baseline_of, refined_arms
from sweeps.sweep_files import read_sweep
from tests.sweeps.page_reader import Page
from tests.sweeps.swept import write_trial

FIRST = RefinementRecord(1, 100, True, "accepted", 2.0, 1.0, 4, 6, 4.0, 1.0, 0.0, 0.1, 0.1, 1.0, 1.0, 1.0)
REJECTED = replace(
    FIRST, number=2, steps=200, accepted=False, reason="it grew", audited_error_before=0.5, audited_error_after=0.9
)
QUERIES = {"teacher": 10_100, "student": 100, "random": 120, "spread": 120, "few": 110}
FINALS = {
    "teacher": [700.0, 720.0, 710.0, 705.0, 715.0],
    "student": [200.0, 210.0, 220.0, 190.0, 180.0],
    "random": [500.0, 510.0, 520.0, 490.0, 480.0],
    "spread": [690.0, 700.0, 710.0, 720.0, 730.0],
    "few": [600.0, 610.0, 590.0, 620.0, 580.0],
}
STRATEGIES: Mapping[str, Strategy] = {"random": "random", "spread": "spread", "few": "coreset"}


def write_refinements(trial: Path, strategy: Strategy, records: Sequence[RefinementRecord]) -> None:
    """Add refinements to a trial's agent, whose training took 50 seconds, 5 of them for these."""
    agent = trial / "agent"
    for record in records:
        write_json(refinement_folder(agent, record.number) / RECORD, asdict(record))
    card, training = read_json(agent / "agent.json"), read_json(agent / "result.json")
    write_json(agent / "agent.json", {**card, "refinement": asdict(RefinementSettings(strategy=strategy))})
    summary = {
        "teacher_queries": sum(record.asked + record.audited for record in records),
        "query_budget": 240,
        "made": len(records),
        "accepted": sum(record.accepted for record in records),
        "exploited": False,
        "seconds": {"refine": 3.0, "relabel": 2.0},
    }
    costs = {"update": 45.0, "refine": 5.0}
    write_json(agent / "result.json", {**training, "refinement": summary, "costs": costs})


@pytest.fixture(scope="module")
def found(built_trial: Path, tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    folder = tmp_path_factory.mktemp("refined") / "sweep"
    entries = []
    for arm, finals in FINALS.items():
        for seed, final in enumerate(finals):
            name, reward = f"arm_{arm}-seed_{seed}", "teacher" if arm == "teacher" else "student"
            entries.append({"name": name, "values": {"arm": arm}, "task": "cartpole", "seed": seed})
            trial = folder / "trials" / name
            write_trial(trial, built_trial, task="cartpole", reward=reward, seed=seed, final=final)
            result = read_json(trial / "result.json")
            write_json(trial / "result.json", {**result, "teacher_queries": QUERIES[arm], "labelling_queries": 100})
            if arm in STRATEGIES:
                both = [replace(FIRST, audited_error_before=4.0 + seed), REJECTED]
                write_refinements(trial, STRATEGIES[arm], both[:1] if arm == "few" else both)
    content = {"name": "refinement", "question": "Which?", "varied": ["arm"], "trials": entries, "command": "x"}
    write_json(folder / "sweep.json", content)
    return compare(read_sweep(folder))


def test_error_is_that_of_the_student_before_each_look_over_the_queries_so_far(found: Comparison) -> None:
    random, spread, few = refined_arms(found)
    assert [each.arm.name for each in (random, spread, few)] == ["random", "spread", "few"]
    looks = random.looks["cartpole"]
    assert [look.queries for look in looks] == [0, 10, 20]
    # seeds begin at 4 to 8; a rejected refinement leaves the error as it was
    assert [look.error.value for look in looks] == pytest.approx([6.0, 0.5, 0.5])
    assert [look.queries for look in few.looks["cartpole"]] == [0, 10]
    assert [look.error.value for look in few.looks["cartpole"]] == pytest.approx([6.0, 1.0])
    assert spread.last_error is not None
    assert spread.last_error.value == pytest.approx(0.5)


def test_costs_are_those_of_the_trainings(found: Comparison) -> None:
    random, _, few = refined_arms(found)
    assert (random.queries, few.queries) == (20, 10)
    assert (random.accepted, random.made) == (5, 10)
    assert (random.seconds, random.share) == (5.0, 0.1)


def test_the_baseline_is_the_strategy_that_asks_at_random(found: Comparison) -> None:
    baseline = baseline_of(refined_arms(found))
    assert baseline is not None
    assert baseline.arm.name == "random"


def test_an_arm_called_random_may_be_picked_where_it_is_no_random_reward(found: Comparison) -> None:
    assert {arm.name for arm in found.arms if arm.reference} == set()
    assert pick_of(found)[0].startswith("Pick spread")


def test_the_gate_takes_the_best_arm_that_asks_few_enough_questions(found: Comparison) -> None:
    # a training has 12,000 decisions, a 500th of them is 24, so all arms are frugal; interquartile means of five runs
    # are those of the middle three
    (gate,) = gates_of(found)
    assert gate.word == "pass"
    assert gate.figure.startswith("spread: 100")
    assert gate.figure.endswith("on 1/600 of the queries")
    assert "20 queries in the training, where the teacher in the loop is asked at 12,000 decisions" in gate.remark
    assert "with those that labelled the student's first frames 120" in gate.remark


def test_the_answer_names_what_beats_the_bare_student_and_random_questions(found: Comparison) -> None:
    helps, earns = refinement_sentences(found)
    assert helps == "Refinement helps: random, spread, few clearly beat the student that is left as it was."
    assert earns == "spread and few clearly beat questions asked at random."


def test_the_page_has_a_row_for_every_refined_arm(found: Comparison) -> None:
    rows = refined_rows(found)
    assert [(row.name, row.strategy, row.queries, row.accepted) for row in rows] == [
        ("random", "random", "20", "5 of 10"),
        ("spread", "spread", "20", "5 of 10"),
        ("few", "coreset", "10", "5 of 5"),
    ]
    # by hand: 500 / 710, the means of the middle three
    assert rows[0].share is not None
    assert rows[0].share[0] == f"{100 * np.mean([490, 500, 510]) / np.mean([705, 710, 715]):.0f}\N{NO-BREAK SPACE}%"
    assert rows[0].beats is None  # itself
    assert rows[1].beats == ("100\N{NO-BREAK SPACE}%", "95 % 100\N{NO-BREAK SPACE}% to 100\N{NO-BREAK SPACE}%")
    page = Page(write_comparison_page(found))
    assert "What the questions buy" in page.headings


def test_a_sweep_without_refinements_says_nothing_of_them(built_trial: Path, tmp_path: Path) -> None:
    write_trial(tmp_path / "trials/one", built_trial, task="cartpole", reward="student", seed=0, final=500.0)
    entries = [{"name": "one", "values": {}, "task": "cartpole", "seed": 0}]
    write_json(
        tmp_path / "sweep.json", {"name": "one", "question": "Which?", "varied": [], "trials": entries, "command": "x"}
    )
    found = compare(read_sweep(tmp_path))
    assert (refined_arms(found), refinement_sentences(found), refined_rows(found)) == ([], [], [])
    assert "What the questions buy" not in Page(write_comparison_page(found)).headings
