"""A sweep's page and tables: self-contained, well-formed, with the trials' own figures."""

import json
import shutil
from pathlib import Path

import pytest

from datamodules.errors import SettingsError
from datamodules.results import read_json, write_json
from lightning_modules.student_files import save_student
from sweeps.comparison_figures import draw_comparison
from sweeps.comparison_tables import Table
from sweeps.sweep_files import read_sweep
from sweeps.sweep_report import address_of, conclude_sweep, report_runs, write_report
from tests.lightning_modules.students import made_student
from tests.sweeps.page_reader import Page
from tests.sweeps.swept import build_sweep
from tests.sweeps.test_comparison import RETURNS


@pytest.fixture(scope="module")
def reported(built_trial: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    sweep = build_sweep(tmp_path_factory.mktemp("reported") / "sweep", built_trial, RETURNS)
    assert report_runs(sweep, [], None, "", "python -m scripts.report_runs") == sweep / "figures/result.json"
    return sweep


def test_the_page_is_one_file_that_fetches_nothing(reported: Path) -> None:
    page = Page(reported / "comparison.html")
    assert page.headings == [
        "What to pick",
        "The project's targets",
        "Side by side",
        "Learning",
        "How sure is the order",
        "What it costs",
        "Better at the reward than at the task?",
        "The agents",
        "Not finished",
        "Do it again",
    ]
    # the icon; curves and finals of two tasks; profiles, improvement, stages, phases and front; eight videos
    assert len(page.addresses) == 1 + 2 * 2 + 5 + 2 * 4
    assert all(address.startswith("data:") for address in page.addresses)
    assert all(page.alternatives)


def test_figures_on_the_page_are_those_of_the_trials(reported: Path) -> None:
    text = Page(reported / "comparison.html").text
    assert "Which reward is best?" in text
    assert "23 of 24" in text
    assert "610 95 %" in text  # the student's mean on cart-pole
    assert "pass: the student's agent reaches more than 90 % of the teacher's. 99 %" in text
    assert "12.0 times lower" in text
    assert "task_reacher-reward_random-seed_2 failed RuntimeError: out of memory" in text
    assert "cartpole 425" in text  # the threshold
    # the labels of a task once for its three students, and the teacher's six agents
    assert f"{2 * 6000 + 6 * 9000:,}" in text


def test_tables_and_figures_for_a_paper_lie_beside_it(reported: Path) -> None:
    table = (reported / "paper/table.md").read_text().splitlines()
    columns = ("reward", "IQM normalised score", "cartpole", "reacher", "student's Spearman", "trials", "compute")
    assert table[0] == f"| {' | '.join(columns)} | teacher queries |"
    assert table[4].startswith("| student | .60 (")
    assert table[4].endswith("| .913 | 6 of 6 | 1 min 40 s | 6,000 |")
    assert r"\begin{tabular}{lrrrrrrr}" in (reported / "paper/table.tex").read_text()
    assert (reported / "paper/curves-cartpole.pdf").read_bytes().startswith(b"%PDF")


def test_the_result_holds_every_figure(reported: Path) -> None:
    result = json.loads((reported / "figures/result.json").read_text())
    assert result["arms"]["student"]["tasks"]["cartpole"]["final"]["value"] == pytest.approx(610.0)
    assert [gate["word"] for gate in result["gates"]] == ["pass", "pass"]
    assert set(result["improvement"]) >= {"student over teacher", "teacher over student"}


def test_the_end_of_a_sweep_names_what_failed_and_where_to_look(
    reported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert conclude_sweep(reported / "result.json")
    told = capsys.readouterr().err
    assert "task_reacher-reward_random-seed_2: failed: RuntimeError: out of memory" in told
    assert (
        "make ui STORE=sqlite:///x.db, then http://127.0.0.1:5000/#/experiments/7/runs?viewStateShareKey=sweep" in told
    )
    assert str(reported / "comparison.html") in told


def test_a_server_is_addressed_itself() -> None:
    assert (
        address_of("http://tracking:5000/", "7") == "http://tracking:5000/#/experiments/7/runs?viewStateShareKey=sweep"
    )


def test_either_a_sweep_or_trials_are_given(tmp_path: Path) -> None:
    for sweep, trials in ((None, []), (tmp_path, [tmp_path])):
        with pytest.raises(SettingsError, match="either --sweep FOLDER, or --trials"):
            report_runs(sweep, trials, None, "", "")


def test_what_latex_reads_as_commands_is_escaped() -> None:
    table = Table(["a_b"], [["95 % & more"]])
    assert r"a\_b \\" in table.latex()
    assert r"95 \% \& more \\" in table.latex()


def test_a_setting_whose_values_are_numbers_gets_a_line_over_them(built_trial: Path, tmp_path: Path) -> None:
    returns = {"0.25": {"cartpole": [300.0, 320.0]}, "1": {"cartpole": [600.0]}, "0.5": {"cartpole": [400.0]}}
    found = write_report(read_sweep(build_sweep(tmp_path / "sweep", built_trial, returns)))
    trend = draw_comparison(found)["trend"].svg().decode()
    assert "Final true return on cartpole" in trend
    assert "The student's Spearman inside an episode" in trend
    assert "Over reward: means over seeds" in Page(tmp_path / "sweep/comparison.html").text


def test_a_sweep_of_fits_shows_fidelity_and_no_agents(built_trial: Path, tmp_path: Path) -> None:
    sweep = build_sweep(tmp_path / "sweep", built_trial, {"student": {"cartpole": [1.0, 2.0]}})
    for result in sweep.glob("trials/*/result.json"):
        content = read_json(result)
        kept = {key: value for key, value in content.items() if key not in {"score", "true_return", "agent"}}
        write_json(result, kept)
        shutil.rmtree(result.parent / "agent")
    write_report(read_sweep(sweep))
    page = Page(sweep / "comparison.html")
    assert "Only student is there: Spearman inside an episode .913" in page.text
    assert {"Seed by seed", "What it costs"} <= set(page.headings)
    assert not {"The agents", "Better at the reward than at the task?", "The project's targets"} & set(page.headings)


def test_students_alone_are_compared_by_how_long_an_agent_waits_for_them(built_trial: Path, tmp_path: Path) -> None:
    returns = {"student": {"cartpole": [1.0, 2.0]}, "other": {"cartpole": [3.0]}}
    sweep = build_sweep(tmp_path / "sweep", built_trial, returns)
    for result in sweep.glob("trials/*/result.json"):
        content = read_json(result)
        write_json(result, {key: content[key] for key in content if key not in {"score", "true_return", "agent"}})
        shutil.rmtree(result.parent / "agent")
        shutil.rmtree(result.parent / "student")
        save_student(result.parent / "student", *made_student())
    found = write_report(read_sweep(sweep))
    waits = [arm.costs.latency for arm in found.arms if arm.costs and arm.costs.latency]
    assert len(waits) == 2
    assert all(0 < wait < 10 for wait in waits)
    assert "milliseconds of a call with one frame" in draw_comparison(found)["latency"].svg().decode()
    assert "Reward call" in Page(sweep / "comparison.html").text


def test_a_search_is_told_beside_the_confirmation_of_its_winner(built_trial: Path, tmp_path: Path) -> None:
    returns = {"base": {"cartpole": [500.0, 520.0]}, "winner": {"cartpole": [600.0, 620.0]}}
    sweep = build_sweep(tmp_path / "sweep", built_trial, returns)
    samples = [
        {"name": "sample_a", "values": {"sac.gamma": 0.98765}, "value": 0.61234, "whole": True},
        {"name": "sample_b", "values": {"sac.gamma": 0.9}, "value": 0.1, "whole": False},
        {"name": "sample_c", "values": {"sac.gamma": 0.91}, "value": None, "whole": False},
    ]
    search = {"samples": samples, "winner": "sample_a", "conf": "winner.yaml"}
    write_json(sweep / "sweep.json", {**read_json(sweep / "sweep.json"), "search": search})
    write_report(read_sweep(sweep))
    page = Page(sweep / "comparison.html")
    assert "The search" in page.headings
    assert "3 trials with one seed" in page.text
    assert "1 ran to their end" in page.text
    assert "sample_a winner 0.988 0.612 whole" in page.text
    assert "sample_b 0.9 0.100 ended early" in page.text
    assert "sample_c 0.91 \N{EN DASH} failed" in page.text
    assert "Best: winner" in page.text
