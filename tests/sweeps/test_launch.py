"""Whole sweeps, small but real: Ray Tune, RLlib SAC, MLflow; killed, interrupted, and with a trial that cannot work."""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import mlflow
import pytest

from datamodules.conf import read_conf
from datamodules.errors import DataError
from datamodules.results import write_json
from sweeps.journal import Journal
from sweeps.launch import check_trials, launch_sweep
from sweeps.settings import SweepConfig
from sweeps.space import trials_of
from sweeps.trial import stages_of
from tests.sweeps.launched import SECONDS, holders, kill_with_trials, run, start, wait_for, write_small

GRID = "sac.gamma: [0.9, 0.5], seed: [0, 1]"
pytestmark = pytest.mark.timeout(1200)  # four starts of Ray, on a machine that may be busy


def settings(folder: Path) -> Path:
    return write_small(folder, steps=512, grid=GRID)


def sweep_of(config: Path) -> Path:
    return config.parent / "sweep"


def evaluated(config: Path) -> list[Path]:
    return [path for path in sweep_of(config).glob("trials/*/agent/evaluations.jsonl") if path.stat().st_size]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A sweep whose driver and then one of whose trials was killed, which was then interrupted, and started again.

    One of its trials cannot work: a file lies where its agent belongs.
    """
    config = settings(tmp_path_factory.mktemp("sweep"))
    broken = sweep_of(config) / "trials/gamma_0.5-seed_1/agent"
    broken.parent.mkdir(parents=True)
    broken.write_text("in the way")
    with start(config) as process:
        wait_for(lambda: evaluated(config), process)
        kill_with_trials(process, sweep_of(config))
    log = evaluated(config)[0].parents[1] / "log.txt"
    before = len(results(config))
    with start(config) as process:
        wait_for(lambda: holders(log), process)
        for pid in holders(log):
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: len(results(config)) > before, process)
        process.send_signal(signal.SIGINT)
        process.wait(SECONDS)
        assert process.returncode == 130
        assert process.stderr is not None
        assert "every trial ends at its next step" in process.stderr.read()
    return config, run(config)


def results(config: Path) -> dict[str, Any]:
    return {path.parent.name: json.loads(path.read_text()) for path in sweep_of(config).glob("trials/*/result.json")}


@pytest.mark.slow
def test_a_sweep_goes_on_after_any_stop_and_one_failing_trial_stops_no_other(
    finished: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    config, done = finished
    assert done.returncode == 1, done.stderr
    assert done.stdout.splitlines()[-1] == str(sweep_of(config) / "result.json")
    assert set(results(config)) == {"gamma_0.9-seed_0", "gamma_0.9-seed_1", "gamma_0.5-seed_0"}
    status = json.loads((sweep_of(config) / "result.json").read_text())["status"]
    assert {name: each["status"] for name, each in status.items()} == {
        "gamma_0.9-seed_0": "finished",
        "gamma_0.9-seed_1": "finished",
        "gamma_0.5-seed_0": "finished",
        "gamma_0.5-seed_1": "failed",
    }
    assert "FileExistsError" in status["gamma_0.5-seed_1"]["error"]
    assert "gamma_0.5-seed_1: failed" in done.stderr
    assert "Traceback" in (sweep_of(config) / "trials/gamma_0.5-seed_1/log.txt").read_text()


@pytest.mark.slow
def test_what_was_sampled_arrives_in_the_trial(finished: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    config, _ = finished
    trained = {
        path.parents[1].name: json.loads(path.read_text())
        for path in sweep_of(config).glob("trials/*/agent/agent.json")
    }
    assert {name: (card["sac"]["gamma"], card["seed"]) for name, card in trained.items()} == {
        "gamma_0.9-seed_0": (0.9, 0),
        "gamma_0.9-seed_1": (0.9, 1),
        "gamma_0.5-seed_0": (0.5, 0),
    }
    returns = {tuple(each["learned_return"]["episodes"]) for each in results(config).values()}
    assert len(returns) == 3


@pytest.mark.slow
def test_every_trial_has_one_run_below_that_of_the_sweep_and_none_is_left_open(
    finished: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    config, done = finished
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{config.parent}/mlflow.db")
    experiment = client.get_experiment_by_name("small")
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert len(client.search_runs([experiment.experiment_id])) == len(runs)
    parent = runs.pop("small")
    assert parent.data.metrics["final/failed_trials"] == 1
    assert f"#/experiments/{experiment.experiment_id}" in done.stderr
    assert set(runs) == {"gamma_0.9-seed_0", "gamma_0.9-seed_1", "gamma_0.5-seed_0", "gamma_0.5-seed_1"}
    assert {run.data.tags["mlflow.parentRunId"] for run in runs.values()} == {parent.info.run_id}
    assert {name for name, run in runs.items() if run.info.status == "FINISHED"} == set(results(config))
    assert runs["gamma_0.5-seed_1"].info.status == "FAILED"


@pytest.mark.slow
def test_a_trial_of_other_settings_is_refused_before_any_starts(
    finished: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    config, _ = finished
    other = run(config, "--base.sac.tau", "0.5")
    assert other.returncode == 2
    assert "there sac.tau is 0.005, here it is 0.5" in other.stderr


def small(folder: Path, **changed: object) -> SweepConfig:
    config = settings(folder)
    for key, value in changed.items():
        with config.open("a") as stream:
            stream.write(f"{key}: {value}\n")
    return read_conf(SweepConfig, config)


def test_a_trial_is_finished_when_its_page_is_done_and_its_records_are_delivered(tmp_path: Path) -> None:
    (trial,) = trials_of(read_conf(SweepConfig, write_small(tmp_path, steps=512)))
    out, journal = trial.config.out, Journal(trial.config.out)
    for stage in stages_of(trial.config):
        (out / stage.folder).mkdir(parents=True)
        journal.finish(stage, {}, 1.0)
    assert check_trials([trial]) == [trial]
    write_json(out / "result.json", {"seconds": {"train": 1.0}})  # as it is before the page
    assert check_trials([trial]) == [trial]
    write_json(out / "result.json", {"seconds": {"train": 1.0, "total": 2.0}})
    assert check_trials([trial]) == []
    (out / "mlflow.spool").write_text("")
    assert check_trials([trial]) == [trial]


def test_going_on_where_nothing_was_begun_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no sweep to go on with"):
        launch_sweep(small(tmp_path, resume="true"), "")


def test_a_mistake_in_one_trial_is_named_before_any_starts(tmp_path: Path) -> None:
    sweep = small(tmp_path)
    trials = trials_of(read_conf(SweepConfig, settings(tmp_path)))
    assert check_trials(trials) == trials
    grid = {"task.simulator": ["cartpole-swingup", "cartpol-swingup"]}
    with pytest.raises(Exception, match="cartpole"):
        check_trials(trials_of(SweepConfig(**{**vars(sweep), "grid": grid})))
    assert not sweep.out.exists()
