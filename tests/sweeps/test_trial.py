"""Whole trials, small but real: frames, the bundled teacher, a fit, RLlib SAC, MLflow and the page."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import pytest

from datamodules.conf import read_conf
from datamodules.errors import SettingsError, StoppedError
from datamodules.locks import try_lock
from datamodules.manifest import read_manifest
from rllib_envs.settings import PpoSettings, SacSettings
from scripts.run_trial import main
from sweeps.settings import TrialConfig
from sweeps.trial import LOCK, check_trial, run_trial, stages_of
from tests.lightning_modules.servers import free_port, server

SMALL = """
task: {task}
teacher: {root}/conf/teacher/bundled.yaml
student: {root}/conf/student/quick.yaml
out: {out}
evaluation_episodes: 2
judge: true
collect: {{frames: 400}}
sac: {{total_steps: 512, num_envs: 4, learning_starts: 100, batch_size: 32, hidden: [32], evaluation_every_steps: 256,
      evaluation_episodes: 2, replay_capacity: 1000}}
refinement: {{every_steps: 256, query_budget: 8, queries: 2, audited: 3, gradient_steps: 2}}
tracking: {{uri: "sqlite:///{out}.db", experiment: tests}}
"""
ROOT = Path(__file__).parents[2]


def settings(folder: Path, **prompts: str) -> Path:
    task = (ROOT / "conf/tasks/cartpole_swingup.yaml").read_text()
    for key, value in {"episode_frames: 1000": "episode_frames: 200", **prompts}.items():
        assert key in task
        task = task.replace(key, value)
    (folder / "task.yaml").write_text(task)
    path = folder / "trial.yaml"
    path.write_text(SMALL.format(root=ROOT, task=folder / "task.yaml", out=folder / "trial"))
    return path


def command(config: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "scripts.run_trial", "--config", str(config), *more]


def run(config: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(config, *more), cwd=ROOT, capture_output=True, text=True, check=False, timeout=280)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration of a trial that was killed while fitting and started again."""
    folder = tmp_path_factory.mktemp("trial")
    config = settings(folder)
    with subprocess.Popen(command(config), cwd=ROOT, stderr=subprocess.PIPE, start_new_session=True) as process:
        wait_for(folder / "trial/student/checkpoints", process)
        os.killpg(process.pid, signal.SIGKILL)
    frames = {path: path.stat().st_mtime_ns for path in (folder / "trial/frames").iterdir()}
    done = run(config)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(folder / "trial/result.json")
    assert "collect: done before" in done.stderr
    assert "label: done before" in done.stderr
    assert {path: path.stat().st_mtime_ns for path in (folder / "trial/frames").iterdir()} == frames
    return config


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 200
    while not (path.exists() and any(path.iterdir())):
        assert process.poll() is None, process.stderr and process.stderr.read().decode()
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.05)


def result_of(config: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((config.parent / "trial/result.json").read_text())
    return content


def test_a_spread_penalty_is_refused_before_any_work_where_nothing_has_a_spread(tmp_path: Path) -> None:
    config = read_conf(TrialConfig, settings(tmp_path))
    with pytest.raises(SettingsError, match=r"spread_penalty is 1\.0 but reward is 'true'"):
        replace(config, reward="true", spread_penalty=1.0)
    with pytest.raises(SettingsError, match=r"the student of .*quick\.yaml is a single one"):
        check_trial(replace(config, spread_penalty=1.0), {"fit"})
    assert not config.out.exists()


def test_a_trial_learns_by_one_algorithm(tmp_path: Path) -> None:
    config = read_conf(TrialConfig, settings(tmp_path))
    with pytest.raises(SettingsError, match="sac and ppo are both given"):
        replace(config, ppo=PpoSettings())
    by_ppo = replace(config, sac=SacSettings(), ppo=PpoSettings(gamma=0.9))
    stages = {stage.name: stage for stage in stages_of(by_ppo)}
    assert stages["train"].inputs["ppo"]["gamma"] == 0.9


@pytest.mark.slow
def test_a_trial_killed_while_fitting_goes_on_and_is_complete(finished: Path) -> None:
    result = result_of(finished)
    assert result["attempts"]["fit"] == 2
    assert result["attempts"]["collect"] == 1
    # the labels; three evaluations and the final one of 2 episodes with 25 decisions, which the teacher judges
    # and the five of a refinement after 256 steps
    assert result["teacher_queries"] == 400 + 4 * 2 * 25 + 5
    assert result["refinement"]["teacher_queries"] == 5
    assert result["query_budget"] == 8
    assert (finished.parent / "trial/agent/refinements/labels/manifest.json").exists()
    assert "The teacher, asked again" in (finished.parent / "trial/report.html").read_text()
    assert len(result["teacher_return"]["episodes"]) == len(result["successes"]) == 2
    assert result["overoptimisation"] == {}  # three evaluations are too few to tell
    assert 0 <= result["score"]["mean"] <= 1
    assert 0 <= result["area_under_curve"] <= 200
    assert set(result["seconds"]) == {"collect", "label", "fit", "train", "evaluate", "report", "total"}
    assert result["agent"]["steps"] == 512
    for figure in ("pearson", "spearman_pooled", "spearman_within_episode"):
        assert -1 <= result["student"][figure] <= 1
    # cart-pole's true reward lies in 0 to 1 a frame, and an episode has 200
    assert len(result["true_return"]["episodes"]) == 2
    assert len(result["random_return"]["episodes"]) == 100
    assert all(0 <= value <= 200 for value in result["true_return"]["episodes"])


@pytest.mark.slow
def test_the_run_in_mlflow_holds_curve_parameters_figures_video_and_page(finished: Path) -> None:
    result = result_of(finished)
    client = mlflow.MlflowClient(tracking_uri=result["mlflow"]["tracking_uri"])
    experiment = client.get_experiment_by_name("tests")
    runs = client.search_runs([experiment.experiment_id])
    run_id = result["mlflow"]["run_id"]
    assert [run.info.run_id for run in runs] == [run_id]
    assert runs[0].info.status == "FINISHED"
    data = runs[0].data
    assert data.params["sac.total_steps"] == "512"
    assert data.tags["prompts.goal"] == "['pole vertically upright on top of the cart']"
    assert data.metrics["cost/teacher_queries"] == result["teacher_queries"]
    assert data.metrics["cost/render_share"] == result["agent"]["cost_shares"]["render"]
    assert data.metrics["cost/reward_p95_seconds"] == result["agent"]["reward_latency"]["p95"]
    assert data.metrics["final/score"] == result["score"]["mean"]
    assert len(client.get_metric_history(run_id, "eval/teacher_return")) == 3
    curve = client.get_metric_history(run_id, "eval/true_return")
    assert [point.step for point in curve] == [0, 256, 512]
    assert client.get_metric_history(run_id, "student/validation_loss")
    artifacts = {item.path for item in client.list_artifacts(run_id)}
    assert {"report.html", "result.json", "figures", "video"} <= artifacts
    pictures = {item.path.split("+step+")[1].split("+")[0] for item in client.list_artifacts(run_id, "images")}
    assert pictures == {"0", "256", "512"}
    assert [item.path for item in client.list_artifacts(run_id, "video")] == ["video/agent.mp4"]
    assert "student/student.html" in {item.path for item in client.list_artifacts(run_id, "student")}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_trial_whose_server_is_away_is_done_and_delivers_all_when_it_is_back(tmp_path: Path) -> None:
    config, port = settings(tmp_path), free_port()
    away = ("--tracking.uri", f"http://127.0.0.1:{port}", "--last_stage", "fit", "--refinement", "null")
    done = run(config, *away)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("MLflow does not answer") == 1
    assert result_of(config)["mlflow"]["run_id"] is None
    assert Path(result_of(config)["mlflow"]["waiting"]) == tmp_path / "trial/mlflow.spool"
    assert "MLflow did not answer" in (tmp_path / "trial/report.html").read_text()
    with server(tmp_path, port) as address:
        again = run(config, *away)
        assert again.returncode == 0, again.stderr
        assert "fit: done before" in again.stderr
        result, client = result_of(config), mlflow.MlflowClient(tracking_uri=address)
        [found] = client.search_runs([client.get_experiment_by_name("tests").experiment_id])
        assert result["mlflow"] == {"tracking_uri": address, "run_id": found.info.run_id, "waiting": None}
        assert json.loads((tmp_path / "trial/trial.json").read_text())["run_id"] == found.info.run_id
        assert found.info.status == "FINISHED"
        assert not (tmp_path / "trial/mlflow.spool").exists()
        epochs = json.loads((tmp_path / "trial/student/result.json").read_text())["epochs"]
        assert len(client.get_metric_history(found.info.run_id, "student/validation_loss")) == epochs
        [data] = found.inputs.dataset_inputs
        assert data.dataset.digest == read_manifest(tmp_path / "trial/labels").digest[:36]
        [version] = client.search_model_versions(f"run_id = '{found.info.run_id}'")
        assert version.tags["labels"] == read_manifest(tmp_path / "trial/labels").digest


@pytest.mark.slow
def test_a_finished_trial_does_nothing_twice(finished: Path) -> None:
    before = (finished.parent / "trial/agent/policy.safetensors").stat().st_mtime_ns
    again = run(finished)
    assert again.returncode == 0, again.stderr
    assert "evaluate: done before" in again.stderr
    assert (finished.parent / "trial/agent/policy.safetensors").stat().st_mtime_ns == before


@pytest.mark.slow
def test_other_settings_in_the_same_folder_are_refused_before_any_work(finished: Path) -> None:
    other = run(finished, "--sac.gamma", "0.5")
    assert other.returncode == 2
    assert "there sac.gamma is 0.99, here it is 0.5" in other.stderr
    assert "Traceback" not in other.stderr


@pytest.mark.slow
def test_a_student_is_told_by_what_its_file_says(finished: Path, tmp_path: Path) -> None:
    content = (ROOT / "conf/student/quick.yaml").read_text()
    (tmp_path / "same.yaml").write_text(f"# the same\n{content}")
    (tmp_path / "other.yaml").write_text(content.replace("shift_pixels: 2", "shift_pixels: 1"))
    same, other = (run(finished, "--student", str(tmp_path / f"{name}.yaml")) for name in ("same", "other"))
    assert same.returncode == 0, same.stderr
    assert "fit: done before" in same.stderr
    assert other.returncode == 2
    assert "there student.model.shift_pixels is 2, here it is 1" in other.stderr


def test_two_processes_never_work_on_one_trial(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = read_conf(TrialConfig, settings(tmp_path))

    def give_up() -> None:
        raise StoppedError("waited long enough")

    config.out.mkdir()
    with try_lock(config.out / LOCK) or pytest.fail("nobody else holds it"), pytest.raises(StoppedError):
        run_trial(config, "", give_up)
    assert f"another process works on {config.out}: waiting for its end" in capsys.readouterr().err
    assert list(config.out.iterdir()) == []


MISTAKES: Sequence[tuple[Sequence[str], str]] = (
    (("--task.camera.name", "fixd", "--task.camera.distance", "null"), "unknown camera 'fixd': did you mean 'fixed'"),
    (("--reward", "studnt"), "student"),
    (("--task.simulator", "cartpol-swingup"), "cartpole"),
    (("--teacher.weights", "conf/teacher/nowhere.safetensors"), "conf/teacher/nowhere.safetensors"),
    (("--task.prompts.goal", "[" + "pole " * 90 + "]"), "at most 77"),
    (("--task.prompts.goal", "[]"), "prompts.goal is empty"),
    (("--student", "conf/student/defolt.yaml"), "conf/student/default.yaml"),
    (("--evaluation_episodes", "1"), "between 2 and 1000"),
    (("--refinement.strategy", "spread"), "which has no spread"),
    (("--reward", "true"), "only a student can be refined"),
)


@pytest.mark.parametrize(("arguments", "message"), MISTAKES)
def test_a_mistake_is_named_before_any_work(
    arguments: Sequence[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--config", str(settings(tmp_path)), *arguments])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "trial").exists()


@pytest.mark.slow
def test_weights_that_cannot_be_downloaded_are_named_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    failed = run(settings(tmp_path), "--teacher", "conf/teacher/vit_b32.yaml")
    assert failed.returncode == 2, failed.stderr
    assert "Traceback" not in failed.stderr
    assert "open_clip_model.safetensors" in failed.stderr
    assert not (tmp_path / "trial").exists()
