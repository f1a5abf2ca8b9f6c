"""Rewards that look at an evaluation's frames and train nobody: a student, and the teacher itself."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datamodules.tasks import Task
from lightning_modules.reward_function import RewardFunction
from lightning_modules.rewards import Standardisation
from lightning_modules.settings import TeacherSettings
from lightning_modules.student_files import read_card
from rllib_envs.agent_files import AgentCard
from rllib_envs.agent_reward import SCALE_FRAMES, check_reward, make_reward, measure_teacher_scales
from rllib_envs.finite_reward import FiniteReward
from rllib_envs.reward_env import RewardVectorEnv

STUDENT, TEACHER = "student", "teacher"


class Judge:
    """Scores the present frames of an environment's simulators, drawn at its own size."""

    def __init__(self, reward: RewardFunction, pixels: int, queries_a_frame: int = 0, queries: int = 0) -> None:
        """Take a reward of frames with this side; `queries` is what it has asked of a teacher so far."""
        self.queries: int = queries
        self._reward = FiniteReward(reward)
        self._pixels = pixels
        self._queries_a_frame = queries_a_frame

    def __call__(self, environment: RewardVectorEnv, running: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Rewards float64 (M,) of the simulators whose episode is running, bool (M,); 0 for the others."""
        frames = environment.render(self._pixels)
        rewards = np.zeros(running.size)
        rewards[running] = self._reward(np.stack([frames[index] for index in np.flatnonzero(running)]))
        self.queries += self._queries_a_frame * int(running.sum())
        return rewards


def check_judge(task: Task, teacher: TeacherSettings) -> None:
    """Find mistakes in the choice of a teacher before any work starts; weights that have to be downloaded are.

    Raises:
        SuiteError: the teacher is missing, or does not read the task's sentences.
    """
    from lightning_modules.teacher import check_prompts, fetch_weights  # open_clip, which only judges need

    check_prompts(teacher, (*task.prompts.goal, *task.prompts.baseline))
    fetch_weights(teacher)


def make_judges(card: AgentCard, student: Path | None, teacher: TeacherSettings | None) -> dict[str, Judge]:
    """The judges of an agent that are asked for, by name.

    The teacher is shown frames of the size that it labels. Its reward is on the student's frozen scale, that of the
    agent's own student where no other is given, so that both returns can be compared. Without a student, or where
    it was fitted to other prompts or CLIPs, its scale is measured on frames of a random policy, which are queries, too.

    Raises:
        SuiteError: student or teacher is missing, or the student is one of another task or frame size.
    """
    judges = {}
    if student is not None:
        judged = check_reward(replace(card, reward="student", student=student))
        judges[STUDENT] = _judge(judged, card.task.render.frame_pixels)
    if teacher is not None:
        pixels = card.task.render.teacher_pixels
        seen = replace(card.task, render=replace(card.task.render, frame_pixels=pixels))
        asked = replace(card, task=seen, reward="teacher", teacher=teacher)
        scales, cost = _student_scales(student or card.student, card.task, teacher), 0
        if scales is None:
            asked = measure_teacher_scales(asked)
            cost = SCALE_FRAMES * len(teacher.clips)
        else:
            asked = replace(asked, teacher_scales=scales)
        judges[TEACHER] = _judge(asked, pixels, len(teacher.clips), cost)
    return judges


def _judge(card: AgentCard, pixels: int, queries_a_frame: int = 0, queries: int = 0) -> Judge:
    reward = make_reward(card)
    assert reward is not None, "the true reward is no judge"
    return Judge(reward, pixels, queries_a_frame, queries)


def _student_scales(student: Path | None, task: Task, teacher: TeacherSettings) -> tuple[Standardisation, ...] | None:
    """The scale of each CLIP's reward on a student's labels; None where it was fitted to others or to other prompts."""
    if student is None:
        return None
    target = read_card(student).target_of(task.name)
    return target.scales if target.prompts == task.prompts and len(target.scales) == len(teacher.clips) else None
