"""Judges see the right frames at the right size, on the scale that they say, and count what they ask."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from datamodules.conf import read_conf
from datamodules.errors import DataError
from datamodules.tasks import RenderSettings, Task
from lightning_modules.reward_function import StudentReward, TeacherReward
from lightning_modules.settings import TeacherSettings
from lightning_modules.teacher import ClipTeacher
from rllib_envs.agent_files import AgentCard
from rllib_envs.agent_reward import SCALE_FRAMES, random_frames
from rllib_envs.judges import Judge, make_judges
from rllib_envs.reward_env import RewardVectorEnv
from rllib_envs.settings import SacSettings
from tests.lightning_modules.clips import write_clip

CONF = Path(__file__).parents[2] / "conf"
STUDENT = CONF / "student/cartpole_swingup"
SAC = SacSettings()


@pytest.fixture
def swingup() -> Task:
    return replace(read_conf(Task, CONF / "tasks/cartpole_swingup.yaml"), episode_frames=80)


@pytest.fixture
def bundled(monkeypatch: pytest.MonkeyPatch) -> TeacherSettings:
    monkeypatch.chdir(CONF.parent)
    return read_conf(TeacherSettings, "conf/teacher/bundled.yaml")


def frames_of(environment: RewardVectorEnv, pixels: int) -> NDArray[np.uint8]:
    return np.stack(environment.render(pixels))


def test_a_judge_scores_the_frames_of_running_episodes_only(pole: Task) -> None:
    asked: list[tuple[int, ...]] = []

    def first_pixels(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        asked.append(frames.shape)
        return frames[:, :, :, 0].mean(axis=(1, 2)).astype(np.float32)

    environment = RewardVectorEnv(pole, 3, None)
    environment.reset(seed=[1, 2, 3])
    judge = Judge(first_pixels, 24, queries_a_frame=2, queries=5)
    rewards = judge(environment, np.array([True, False, True]))
    red = frames_of(environment, 24)[:, :, :, 0].mean(axis=(1, 2))
    np.testing.assert_allclose(rewards, [red[0], 0, red[2]], rtol=1e-6)
    assert asked == [(2, 24, 24, 3)]
    assert judge.queries == 5 + 2 * 2
    environment.close()


def test_student_and_teacher_are_on_one_scale(swingup: Task, bundled: TeacherSettings) -> None:
    environment = RewardVectorEnv(swingup, 2, None)
    environment.reset(seed=[1, 2])
    judges = make_judges(AgentCard(swingup, "true", SAC, 0), STUDENT, bundled)
    said = {name: judge(environment, np.array([True, True])) for name, judge in judges.items()}
    assert (judges["student"].queries, judges["teacher"].queries) == (0, 2)

    small, large = frames_of(environment, swingup.render.frame_pixels), frames_of(environment, 96)
    student = StudentReward.load(STUDENT)
    np.testing.assert_allclose(said["student"], student(small), atol=0.05)
    raw = TeacherReward(ClipTeacher(bundled), swingup.prompts)(large)
    # student: raw = standardised * std + mean; the teacher's reward has to be taken back by the same two numbers
    standardised, unscaled = student(small), student.raw(small)
    std = (unscaled[0] - unscaled[1]) / (standardised[0] - standardised[1])
    mean = unscaled[0] - standardised[0] * std
    np.testing.assert_allclose(said["teacher"], (raw - mean) / std, atol=0.02)
    environment.close()


def test_several_clips_are_put_on_a_scale_by_frames_that_are_queries_too(pole: Task, tmp_path: Path) -> None:
    first, second = (write_clip(tmp_path, f"judge-test-clip-{seed}", seed) for seed in (1, 2))
    both = replace(first, model=(first.model, second.model), weights=(first.weights, second.weights))
    task = replace(pole, render=RenderSettings(frame_pixels=32, teacher_pixels=40))
    judge = make_judges(AgentCard(task, "random", SAC, 0), None, both)["teacher"]
    assert judge.queries == 2 * SCALE_FRAMES

    seen = replace(task, render=RenderSettings(frame_pixels=40))
    teacher = ClipTeacher(both)
    scales = TeacherReward(teacher, task.prompts).scales_on(random_frames(seen, SCALE_FRAMES, seed=0))
    environment = RewardVectorEnv(task, 1, None)
    environment.reset(seed=[4])
    expected = TeacherReward(teacher, task.prompts, scales)(frames_of(environment, 40))
    np.testing.assert_allclose(judge(environment, np.array([True])), expected, atol=1e-4)
    assert judge.queries == 2 * SCALE_FRAMES + 2
    environment.close()


def test_nobody_asked_nobody_judges(pole: Task) -> None:
    assert make_judges(AgentCard(pole, "true", SAC, 0), None, None) == {}


def test_a_student_of_another_task_is_refused(pole: Task) -> None:
    with pytest.raises(DataError, match="cartpole_swingup"):
        make_judges(AgentCard(pole, "true", SAC, 0), STUDENT, None)
