"""Real trainings, tiny ones, whose student is refined on the way; one is killed in the middle of it."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import rllib_envs.refinement
import rllib_envs.reward_upkeep
import rllib_envs.training
from datamodules.errors import DataError
from datamodules.labelled_set import LabelledSet
from datamodules.results import read_json
from datamodules.shards import read_samples, verify
from lightning_modules.reward_function import StudentReward
from lightning_modules.student_files import load_student, save_student
from rllib_envs.agent_files import AgentCard, AgentResult
from rllib_envs.agent_reward import check_reward
from rllib_envs.checkpoints import latest_checkpoint
from rllib_envs.evaluate import evaluate_agent
from rllib_envs.refinement_records import latest_student, read_records
from rllib_envs.relabelling import relabel
from rllib_envs.threads import torch_threads
from rllib_envs.train import train_agent
from rllib_envs.visits import StateDrawer
from tests.rllib_envs.refinable import SAC, TASK, refinable

TRAIN_AND_SAVE_OFTEN = """
import sys
from pathlib import Path
import rllib_envs.before_rllib
import rllib_envs.training
from tests.rllib_envs.test_refined_training import train
from rllib_envs.agent_files import AgentCard
rllib_envs.training.SECONDS_BETWEEN_CHECKPOINTS = 0.5
train(AgentCard.read(Path(sys.argv[1])), Path(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> AgentCard:
    return refinable(tmp_path_factory.mktemp("refinable"))


def train(card: AgentCard, out: Path) -> AgentResult:
    return train_agent(
        card.task,
        card.reward,
        card.sac,
        out,
        seed=card.seed,
        student=card.student,
        teacher=card.teacher,
        refinement=card.refinement,
        labels=card.labels,
    )


def lines_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "evaluations.jsonl").read_text().splitlines()]


def rewards_in_replay(checkpoint: Path) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.int32]]:
    """Reward, frame drawn anew, and reward version of every transition in a checkpoint."""
    replay = checkpoint / "replay"
    drawer = StateDrawer(TASK)
    frames = drawer(np.load(replay / "states.npy"), TASK.render.frame_pixels)
    drawer.close()
    return np.load(replay / "rewards.npy"), frames, np.load(replay / "reward_versions.npy")


@pytest.mark.slow
@pytest.mark.usefixtures("ray_running")
def test_a_training_with_refinements_ends_with_every_transition_rewarded_by_the_last_student(
    card: AgentCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []

    def relabel_and_note(*arguments: Any) -> int:
        threads.append(torch.get_num_threads())
        return relabel(*arguments)

    monkeypatch.setattr(rllib_envs.reward_upkeep, "relabel", relabel_and_note)
    small = replace(card, learning=replace(SAC, replay_capacity=900))  # the ring wraps before the third refinement
    with torch_threads(3):
        result = train(small, tmp_path)
    assert threads[0] == 3  # the process's own: the training waits for the first student
    assert set(threads[1:]) == {1, 3}
    records = list(read_records(tmp_path))
    assert [record.number for record in records] == [1, 2, 3]
    assert all(record.accepted for record in records)
    assert [record.steps // 500 for record in records] == [1, 2, 3]
    assert [sum(episode.visited for episode in record.episodes) for record in records] == [512, 512, 512]
    assert all(len(record.episodes) >= 512 // TASK.episode_steps for record in records)
    assert result.refinement is not None
    assert result.refinement["made"] == result.refinement["accepted"] == 3
    assert result.teacher_queries == result.refinement["teacher_queries"] == 40
    assert result.refinement["query_budget"] == 40
    assert result.costs["refine"] > 0
    assert read_json(tmp_path / "result.json")["refinement"] == result.refinement
    # refined at 512, 1024 and 1536 decisions, evaluated after 0, 1024 and all
    assert [line["reward_version"] for line in lines_of(tmp_path)] == [0, 2, 3]

    checkpoint = latest_checkpoint(tmp_path)
    assert checkpoint is not None
    rewards, frames, versions = rewards_in_replay(checkpoint)
    assert len(rewards) == 900
    assert set(versions.tolist()) == {3}
    student = latest_student(tmp_path)
    assert student is not None
    expected = StudentReward.load(student, "torch")(frames)
    # another runtime may have made them, within a twentieth of their deviation
    np.testing.assert_allclose(rewards, expected, atol=0.05 * max(1.0, float(expected.std())))
    assert card.student is not None
    first = StudentReward.load(card.student, "torch")(frames)
    assert np.abs(first - expected).mean() > 10 * np.abs(rewards - expected).mean()

    evaluated = evaluate_agent(tmp_path, [1_000_000], tmp_path / "evaluation")
    assert evaluated.learned_returns == pytest.approx(
        evaluate_agent(tmp_path, [1_000_000], tmp_path / "beside", student=student).student_returns, abs=0.1
    )
    assert small.refinement is not None
    other = replace(small, refinement=replace(small.refinement, queries=9))
    with pytest.raises(DataError, match=r"another agent: there refinement\.queries is 10, here it is 9"):
        train(other, tmp_path)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_running")
def test_refinements_that_are_all_rejected_leave_the_agent_as_it_would_have_been(
    card: AgentCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rllib_envs.refinement, "why_worse", lambda *marks: "worse, says the test")
    train(card, tmp_path / "rejected")
    records = list(read_records(tmp_path / "rejected"))
    assert [record.accepted for record in records] == [False] * 3
    assert all(record.fit_seconds > 0 for record in records)
    train(replace(card, refinement=None), tmp_path / "without")
    returns = [[line["true_returns"] for line in lines_of(tmp_path / name)] for name in ("rejected", "without")]
    assert returns[0] == returns[1]
    assert returns[0][0] != returns[0][-1]


@pytest.mark.slow
@pytest.mark.usefixtures("ray_running")
def test_a_student_that_overrates_what_the_agent_visits_ends_the_training(card: AgentCard, tmp_path: Path) -> None:
    assert card.student is not None
    assert card.refinement is not None
    network, student = load_student(card.student)
    with torch.no_grad():
        network.heads[0][-1].bias += 5.0  # everything looks five standard deviations better than it is
    save_student(tmp_path / "student", network, student)
    hardly = replace(card.refinement, gradient_steps=1, learning_rate=1e-6, most_overrated=3.0)
    out = tmp_path / "agent"
    result = train(replace(card, student=tmp_path / "student", refinement=hardly), out)
    (record,) = read_records(out)
    assert record.overrated is not None
    assert record.overrated > 3.0
    assert result.refinement is not None
    assert result.refinement["exploited"] is True
    assert SAC.total_steps > result.steps == lines_of(out)[-1]["steps"] == record.steps


@pytest.mark.slow
@pytest.mark.usefixtures("ray_running")
def test_a_training_killed_in_the_middle_of_a_refinement_goes_on_with_its_answers(
    card: AgentCard, tmp_path: Path
) -> None:
    assert card.refinement is not None
    slow = replace(card, refinement=replace(card.refinement, gradient_steps=120))  # time to be killed in
    check_reward(slow).write(tmp_path)
    process = subprocess.Popen([sys.executable, "-c", TRAIN_AND_SAVE_OFTEN, str(tmp_path)])
    labels = tmp_path / "refinements/labels"
    while process.poll() is None and not (labels / "shard-000003.tar").exists():
        time.sleep(0.02)
    process.kill()  # SIGKILL: the second refinement has its answers and is being fitted
    assert process.wait() == -signal.SIGKILL, "it ended by itself"
    assert len(list(read_records(tmp_path))) == 1
    before = {path.name: path.read_bytes() for path in labels.glob("shard-*.tar")}

    result = train(slow, tmp_path)
    records = list(read_records(tmp_path))
    assert [record.number for record in records] == [1, 2, 3]
    assert {name: (labels / name).read_bytes() for name in before} == before
    keys = [sample.key for sample in read_samples(labels)]
    assert len(keys) == len(set(keys)) == sum(record.audited + record.asked for record in records) == 40
    assert result.teacher_queries == 40
    verify(labels, LabelledSet(str(labels)).manifest)
    checkpoint = latest_checkpoint(tmp_path)
    assert checkpoint is not None
    accepted = [record.number for record in records if record.accepted]
    assert set(rewards_in_replay(checkpoint)[2].tolist()) == {accepted[-1] if accepted else 0}


@pytest.mark.slow
@pytest.mark.usefixtures("ray_running")
def test_env_runners_in_other_processes_have_the_new_student_and_late_transitions_its_reward(
    card: AgentCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rllib_envs.training, "SECONDS_BETWEEN_CHECKPOINTS", 1e9)
    apart = replace(card, learning=replace(SAC, num_env_runners=1, total_steps=900))
    train(apart, tmp_path)
    (record,) = read_records(tmp_path)
    assert record.accepted
    checkpoint = latest_checkpoint(tmp_path)
    assert checkpoint is not None
    rewards, frames, versions = rewards_in_replay(checkpoint)
    assert set(versions.tolist()) == {1}
    student = latest_student(tmp_path)
    assert student is not None
    expected = StudentReward.load(student, "torch")(frames)
    np.testing.assert_allclose(rewards, expected, atol=0.05 * max(1.0, float(expected.std())))
