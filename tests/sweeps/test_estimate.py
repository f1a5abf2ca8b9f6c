"""What a sweep will cost: what is shared counts once, what is measured takes the place of the rule."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from datamodules.conf import read_conf
from datamodules.results import write_json
from sweeps.estimate import PER_UNIT, SLOWER, measured_rates, print_estimate, seconds_of, work_of
from sweeps.settings import SearchSettings, SweepConfig, TrialConfig
from sweeps.space import trials_of

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def sweep(out: Path, grid: dict[str, Any]) -> SweepConfig:
    base = read_conf(TrialConfig, "conf/trials/demo.yaml")
    return SweepConfig(name="test", question="Which?", base=base, out=out, grid=grid)


def test_work_is_frames_epochs_steps_and_episodes(tmp_path: Path) -> None:
    (trial,) = trials_of(sweep(tmp_path, {"fit.data.data_fraction": [0.5]}))
    work = {each.stage: each for each in work_of(trial.config)}
    assert {stage: each.units for stage, each in work.items()} == {
        "collect": 6000,
        "label": 6000,
        "fit": 6000 * 0.5 * 8,  # epochs of conf/student/quick.yaml
        "train": 10_000,
        "evaluate": 10,
    }
    assert {stage: each.queries for stage, each in work.items() if each.queries} == {"label": 6000}
    assert seconds_of(work["collect"], {}) == pytest.approx(6000 * PER_UNIT["collect"])
    assert seconds_of(work["collect"], {work["collect"].kind: 0.5}) == 3000


def test_larger_backbones_take_longer(tmp_path: Path) -> None:
    grid = {"fit.model.backbone": ["test_efficientnet", "resnet18"]}
    small, large = ({each.stage: each for each in work_of(trial.config)} for trial in trials_of(sweep(tmp_path, grid)))
    assert seconds_of(large["fit"], {}) == pytest.approx(SLOWER["fit resnet18"] * seconds_of(small["fit"], {}))
    assert seconds_of(large["collect"], {}) == seconds_of(small["collect"], {})


def test_a_teacher_in_the_loop_is_asked_at_every_step_and_evaluation(tmp_path: Path) -> None:
    (trial,) = trials_of(sweep(tmp_path, {"reward": ["teacher"]}))
    work = {each.stage: each for each in work_of(trial.config)}
    # six evaluations of 5 episodes with 125 decisions, and the final 10 episodes
    assert work["train"].queries == 10_000 + 6 * 5 * 125
    assert work["evaluate"].queries == 10 * 125


def test_a_refined_trial_asks_at_each_look_before_its_end_and_never_more_than_its_budget(tmp_path: Path) -> None:
    grid = {
        "arm": {
            "three looks": {},
            "three of four": {"sac.total_steps": 4, "sac.learning_starts": 0, "refinement.every_steps": 1},
            "small budget": {"refinement.query_budget": 100},
            "no look": {"refinement.every_steps": 10_000},
            "two CLIPs": {"teacher": "conf/teacher/vit_b32_and_l14.yaml", "refinement.query_budget": 1000},
        },
        "refinement": ["conf/refinement/default.yaml"],  # 32 queries and 16 audits every 2,500 of 10,000 steps
    }
    works = [
        next(each for each in work_of(trial.config) if each.stage == "train")
        for trial in trials_of(sweep(tmp_path, grid))
    ]
    assert [work.queries for work in works] == [3 * 48, 3 * 48, 100, 0, 2 * 3 * 48]
    assert [work.looks for work in works] == [3, 3, 3, 0, 3]
    (plain,) = trials_of(sweep(tmp_path, {}))
    unrefined = next(each for each in work_of(plain.config) if each.stage == "train")
    # a look takes 6 seconds and each of its queries 5 milliseconds
    assert seconds_of(works[0], {}) - seconds_of(unrefined, {}) == pytest.approx(3 * 6.0 + 144 * 0.005)
    assert works[0].kind != unrefined.kind


def test_a_search_costs_its_samples_and_the_confirmation_of_its_winner(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    search = SearchSettings({"fit.data.batch_size": [16, 32, 64]}, samples=3, confirm_seeds=(100, 101))
    print_estimate(replace(sweep(tmp_path, {"last_stage": ["fit"]}), search=search))
    table = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in table[1:4]] == ["sample 1 of 3", "sample 2 of 3", "sample 3 of 3"]
    assert "collect, label, fit" in table[1]
    assert " fit " in table[2]
    assert "label" not in table[2]  # the frames of the first
    assert "7 of 7 trials to run: 18,000 teacher queries" in "\n".join(table)  # of the search's seed and two more
    assert "ends most of its samples early" in "\n".join(table)


def test_finished_trials_tell_what_a_unit_takes(tmp_path: Path) -> None:
    trials = trials_of(sweep(tmp_path, {"reward": ["true", "random"]}))
    write_json(trials[0].config.out / "result.json", {"seconds": {"train": 50.0, "evaluate": 20.0, "total": 70.0}})
    assert measured_rates(trials) == {
        "train SacSettings cartpole_swingup true False": pytest.approx(0.005),
        "evaluate cartpole_swingup true": pytest.approx(2.0),
    }


def test_what_trials_share_is_counted_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grid = {"fit.model.backbone": ["test_efficientnet", "mobilenetv3_small_050"], "last_stage": ["fit"], "seed": [0, 1]}
    assert print_estimate(sweep(tmp_path, grid)) == tmp_path
    told = capsys.readouterr().out.splitlines()
    assert told[1].split()[1:] == ["collect,", "label,", "fit", "6,000", "1", "min", "50", "s"]
    assert told[3].split()[1:4] == ["fit", "0", "1"]
    assert "4 of 4 trials to run: 12,000 teacher queries" in told[-2]
    assert list(tmp_path.iterdir()) == []
