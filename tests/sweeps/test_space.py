"""From a sweep's grid to its trials."""

from pathlib import Path
from typing import Any

import pytest

from datamodules.conf import read_conf
from datamodules.errors import SuiteError, UnknownNameError
from sweeps.settings import SweepConfig, TrialConfig
from sweeps.space import trials_of

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def sweep(grid: dict[str, Any]) -> SweepConfig:
    base = read_conf(TrialConfig, "conf/trials/demo.yaml")
    return SweepConfig(name="test", question="Which?", base=base, out=Path("runs/test"), grid=grid)


def test_every_value_meets_every_other_and_one_value_is_simply_set() -> None:
    trials = trials_of(sweep({"reward": [True, "random"], "seed": [3, 4], "sac.gamma": [0.5]}))
    assert [trial.name for trial in trials] == [
        "reward_true-seed_3",
        "reward_true-seed_4",
        "reward_random-seed_3",
        "reward_random-seed_4",
    ]
    assert [(trial.config.reward, trial.config.seed) for trial in trials] == [
        ("true", 3),
        ("true", 4),
        ("random", 3),
        ("random", 4),
    ]
    assert {trial.config.sac.gamma for trial in trials} == {0.5}
    assert trials[0].values == {"reward": "true", "seed": "3"}


def test_an_arm_sets_several_settings_at_once() -> None:
    plan = {"refinement.queries": 5, "refinement": "conf/refinement/plan.yaml"}
    arms = {"in the loop": {"reward": "teacher"}, "refined": plan, "base": {}}
    teacher, refined, base = trials_of(sweep({"arm": arms}))
    assert [trial.values for trial in (teacher, refined, base)] == [{"arm": name} for name in arms]
    assert (teacher.config.reward, refined.config.reward, base.config.reward) == ("teacher", "student", "student")
    assert refined.config.refinement is not None
    assert (refined.config.refinement.queries, refined.config.refinement.every_steps) == (5, 50_000)


def test_a_value_may_bring_other_settings_along() -> None:
    few = {"task": "conf/tasks/cartpole_swingup.yaml", "collect.frames": 400}
    many = {"task": "conf/tasks/reacher_easy.yaml", "collect.frames": 800}
    pole, arm = trials_of(sweep({"task": {"pole": few, "arm": many}}))
    assert [trial.values for trial in (pole, arm)] == [{"task": "pole"}, {"task": "arm"}]
    assert [(trial.config.task.name, trial.config.collect.frames) for trial in (pole, arm)] == [
        ("cartpole_swingup", 400),
        ("reacher_easy", 800),
    ]
    with pytest.raises(UnknownNameError, match=r"setting in grid\.task 'collect\.frame'.*collect\.frames"):
        trials_of(sweep({"task": {"pole": {**few, "collect.frame": 400}}}))


def test_an_arm_has_the_last_word() -> None:
    arms = {"in the loop": {"reward": "teacher", "refinement": None}, "refined": {"refinement.queries": 6}}
    grid = {"refinement": ["conf/refinement/plan.yaml"], "arm": arms, "refinement.queries": [5]}
    teacher, refined = trials_of(sweep(grid))
    assert teacher.config.refinement is None
    assert refined.config.refinement is not None
    assert refined.config.refinement.queries == 6


def test_what_an_arm_sets_inside_a_group_stays_out_of_the_next_arms_trials() -> None:
    grid = {"refinement": ["conf/refinement/plan.yaml"], "arm": {"few": {"refinement.queries": 6}, "plan": {}}}
    few, plan = (trial.config.refinement for trial in trials_of(sweep(grid)))
    assert few is not None
    assert plan is not None
    assert (few.queries, plan.queries) == (6, 10)


@pytest.mark.parametrize(
    ("arms", "message"),
    [
        (["teacher", "student"], "must give names to groups of settings"),
        ({"teacher": "teacher"}, "must give names to groups of settings"),
        ({"teacher": {"rewad": "teacher"}}, "rewad"),
    ],
)
def test_arms_that_set_nothing_are_refused(arms: Any, message: str) -> None:
    with pytest.raises(SuiteError, match=message):
        trials_of(sweep({"arm": arms}))


def test_trials_lie_in_the_sweeps_folder_and_share_what_they_can() -> None:
    (trial,) = trials_of(sweep({"seed": [1]}))
    assert trial.config.out == Path("runs/test/trials/trial")
    assert trial.config.shared == Path("runs/test/shared")
    assert trial.config.tracking.experiment == "test"


def test_a_group_takes_files_and_nothing_of_the_one_before_stays() -> None:
    _, reacher = trials_of(sweep({"task": ["conf/tasks/cartpole_swingup.yaml", "conf/tasks/reacher_easy.yaml"]}))
    assert reacher.values == {"task": "reacher_easy"}
    assert reacher.config.task.camera.name == "fixed"
    assert reacher.config.task.camera.distance is None  # cart-pole's is 5


def test_settings_inside_a_group_outlive_the_groups_own_change() -> None:
    grid = {"sac.gamma": [0.5], "sac": ["conf/sac/default.yaml"]}
    (trial,) = trials_of(sweep(grid))
    assert (trial.config.sac.gamma, trial.config.sac.hidden) == (0.5, (256, 256))


def test_values_can_have_names() -> None:
    prompts = {"short": {"goal": ["a pole"]}, "long one": {"goal": ["an upright pole"], "baseline": ["a pole"]}}
    trials = trials_of(sweep({"task.prompts": prompts}))
    assert [trial.name for trial in trials] == ["prompts_short", "prompts_long_one"]
    assert [trial.config.task.prompts.goal for trial in trials] == [("a pole",), ("an upright pole",)]
    assert trials[0].config.task.prompts.baseline == ()


def test_settings_of_the_fit_are_handed_on() -> None:
    trials = trials_of(sweep({"fit.model.backbone": ["resnet18", "resnet34"], "fit.data.data_fraction": [0.5]}))
    assert [trial.config.fit for trial in trials] == [
        {"model": {"backbone": name}, "data": {"data_fraction": 0.5}} for name in ("resnet18", "resnet34")
    ]


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"sac.gama": [0.5]}, "unknown setting in grid 'sac.gama': did you mean 'sac.gamma'"),
        ({"out": ["x"]}, "unknown setting in grid 'out'"),
        ({"sac.gamma": [0.9, 2.0]}, r"trial gamma_2\.0: sac\.gamma is 2\.0: it must be at least 0 and below 1"),
        ({"reward": ["studnt", "true"]}, "trial reward_studnt is no valid trial"),
        ({"seed": []}, "grid.seed has no values"),
        ({"seed": [1, 1]}, "grid.seed has a value twice"),
        ({"task.prompts.goal": [["a" * 41], ["b"]]}, "give names to the values"),
        ({"task": ["conf/tasks/nowhere.yaml"]}, "there is no file 'conf/tasks/nowhere.yaml'"),
        ({"last_stage": ["fit"], "reward": ["true"]}, "only a student is fitted"),
    ],
)
def test_a_mistake_is_named(grid: dict[str, Any], message: str) -> None:
    with pytest.raises(SuiteError, match=message):
        trials_of(sweep(grid))
