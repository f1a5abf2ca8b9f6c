"""Real trainings, tiny ones: what they leave behind, and how they go on after a stop."""

import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rllib_envs.training
from datamodules.conf import read_conf
from datamodules.errors import DataError, SettingsError, SuiteError
from datamodules.locks import try_lock
from datamodules.results import read_json, write_json
from datamodules.tasks import Task
from lightning_modules.settings import TeacherSettings
from lightning_modules.student_files import save_student
from rllib_envs.agent_files import AgentCard, load_policy
from rllib_envs.agent_reward import SCALE_FRAMES, check_reward
from rllib_envs.checkpoints import latest_checkpoint
from rllib_envs.evaluate import RANDOM_EPISODES, evaluate_agent
from rllib_envs.reward_env import RewardVectorEnv
from rllib_envs.settings import LearningSettings, SacSettings
from rllib_envs.train import LOCK, claim, train_agent
from tests.lightning_modules.clips import write_clip
from tests.lightning_modules.students import made_student
from tests.rllib_envs.trainings import SMALL_PPO, lines_of

SAC = SacSettings(
    total_steps=1200,
    num_envs=2,
    learning_starts=64,
    batch_size=8,
    hidden=(8,),
    updates_per_step=0.25,
    evaluation_every_steps=300,
    evaluation_episodes=2,
)
PIXELS = replace(SAC, observations="pixels")


@pytest.mark.slow
@pytest.mark.usefixtures("ray_running")
def test_a_student_trains_an_agent_and_everything_is_written(pole: Task, tmp_path: Path) -> None:
    network, student_card = made_student()
    (target,) = student_card.targets
    render = replace(pole.render, frame_pixels=student_card.pixels)
    task = replace(pole, success_reward=0.9, prompts=target.prompts, render=render)
    save_student(tmp_path / "student", network, replace(student_card, targets=(replace(target, task=task.name),)))
    judge = write_clip(tmp_path, "train-test-clip")
    seen: list[Mapping[str, Any]] = []
    reports: list[tuple[int, int]] = []
    out = tmp_path / "agent"
    result = train_agent(
        task,
        "student",
        SAC,
        out,
        seed=3,
        student=tmp_path / "student",
        judge=judge,
        report=lambda done, total, note: reports.append((done, total)),
        on_evaluation=seen.append,
    )
    lines = lines_of(out)
    assert lines == seen
    assert lines[0]["steps"] == lines[0]["updates"] == 0
    assert [line["steps"] for line in lines] == sorted({line["steps"] for line in lines})
    assert lines[-1]["steps"] == result.steps >= SAC.total_steps
    for kind in ("true_returns", "learned_returns", "teacher_returns", "successes"):
        assert all(len(line[kind]) == 2 for line in lines)
    # a simulator's reward lies in 0 to 1 a frame; the student's is standardised and has no such bounds
    assert all(0 <= total <= task.episode_frames for line in lines for total in line["true_returns"])
    assert lines[-1]["true_returns"] != lines[-1]["learned_returns"]

    assert set(result.costs) == {"simulate", "render", "reward", "update", "other"}
    assert all(seconds > 0 for seconds in result.costs.values())
    assert sum(result.costs.values()) == pytest.approx(result.seconds, abs=0.1)
    assert 0 < result.evaluation_seconds < result.seconds
    assert sum(result.cost_shares.values()) == pytest.approx(1, abs=1e-3)
    latency = result.reward_latency
    assert latency is not None
    # a call for each step of both simulators; none for the steps in which both are reset
    assert latency["calls"] == result.steps / SAC.num_envs
    assert sum(calls for _, _, calls in latency["histogram"]) == latency["calls"]
    assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"]
    # a process with torch and Ray holds some hundred MiB
    assert result.peak_memory_gib is not None
    assert 0.1 < result.peak_memory_gib < 64
    assert result.updates == int((result.steps - SAC.learning_starts) * SAC.updates_per_step)
    # only the judge asks: to find its scale, as it is not the student's teacher, and in every evaluation's two episodes
    assert result.teacher_queries == SCALE_FRAMES + len(lines) * 2 * task.episode_steps
    assert read_json(out / "result.json")["steps"] == result.steps
    assert reports[0] == (0, SAC.total_steps)
    assert reports[-1] == (SAC.total_steps, SAC.total_steps)
    assert {path.name for path in out.iterdir()} == {
        "agent.json",
        "policy.safetensors",
        "evaluations.jsonl",
        "checkpoint",
        "result.json",
    }

    assert not any(lines[0]["successes"])  # the pole hangs when nothing has been learned
    assert AgentCard.read(out).judge == judge

    evaluation = evaluate_agent(out, range(1_000_000, 1_000_003), tmp_path / "evaluation")
    assert evaluation.seeds == [1_000_000, 1_000_001, 1_000_002]
    assert len(evaluation.true_returns) == len(evaluation.learned_returns) == 3
    assert len(evaluation.random_returns) == RANDOM_EPISODES
    assert set(evaluation.overoptimisation) <= {"true", "teacher"}
    assert (tmp_path / "evaluation" / "agent.mp4").stat().st_size > 1000
    assert read_json(tmp_path / "evaluation" / "result.json")["true_returns"] == evaluation.true_returns
    again = evaluate_agent(out, range(1_000_000, 1_000_003), tmp_path / "again")
    assert (again.true_returns, again.random_returns) == (evaluation.true_returns, evaluation.random_returns)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_running")
def test_discrete_actions_and_early_ends_train_too(falling_pole: Task, tmp_path: Path) -> None:
    result = train_agent(falling_pole, "true", SAC, tmp_path / "agent", seed=0)
    assert result.costs["render"] == 0
    environment = RewardVectorEnv(falling_pole, 4, None)
    observations, _ = environment.reset(seed=0)
    card = AgentCard.read(tmp_path / "agent")
    policy = load_policy(
        tmp_path / "agent", card, environment.single_observation_space, environment.single_action_space
    )
    assert policy(observations).shape == (4,)
    environment.close()


@pytest.mark.slow
@pytest.mark.usefixtures("ray_running")
def test_discrete_actions_learn_to_balance(tasks_folder: Path, tmp_path: Path) -> None:
    task = read_conf(Task, tasks_folder / "gym_cartpole.yaml")
    sac = SacSettings(
        total_steps=3000, learning_starts=500, batch_size=64, hidden=(64, 64), evaluation_every_steps=3000
    )
    train_agent(task, "true", sac, tmp_path, seed=0)
    first, last = lines_of(tmp_path)
    at_random = evaluate_agent(tmp_path, [1_000_000], tmp_path / "evaluation").random_returns
    # a random policy keeps the pole up for 22 steps on average, of at most 500
    assert sum(last["true_returns"]) / 5 > 3 * sum(at_random) / len(at_random)
    assert sum(last["true_returns"]) > sum(first["true_returns"])


def interval_of(returns: Sequence[float]) -> tuple[float, float]:
    """Of the mean, 95 %, normal."""
    half = 1.96 * np.std(returns, ddof=1) / len(returns) ** 0.5
    return float(np.mean(returns) - half), float(np.mean(returns) + half)


@pytest.mark.slow
@pytest.mark.timeout(900)  # some 100 seconds of one core, and a busy machine takes its time
@pytest.mark.usefixtures("ray_running")
def test_an_agent_that_sees_pixels_learns_to_balance(tasks_folder: Path, tmp_path: Path) -> None:
    task = read_conf(Task, tasks_folder / "cartpole_balance.yaml")
    # short episodes from nearby: most of what the agent sees is a pole that can still be saved
    near = replace(
        task,
        episode_frames=240,
        camera=replace(task.camera, distance=1.8),
        render=replace(task.render, frame_pixels=32),
    )
    sac = replace(read_conf(SacSettings, tasks_folder.parent / "sac/pixels.yaml"), total_steps=2000)
    train_agent(near, "true", sac, tmp_path, seed=0)
    evaluation = evaluate_agent(tmp_path, range(1_000_000, 1_000_030), tmp_path / "evaluation")
    untrained, *_ = lines_of(tmp_path)
    least, _ = interval_of(evaluation.true_returns)
    _, most = interval_of(evaluation.random_returns)
    # a random policy earns 103 of 240 (deviation 27, 40 episodes), and no action at all 170
    assert least > 1.5 * most
    assert least > sum(untrained["true_returns"]) / len(untrained["true_returns"])


TRAIN_AND_SAVE_OFTEN = """
import sys
from pathlib import Path
import rllib_envs.before_rllib
import rllib_envs.training
from rllib_envs.agent_files import AgentCard
from rllib_envs.train import train_agent
rllib_envs.training.SECONDS_BETWEEN_CHECKPOINTS = 0.0
card = AgentCard.read(Path(sys.argv[1]))
train_agent(card.task, card.reward, card.sac, Path(sys.argv[1]), seed=card.seed)
"""


class KilledError(Exception):
    """Stands for the moment in which the process is killed."""


def small_frames(task: Task) -> Task:
    return replace(task, render=replace(task.render, frame_pixels=24))


@pytest.mark.slow
@pytest.mark.usefixtures("ray_running")
@pytest.mark.parametrize("learning", [SAC, PIXELS, SMALL_PPO], ids=["sac", "pixels", "ppo"])
def test_a_stopped_training_goes_on_from_its_last_checkpoint(
    learning: LearningSettings, pole: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pole = small_frames(pole)
    monkeypatch.setattr(rllib_envs.training, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    out = tmp_path / "agent"

    def stop_at_the_third(line: Mapping[str, Any]) -> None:
        if len(lines_of(out)) == 3:
            raise KilledError  # its line is written, its checkpoint is not

    with pytest.raises(KilledError):
        train_agent(pole, "random", learning, out, seed=0, on_evaluation=stop_at_the_third)
    before = lines_of(out)
    reports: list[int] = []
    result = train_agent(pole, "random", learning, out, seed=0, report=lambda done, total, note: reports.append(done))
    after = lines_of(out)
    assert after[:2] == before[:2]
    assert after[2]["steps"] == before[2]["steps"]  # made again, once
    assert [line["steps"] for line in after] == sorted({line["steps"] for line in after})
    assert after[-1]["seconds"] >= after[2]["seconds"] >= after[1]["seconds"]
    assert reports[0] == before[1]["steps"]  # nothing before it was done again
    if isinstance(learning, SacSettings):
        assert result.updates == int((result.steps - learning.learning_starts) * learning.updates_per_step)
    else:  # twice through the steps of each update, 32 at a time; RLlib pads them by a step for each episode
        assert result.updates >= result.steps / 32 * 2

    latency = result.reward_latency
    assert latency is not None
    assert latency["calls"] == result.steps / learning.num_envs  # those before the stop, too

    finished = train_agent(pole, "random", learning, out, seed=0)
    assert finished == result
    assert lines_of(out) == after


@pytest.mark.slow
@pytest.mark.usefixtures("ray_running")
def test_a_killed_process_goes_on_and_its_curve_continues(
    pole: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rllib_envs.training, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    long = replace(SAC, total_steps=8000, evaluation_every_steps=512)
    AgentCard(pole, "true", long, 0).write(tmp_path)
    process = subprocess.Popen([sys.executable, "-c", TRAIN_AND_SAVE_OFTEN, str(tmp_path)])
    while process.poll() is None and (latest_checkpoint(tmp_path) is None or len(lines_of(tmp_path)) < 3):
        time.sleep(0.05)
    process.kill()  # SIGKILL, wherever it is: in an update, an evaluation or a checkpoint
    assert process.wait() == -signal.SIGKILL, "it ended by itself"
    before = lines_of(tmp_path)
    reports: list[int] = []
    result = train_agent(pole, "true", long, tmp_path, seed=0, report=lambda done, total, note: reports.append(done))
    after = lines_of(tmp_path)
    assert reports[0] >= before[-2]["steps"] > 0  # of the last line the checkpoint may have been in the making
    assert after[: len(before) - 1] == before[:-1]
    assert [line["steps"] for line in after] == sorted({line["steps"] for line in after})
    assert after[-1]["steps"] == result.steps >= long.total_steps
    assert result.updates == int((result.steps - SAC.learning_starts) * SAC.updates_per_step)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_running")
def test_a_folder_of_another_agent_is_refused(pole: Task, tmp_path: Path) -> None:
    AgentCard(pole, "true", SAC, 0).write(tmp_path)
    with pytest.raises(DataError, match="another agent: there seed is 0, here it is 1"):
        train_agent(pole, "true", SAC, tmp_path, seed=1)
    with pytest.raises(DataError, match="another agent: there reward is 'true', here it is 'random'"):
        train_agent(replace(pole, frames_per_step=5), "random", SAC, tmp_path, seed=0)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_running")
def test_an_agent_that_sees_pixels_is_saved_evaluated_and_filmed(pole: Task, tmp_path: Path) -> None:
    sac = replace(SAC, total_steps=256, observations="pixels")
    result = train_agent(small_frames(pole), "random", sac, tmp_path, seed=0)
    assert AgentCard.read(tmp_path).sac == sac
    assert result.costs["render"] > 0
    assert result.updates > 0
    evaluation = evaluate_agent(tmp_path, range(1_000_000, 1_000_003), tmp_path / "evaluation")
    assert len(evaluation.true_returns) == 3
    assert (tmp_path / "evaluation" / "agent.mp4").stat().st_size > 1000
    again = evaluate_agent(tmp_path, range(1_000_000, 1_000_003), tmp_path / "again")
    assert again.true_returns == evaluation.true_returns


def test_a_folder_in_use_or_of_something_else_is_refused_and_left_alone(pole: Task, tmp_path: Path) -> None:
    write_json(tmp_path / "result.json", {"seconds": 1.0})
    with pytest.raises(DataError, match=r"holds a result\.json and no agent"):
        train_agent(pole, "true", SAC, tmp_path, seed=0)
    AgentCard(pole, "true", SAC, 0).write(tmp_path)
    with pytest.raises(DataError, match="is not that of a training"):
        train_agent(pole, "true", SAC, tmp_path, seed=0)
    lock = try_lock(tmp_path / LOCK)
    assert lock is not None
    with lock, pytest.raises(DataError, match="another process trains the agent"):
        train_agent(pole, "true", SAC, tmp_path, seed=0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["agent.json", "result.json"]


def test_a_claimed_folder_gives_the_same_agent_again_with_its_student(pole: Task, tmp_path: Path) -> None:
    network, student = made_student()
    (target,) = student.targets
    task = replace(pole, prompts=target.prompts, render=replace(pole.render, frame_pixels=student.pixels))
    save_student(tmp_path / "student", network, replace(student, targets=(replace(target, task=task.name),)))
    card = check_reward(AgentCard(task, "student", SAC, 0, student=tmp_path / "student"))
    assert claim(tmp_path / "agent", card) == card
    assert claim(tmp_path / "agent", card) == card


def test_mistakes_are_found_before_anything_is_written(pole: Task, tmp_path: Path) -> None:
    tiny = replace(pole, render=replace(pole.render, frame_pixels=16))
    with pytest.raises(SettingsError, match=r"render\.frame_pixels is 16"):
        train_agent(tiny, "true", replace(SAC, observations="pixels"), tmp_path / "agent", seed=0)
    with pytest.raises(SettingsError, match="--student"):
        train_agent(pole, "student", SAC, tmp_path / "agent", seed=0)
    nowhere = TeacherSettings("ViT-B-32", str(tmp_path / "nowhere.safetensors"))
    with pytest.raises(SuiteError, match="nowhere"):
        train_agent(pole, "true", SAC, tmp_path / "agent", seed=0, judge=nowhere)
    assert not (tmp_path / "agent").exists()
    with pytest.raises(DataError, match="holds no agent"):
        evaluate_agent(tmp_path, [1], tmp_path / "evaluation")
    with pytest.raises(SettingsError, match="no seeds"):
        evaluate_agent(tmp_path, [], tmp_path / "evaluation")
