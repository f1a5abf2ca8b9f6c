"""Figures of a comparison, for sweeps whose returns are known; expected values by hand and numpy."""

from pathlib import Path

import numpy as np
import pytest

from datamodules.errors import DataError
from datamodules.results import read_json, write_json
from sweeps.comparison import compare, curve_of, ratio
from sweeps.comparison_answer import answer_of, clear, gates_of, pick_of
from sweeps.comparison_page import median_trial
from sweeps.sweep_files import arm_name, read_sweep, read_trials
from tests.sweeps.swept import build_sweep

RETURNS = {
    "true": {"cartpole": [800.0, 820.0, 840.0], "reacher": [700.0, 720.0, 740.0]},
    "teacher": {"cartpole": [600.0, 620.0, 640.0], "reacher": [700.0, 500.0, 600.0]},
    "student": {"cartpole": [580.0, 600.0, 650.0], "reacher": [620.0, 600.0, 580.0]},
    "random": {"cartpole": [40.0, 50.0, 60.0], "reacher": [30.0, 40.0, -1.0]},
}


@pytest.fixture(scope="module")
def sweep(built_trial: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_sweep(tmp_path_factory.mktemp("swept") / "sweep", built_trial, RETURNS)


def test_arms_are_what_is_varied_but_tasks_and_seeds(sweep: Path) -> None:
    files = read_sweep(sweep)
    assert files.arms == ("true", "teacher", "student", "random")
    assert files.tasks == ("cartpole", "reacher")
    assert files.varied == ("reward",)
    assert len(files.trials) == 24
    assert len(files.finished) == 23
    (failed,) = [trial for trial in files.trials if trial.files is None]
    assert (failed.name, failed.status, failed.error) == (
        "task_reacher-reward_random-seed_2",
        "failed",
        "RuntimeError: out of memory",
    )


def test_arms_of_several_settings_have_names() -> None:
    assert arm_name({"sac.gamma": "0.9", "reward": "true"}) == "gamma 0.9, reward true"
    assert arm_name({}) == "all trials"


def test_figures_are_those_of_the_trials(sweep: Path) -> None:
    arms = {arm.name: arm for arm in compare(read_sweep(sweep)).arms}
    student = arms["student"]
    assert student.mean is not None
    assert student.overall is not None
    assert student.mean.value == pytest.approx(np.mean([0.58, 0.6, 0.65, 0.62, 0.6, 0.58]))
    assert student.overall.value == pytest.approx(np.mean([0.58, 0.6, 0.6, 0.62]))  # less the lowest and the highest
    cartpole = student.tasks["cartpole"]
    assert cartpole.final.value == pytest.approx(610.0)
    assert 580.0 <= cartpole.final.low < 610.0 < cartpole.final.high <= 650.0
    assert cartpole.area is not None
    assert cartpole.area.value == pytest.approx((30 + 610) / 2)
    assert arms["random"].finished == 5
    assert arms["random"].trials == 6


def test_the_threshold_is_half_way_to_the_best_arm_and_slow_runs_count(sweep: Path) -> None:
    found = compare(read_sweep(sweep))
    assert found.thresholds == {"cartpole": pytest.approx(30 + (820 - 30) / 2), "reacher": pytest.approx(375.0)}
    arms = {arm.name: arm for arm in found.arms}
    speed = arms["student"].tasks["cartpole"].speed
    assert speed is not None
    assert (speed.median, speed.reached) == (3000.0, 3)  # 425 lies between 30 + 570 / 2 and 30 + 570 * 3 / 4
    speed = arms["random"].tasks["cartpole"].speed
    assert speed is not None
    assert (speed.median, speed.reached, speed.runs) == (None, 0, 3)


def test_costs_are_means_and_compute_leaves_evaluations_out(sweep: Path) -> None:
    arms = {arm.name: arm for arm in compare(read_sweep(sweep)).arms}
    student, teacher = arms["student"].costs, arms["teacher"].costs
    assert student is not None
    assert teacher is not None
    assert student.compute == 100.0
    assert teacher.compute == 1200.0
    assert student.queries == 6000
    assert student.phases["update"] == 120.0


def test_evaluations_during_a_training_are_no_part_of_its_compute(built_trial: Path, tmp_path: Path) -> None:
    folder = build_sweep(tmp_path / "sweep", built_trial, {"teacher": {"cartpole": [600.0]}})
    (path,) = folder.glob("trials/*/agent/result.json")
    write_json(path, {**read_json(path), "evaluation_seconds": 200.0})
    (arm,) = compare(read_sweep(folder)).arms
    assert arm.costs is not None
    assert arm.costs.compute == 1200.0 - 200.0
    assert arm.costs.seconds["evaluate"] == 5.0 + 200.0


def test_improvement_is_the_share_of_pairs_won(sweep: Path) -> None:
    improvement = compare(read_sweep(sweep)).improvement
    assert improvement["true", "random"].value == 1.0
    # on cart-pole 3 of 9 pairs, on the reacher 4 and two ties
    assert improvement["student", "teacher"].value == pytest.approx(np.mean([3 / 9, (4 + 1) / 9]))


def test_a_lead_is_clear_where_chance_does_not_explain_it(sweep: Path) -> None:
    found = compare(read_sweep(sweep))
    assert clear(found, "true", "random")
    assert not clear(found, "teacher", "student")
    assert not clear(found, "random", "true")


def test_three_runs_against_three_are_clear_where_each_beats_each(built_trial: Path, tmp_path: Path) -> None:
    returns = {"true": {"cartpole": [800.0, 820.0, 830.0]}, "random": {"cartpole": [40.0, 50.0, 790.0]}}
    found = compare(read_sweep(build_sweep(tmp_path / "each", built_trial, returns)))
    assert (clear(found, "true", "random"), found.chance["true", "random"]) == (True, 1 / 20)
    returns["random"]["cartpole"][2] = 810.0  # 8 of 9: 2 ways in 20
    found = compare(read_sweep(build_sweep(tmp_path / "most", built_trial, returns)))
    assert (clear(found, "true", "random"), found.chance["true", "random"]) == (False, 2 / 20)


def test_two_runs_against_two_are_never_clear(built_trial: Path, tmp_path: Path) -> None:
    returns = {"true": {"cartpole": [800.0, 820.0]}, "random": {"cartpole": [40.0, 50.0]}}
    assert not clear(compare(read_sweep(build_sweep(tmp_path / "sweep", built_trial, returns))), "true", "random")


def test_the_gates_tell_pass_and_fail_with_their_figures(sweep: Path) -> None:
    share, compute = gates_of(compare(read_sweep(sweep)))
    expected = np.mean([610.0, 600.0]) / np.mean([620.0, 600.0])
    assert share.figure.startswith(f"{100 * expected:.0f}\N{NO-BREAK SPACE}%")
    assert share.word == "pass"
    assert (compute.word, compute.figure) == ("pass", "12.0 times lower")


def test_a_student_below_nine_tenths_fails(built_trial: Path, tmp_path: Path) -> None:
    returns = {"teacher": {"cartpole": [600.0, 640.0]}, "student": {"cartpole": [300.0, 320.0]}}
    share, _ = gates_of(compare(read_sweep(build_sweep(tmp_path / "sweep", built_trial, returns))))
    assert share.word == "fail"


def test_a_sweep_without_both_rewards_has_no_gates(built_trial: Path, tmp_path: Path) -> None:
    returns = {"true": {"cartpole": [600.0]}, "student": {"cartpole": [300.0]}}
    assert gates_of(compare(read_sweep(build_sweep(tmp_path / "sweep", built_trial, returns)))) == []


def test_the_cheapest_of_those_that_cannot_be_told_apart_is_picked(sweep: Path) -> None:
    first, second = pick_of(compare(read_sweep(sweep)))
    assert first.startswith("Pick student: normalised score .60 at 1 min 40 s a trial.")
    assert "teacher reaches .61" in second


def test_seconds_that_differ_by_chance_pick_nothing(built_trial: Path, tmp_path: Path) -> None:
    returns = {"teacher": {"cartpole": [600.0, 620.0, 640.0]}, "student": {"cartpole": [590.0, 610.0, 630.0]}}
    folder = build_sweep(tmp_path / "sweep", built_trial, returns)
    for path in folder.glob("trials/*/result.json"):
        result = read_json(path)
        write_json(
            path, {**result, "seconds": {"train": 109.0 if result["reward"] == "teacher" else 100.0, "total": 0.0}}
        )
    for path in folder.glob("trials/*/agent/result.json"):
        write_json(path, {**read_json(path), "seconds": 0.0})
    assert pick_of(compare(read_sweep(folder)))[0].startswith("Pick teacher: normalised score .62 at 1 min 49 s")


def test_the_answer_says_order_doubt_and_what_is_missing(sweep: Path) -> None:
    sentences = " ".join(answer_of(compare(read_sweep(sweep))))
    assert "Best: true, normalised score .77" in sentences
    assert "Second: teacher, .61" in sentences
    assert "its lead is more than chance" in sentences
    assert "Of 24 trials 1 did not finish" in sentences
    assert "2 finished of an arm on a task" in sentences


def test_the_answer_says_whose_students_follow_the_teacher(built_trial: Path, tmp_path: Path) -> None:
    folder = build_sweep(tmp_path / "sweep", built_trial, {"student": {"cartpole": [600.0, 610.0]}})
    assert "follow the teacher" not in " ".join(answer_of(compare(read_sweep(folder))))
    about = read_json(folder / "sweep.json")
    for entry, share in zip(about["trials"], ("0.5", "1.0"), strict=True):
        entry["values"] = {"share": share}
        path = folder / "trials" / entry["name"] / "result.json"
        result = read_json(path)
        write_json(
            path, {**result, "student": {**result["student"], "spearman_within_episode": 0.4 + float(share) / 2}}
        )
    write_json(folder / "sweep.json", {**about, "varied": ["share"]})
    sentences = answer_of(compare(read_sweep(folder)))
    assert "Inside an episode, students follow the teacher with Spearman .650 (0.5) to .900 (1.0)." in sentences


def test_an_arm_that_lacks_a_task_is_in_no_order_over_all(built_trial: Path, tmp_path: Path) -> None:
    returns = {
        "teacher": {"cartpole": [600.0], "reacher": [500.0]},
        "student": {"cartpole": [590.0], "reacher": [490.0]},
        "random": {"cartpole": [900.0], "reacher": [-1.0]},
    }
    found = compare(read_sweep(build_sweep(tmp_path / "sweep", built_trial, returns)))
    assert [arm.name for arm in found.ranked] == ["teacher", "student"]
    assert "says little" not in gates_of(found)[0].remark


def test_nothing_finished_is_said(built_trial: Path, tmp_path: Path) -> None:
    sweep = build_sweep(tmp_path / "sweep", built_trial, {"true": {"cartpole": [-1.0]}})
    assert answer_of(compare(read_sweep(sweep))) == ["Not known yet: of 1 trials none is finished."]


def test_ratio_is_that_of_means_over_tasks_and_needs_the_same_tasks() -> None:
    one = {"a": np.array([1.0, 3.0]), "b": np.array([4.0])}
    other = {"a": np.array([4.0]), "b": np.array([8.0])}
    found = ratio(one, other)
    assert found is not None
    assert found.value == pytest.approx(0.5)
    assert (found.low, found.high) == (pytest.approx(5 / 12), pytest.approx(7 / 12))
    assert ratio(one, {"a": np.array([1.0])}) is None


def test_the_median_seed_is_shown(sweep: Path) -> None:
    trials = [trial for trial in read_sweep(sweep).finished if (trial.arm, trial.task) == ("teacher", "reacher")]
    median = median_trial(trials)
    assert median is not None
    assert median.seed == 2
    assert curve_of(median) == ([0, 1000, 2000, 3000, 4000], [30.0, 172.5, 315.0, 457.5, 600.0])


def test_trials_put_together_by_hand_are_compared_by_what_differs(sweep: Path, tmp_path: Path) -> None:
    folders = sorted((sweep / "trials").glob("task_cartpole-reward_t*"))
    files = read_trials(folders, tmp_path, "Which?")
    assert files.varied == ("reward",)
    assert files.arms == ("teacher", "true")
    assert len(files.finished) == 6


def test_a_folder_without_a_sweep_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no sweep\.json.*--trials"):
        read_sweep(tmp_path)
