"""What a search draws, remembers, and hands on to its confirmation."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml

from datamodules.conf import read_conf
from datamodules.errors import DataError, SettingsError, SuiteError
from datamodules.results import read_json, write_json
from sweeps.search import (
    JOURNAL,
    STUDY,
    WINNER,
    Sample,
    best_of,
    check_search,
    confirmations,
    distributions,
    pick_up,
    sampled,
    samples_of,
    storage_of,
    write_winner,
)
from sweeps.settings import Range, SearchSettings, SweepConfig, TrialConfig
from sweeps.slots import finite
from tests.sweeps.launched import kill_with_trials, run, start, wait_for, write_small

ROOT = Path(__file__).parents[2]
SPACE: dict[str, Range | list[Any]] = {"sac.actor_lr": Range(1e-4, 1e-2, log=True), "sac.gamma": [0.9, 0.99]}


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def sweep(out: Path, space: dict[str, Range | list[Any]] = SPACE) -> SweepConfig:
    base = replace(read_conf(TrialConfig, "conf/trials/demo.yaml"), reward="true")
    search = SearchSettings(space, samples=4, confirm_seeds=(100, 101))
    return SweepConfig(name="test", question="Better?", base=base, out=out, grid={"sac.tau": [0.01]}, search=search)


def draw(config: SweepConfig, **values: Any) -> optuna.trial.Trial:
    """A trial that is running with these values."""
    study = optuna.create_study(
        study_name=STUDY, storage=storage_of(config.out), direction="maximize", load_if_exists=True
    )
    study.enqueue_trial({f"sac.{key}": value for key, value in values.items()})
    assert config.search is not None
    return study.ask(fixed_distributions=distributions(config.search))


def tell(config: SweepConfig, trial: optuna.trial.Trial, value: float | None) -> None:
    study = optuna.load_study(study_name=STUDY, storage=storage_of(config.out))
    study.tell(trial.number, value, state=None if value is not None else optuna.trial.TrialState.FAIL)


def finish(config: SweepConfig, trial: optuna.trial.Trial) -> None:
    write_json(sampled(config, None, trial.params).config.out / "result.json", {"seconds": {"total": 1.0}})


def test_two_samples_are_two_trials_and_the_same_values_are_one(tmp_path: Path) -> None:
    config = sweep(tmp_path)
    one = sampled(config, "parent", {"sac.actor_lr": 0.002, "sac.gamma": 0.9})
    other = sampled(config, "parent", {"sac.actor_lr": 0.003, "sac.gamma": 0.9})
    assert (one.config.sac.actor_lr, one.config.sac.gamma, one.config.sac.tau) == (0.002, 0.9, 0.01)
    assert other.config.sac.actor_lr == 0.003
    assert one.config.tracking.parent == "parent"
    assert one.config.out != other.config.out
    assert one.name == sampled(config, None, {"sac.gamma": 0.9, "sac.actor_lr": 0.002}).name


def test_what_was_running_or_failed_is_drawn_again_and_what_is_done_counts(tmp_path: Path) -> None:
    config = sweep(tmp_path)
    done, failed, running = (draw(config, actor_lr=value, gamma=0.9) for value in (0.001, 0.002, 0.003))
    tell(config, done, 0.5)
    tell(config, failed, None)
    assert pick_up(config, storage_of(tmp_path), 0) == (1, 5)
    assert pick_up(config, storage_of(tmp_path), 0) == (1, 5)  # stopped again before anything was drawn: queued once
    study = optuna.load_study(study_name=STUDY, storage=storage_of(tmp_path))
    assert not [trial for trial in study.trials if trial.state == optuna.trial.TrialState.RUNNING]
    assert config.search is not None
    drawn = [study.ask(fixed_distributions=distributions(config.search)).params["sac.actor_lr"] for _ in range(2)]
    assert set(drawn) == {failed.params["sac.actor_lr"], running.params["sac.actor_lr"]}
    assert (tmp_path / JOURNAL).exists()


def test_what_was_drawn_and_is_not_allowed_fails_alone_and_is_not_drawn_again(tmp_path: Path) -> None:
    config = sweep(tmp_path, {"sac.total_steps": [2_000, 20_000], "sac.learning_starts": [1_000, 10_000]})
    check_search(config)  # each end is allowed
    draw(config, total_steps=2_000, learning_starts=10_000)
    with pytest.raises(SettingsError, match=r"sac\.learning_starts is 10000"):
        sampled(config, None, {"sac.total_steps": 2_000, "sac.learning_starts": 10_000})
    assert pick_up(config, storage_of(tmp_path), 0) == (0, 1)
    study = optuna.load_study(study_name=STUDY, storage=storage_of(tmp_path))
    assert [trial.state for trial in study.trials] == [optuna.trial.TrialState.FAIL]
    assert [(one.value, one.whole) for one in samples_of(config)] == [(None, False)]


def test_the_best_that_ran_to_its_end_wins(tmp_path: Path) -> None:
    config = sweep(tmp_path)
    good, better, early = (draw(config, actor_lr=value, gamma=0.9) for value in (0.001, 0.002, 0.003))
    for trial, value in ((good, 0.5), (better, 0.7), (early, 0.9)):
        tell(config, trial, value)
    finish(config, good)
    finish(config, better)
    samples = samples_of(config)
    assert [(one.value, one.whole) for one in samples] == [(0.7, True), (0.5, True), (0.9, False)]
    assert best_of(samples).values == {"sac.actor_lr": 0.002, "sac.gamma": 0.9}


def test_a_search_of_which_nothing_ended_has_no_winner() -> None:
    with pytest.raises(DataError, match="no trial of the search ran to its end"):
        best_of([Sample("one", {}, None, False), Sample("two", {}, 0.5, False)])


def test_the_winner_is_set_against_the_base_on_seeds_the_search_never_saw(tmp_path: Path) -> None:
    trials = confirmations(sweep(tmp_path), "parent", {"sac.actor_lr": 0.002, "sac.gamma": 0.9})
    other = confirmations(sweep(tmp_path), "parent", {"sac.actor_lr": 0.003, "sac.gamma": 0.9})
    winner = trials[2].name.partition("-")[0]
    assert [(trial.name, trial.config.seed, trial.config.sac.actor_lr) for trial in trials] == [
        ("base-seed_100", 100, 0.001),
        ("base-seed_101", 101, 0.001),
        (f"{winner}-seed_100", 100, 0.002),
        (f"{winner}-seed_101", 101, 0.002),
    ]
    assert winner not in {trial.name.partition("-")[0] for trial in other}  # going on may find another one
    assert {trial.config.sac.tau for trial in trials} == {0.01}
    assert trials[2].values == {"arm": "winner", "seed": "100"}


def test_the_winner_becomes_a_file_that_runs_as_a_trial(tmp_path: Path) -> None:
    config = sweep(tmp_path)
    path = write_winner(config, Sample("sample", {"sac.actor_lr": 0.002, "sac.gamma": 0.9}, 0.7, True))
    read = read_conf(TrialConfig, path)
    assert (read.sac.actor_lr, read.sac.gamma, read.sac.tau, read.reward) == (0.002, 0.9, 0.01, "true")
    assert (read.task, read.shared, read.tracking.parent) == (config.base.task, None, None)
    assert "sac.actor_lr 0.002" in path.read_text().splitlines()[0]
    assert yaml.safe_load(path.read_text())["sac"]["gamma"] == 0.9


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"sac.gama": [0.9]}, "unknown setting in search.space 'sac.gama': did you mean 'sac.gamma'"),
        ({"sac.gamma": Range(0.9, 1.5)}, r"sac\.gamma is 1\.5"),
        ({"sac.gamma": [0.9, 1.5, 0.99]}, r"sac\.gamma is 1\.5"),
    ],
)
def test_a_mistake_in_the_space_is_named(space: dict[str, Range | list[Any]], message: str, tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=message):
        check_search(sweep(tmp_path, space))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"space": {}}, "search.space is empty"),
        ({"space": SPACE, "samples": 1}, "search.samples is 1"),
        ({"space": SPACE, "grace": 0.0}, r"search\.grace is 0\.0"),
        ({"space": SPACE, "confirm_seeds": ()}, "at least one seed"),
        ({"space": {"sac.hidden": [[64, 64]]}}, "numbers, words and truth values"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        SearchSettings(**settings)


def test_a_range_needs_two_ends_in_order() -> None:
    with pytest.raises(SettingsError, match="low must lie below high"):
        Range(1.0, 0.5)
    with pytest.raises(SettingsError, match="above 0 where log is set"):
        Range(0.0, 0.5, log=True)


def test_a_grid_beside_a_search_only_sets(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"grid\.seed has several values and search is given"):
        replace(sweep(tmp_path), grid={"seed": [1, 2]})
    with pytest.raises(SettingsError, match="the seed of the search"):
        replace(sweep(tmp_path), base=replace(sweep(tmp_path).base, seed=100))


def test_a_figure_that_is_no_number_is_an_error_that_optuna_hears_of() -> None:
    assert finite(0.5) == 0.5
    for value in (float("nan"), float("inf")):
        with pytest.raises(SettingsError, match="these settings do not work"):
            finite(value)


TINY = """
search: {samples: 3, grace: 1.0, confirm_seeds: [100], space: {sac.gamma: {low: 0.9, high: 0.99}}}
"""


def drawn_in(config: SweepConfig) -> list[optuna.trial.FrozenTrial]:
    trials: list[optuna.trial.FrozenTrial] = optuna.load_study(study_name=STUDY, storage=storage_of(config.out)).trials
    return trials


def names_of(config: SweepConfig, state: optuna.trial.TrialState) -> list[str]:
    return [sampled(config, None, trial.params).name for trial in drawn_in(config) if trial.state == state]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_search_whose_driver_was_killed_loses_no_sample_and_doubles_none(tmp_path: Path) -> None:
    path = write_small(tmp_path, steps=256, more=TINY)
    config = read_conf(SweepConfig, path)
    complete, running = optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.RUNNING
    with start(path) as process:
        wait_for(lambda: any(config.out.glob("trials/*/result.json")), process)
        wait_for(lambda: names_of(config, complete) and names_of(config, running), process)
        kill_with_trials(process, config.out)
    before, interrupted = samples_of(config), names_of(config, running)
    assert interrupted
    assert 1 <= len(before) < 3

    done = run(path)
    assert done.returncode == 0, done.stderr
    finished = names_of(config, complete)
    assert len(finished) == len(set(finished)) == 3
    assert {one.name for one in before} | set(interrupted) <= set(finished)
    after = samples_of(config)
    assert [one for one in after if one in before] == before  # with the figures that they had
    assert all(one.whole for one in after)
    assert not [trial for trial in drawn_in(config) if not trial.state.is_finished()]
    status = read_json(config.out / "result.json")["status"]
    confirmed = confirmations(config, None, after[0].values)[1].name
    assert {name: each["status"] for name, each in status.items()} == {
        "base-seed_100": "finished",
        confirmed: "finished",
    }
    winner = read_conf(TrialConfig, config.out / WINNER)
    assert winner.sac.gamma == max(after, key=lambda one: one.value or 0.0).values["sac.gamma"]
    trained = read_json(config.out / "trials" / confirmed / "agent/agent.json")
    assert (trained["sac"]["gamma"], trained["seed"]) == (winner.sac.gamma, 100)
