"""An agent's evaluation: every figure of it, on agents that were written by hand and not trained."""

import json
from dataclasses import replace
from pathlib import Path

import imageio.v2 as imageio
import numpy as np
import pytest
import torch

from datamodules.conf import read_conf
from datamodules.errors import DataError, SettingsError
from datamodules.results import read_json
from datamodules.tasks import Task
from lightning_modules.settings import TeacherSettings
from lightning_modules.teacher import ClipTeacher
from rllib_envs.agent_files import AgentCard, save_policy
from rllib_envs.evaluate import RANDOM_EPISODES, charts_of, evaluate_agent, evaluate_folder
from rllib_envs.play import PlayedEpisode
from rllib_envs.sac_networks import Actor
from rllib_envs.settings import SacSettings
from rllib_envs.simulators import make_simulator

ROOT = Path(__file__).parents[2]
STUDENT = ROOT / "conf/student/cartpole_swingup"
SEEDS = (1_000_000, 1_000_001, 1_000_002)
SAC = SacSettings(hidden=(8,))


@pytest.fixture
def swingup(tasks_folder: Path) -> Task:
    """The shipped task with episodes of ten decisions."""
    return replace(read_conf(Task, tasks_folder / "cartpole_swingup.yaml"), episode_frames=80)


def write_agent(folder: Path, card: AgentCard) -> Path:
    """An agent whose policy has random weights."""
    simulator = make_simulator(card.task)
    torch.manual_seed(1)
    folder.mkdir()
    save_policy(folder, Actor(simulator.observation_space.shape[0], simulator.action_space, card.sac.hidden))
    simulator.close()
    card.write(folder)
    return folder


def test_every_reward_scores_the_same_episodes(swingup: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    agent = write_agent(tmp_path / "agent", AgentCard(swingup, "student", SAC, 0, student=STUDENT))
    teacher = read_conf(TeacherSettings, "conf/teacher/bundled.yaml")

    found = evaluate_agent(agent, SEEDS, tmp_path / "out", student=STUDENT, teacher=teacher)

    assert found.seeds == list(SEEDS)
    assert found.student_returns == pytest.approx(found.learned_returns, abs=0.2)
    assert found.teacher_returns is not None
    # the bundled student follows its teacher closely, frame by frame, on one scale
    np.testing.assert_allclose(found.teacher_returns, found.learned_returns, atol=0.5 * swingup.episode_steps)
    assert found.teacher_queries == len(SEEDS) * swingup.episode_steps
    assert found.scores == pytest.approx([value / 80 for value in found.true_returns])
    assert found.successes == [False] * 3  # a policy that has learned nothing does not swing the pole up
    assert len(found.random_returns) == RANDOM_EPISODES
    assert found.overoptimisation == {}
    with imageio.get_reader(tmp_path / "out" / "agent.mp4") as reader:
        assert reader.count_frames() == swingup.episode_steps

    written = read_json(tmp_path / "out" / "result.json")
    assert written["teacher_returns"] == found.teacher_returns
    assert written["settings"]["teacher"]["model"] == teacher.model
    again = evaluate_agent(agent, SEEDS, tmp_path / "again")
    assert (again.true_returns, again.random_returns) == (found.true_returns, found.random_returns)
    assert (again.student_returns, again.teacher_returns, again.teacher_queries) == (None, None, 0)


def test_a_teacher_in_the_loop_is_asked_once_a_decision(
    swingup: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    teacher = read_conf(TeacherSettings, "conf/teacher/bundled.yaml")
    agent = write_agent(tmp_path / "agent", AgentCard(swingup, "teacher", SAC, 0, teacher=teacher))
    asked: list[tuple[int, ...]] = []
    embed = ClipTeacher.embed_frames

    def counting(self: ClipTeacher, frames: np.ndarray) -> np.ndarray:
        asked.append(frames.shape)
        return embed(self, frames)

    monkeypatch.setattr(ClipTeacher, "embed_frames", counting)
    found = evaluate_agent(agent, range(1_000_000, 1_000_010), tmp_path / "out")  # one alone, eight, and one more
    assert found.teacher_queries == sum(shape[0] for shape in asked) == 10 * swingup.episode_steps
    assert {shape[1] for shape in asked} == {swingup.render.teacher_pixels}


def test_a_balanced_pole_is_a_success(swingup: Task, tmp_path: Path) -> None:
    task = replace(swingup, simulator="cartpole-balance", episode_frames=8)  # it starts almost upright
    agent = write_agent(tmp_path / "agent", AgentCard(task, "true", SAC, 0))

    found = evaluate_agent(agent, SEEDS[:1], tmp_path / "out")

    assert found.successes == [True]
    assert found.learned_returns == found.true_returns


def test_discrete_actions_and_references_are_scored(falling_pole: Task, tmp_path: Path) -> None:
    task = replace(falling_pole, episode_frames=20, score_range=(20.0, 100.0))
    agent = write_agent(tmp_path / "agent", AgentCard(task, "random", SAC, 0))

    found = evaluate_agent(agent, SEEDS, tmp_path / "out")

    assert found.scores == pytest.approx([(value - 20) / 80 for value in found.true_returns])
    assert found.successes is None
    plain = write_agent(tmp_path / "plain", AgentCard(replace(task, score_range=None), "true", SAC, 0))
    assert evaluate_agent(plain, SEEDS, tmp_path / "out2").scores is None


def test_the_learning_curve_is_watched(pole: Task, tmp_path: Path) -> None:
    agent = write_agent(tmp_path / "agent", AgentCard(pole, "random", SAC, 0))
    gold = [0.0, 10, 50, 100, 101, 102, 60, 20, 21, 22]
    lines = [
        json.dumps({"steps": 100 * at, "true_returns": [value], "learned_returns": [at]})
        for at, value in enumerate(gold)
    ]
    (agent / "evaluations.jsonl").write_text("\n".join(lines))

    evaluate_folder(agent, tmp_path / "out", episodes=1, first_seed=1_000_000)

    seen = read_json(tmp_path / "out" / "result.json")["overoptimisation"]
    assert (seen["true"]["peak_steps"], seen["true"]["fallen_steps"]) == (500, 900)


def test_charts_show_the_true_reward_of_a_frame_and_everything_learned(swingup: Task) -> None:
    rewards = np.array([8.0, 4.0])
    episode = PlayedEpisode(rewards, rewards / 3, {"teacher": rewards / 4})

    true, learned = charts_of(AgentCard(swingup, "student", SAC, 0, student=STUDENT), episode)
    assert true.curves[0].values.tolist() == [1.0, 0.5]
    assert [curve.name for curve in learned.curves] == ["student", "teacher"]
    assert learned.curves[0].values is episode.learned

    (alone,) = charts_of(AgentCard(swingup, "true", SAC, 0), PlayedEpisode(rewards, rewards))
    assert [curve.name for curve in alone.curves] == ["true"]


def test_mistakes_are_found_before_any_episode(pole: Task, tmp_path: Path) -> None:
    agent = write_agent(tmp_path / "agent", AgentCard(pole, "true", SAC, 0))
    with pytest.raises(SettingsError, match=r"holds an agent, whose result\.json would be lost"):
        evaluate_agent(agent, SEEDS, agent)
    with pytest.raises(SettingsError, match="episodes is 0"):
        evaluate_folder(agent, tmp_path / "out", episodes=0, first_seed=1)
    with pytest.raises(DataError, match="cartpole_swingup"):
        evaluate_agent(agent, SEEDS, tmp_path / "out", student=STUDENT)
    (agent / "evaluations.jsonl").write_text("{")
    with pytest.raises(DataError, match=r"evaluations\.jsonl"):
        evaluate_agent(agent, SEEDS, tmp_path / "out")
    assert not (tmp_path / "out").exists()
