"""Rewards that look at an evaluation's frames and train nobody: a student, and the teacher itself."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datamodules.tasks import Task, as_the_teacher_sees
from lightning_modules.reward_function import RewardFunction, TeacherReward, reward_of_student
from lightning_modules.rewards import Standardisation
from lightning_modules.settings import TeacherSettings
from lightning_modules.student_files import read_card
from rllib_envs.agent_files import AgentCard
from rllib_envs.agent_reward import SCALE_FRAMES, check_reward, make_reward, random_frames
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

    The teacher is shown frames of the size that it labels. Its reward is on the scale of the student given, or of the
    agent's own, where that one learned from this very teacher: then both returns can be compared. Otherwise its scale
    is measured on frames of a random policy, which are queries, too.

    Raises:
        SuiteError: student or teacher is missing, or the student is one of another task or frame size.
    """
    judges = {}
    if student is not None:
        reward = make_reward(check_reward(replace(card, reward="student", student=student, spread_penalty=0.0)))
        assert reward is not None, "only the true reward is none"
        judges[STUDENT] = Judge(reward, card.task.render.frame_pixels)
    if teacher is not None:
        judges[TEACHER] = _teacher_judge(card, student or card.student, teacher)
    return judges


def _teacher_judge(card: AgentCard, student: Path | None, settings: TeacherSettings) -> Judge:
    from lightning_modules.teacher import ClipTeacher

    teacher, task = ClipTeacher(settings), card.task
    scales = () if student is None else _student_scales(student, task, teacher.digest)
    if not scales:
        frames = random_frames(as_the_teacher_sees(task), SCALE_FRAMES, card.seed)
        scales = TeacherReward(teacher, task.prompts).scales_on(frames)
    reward, pixels = TeacherReward(teacher, task.prompts, scales), task.render.teacher_pixels
    return Judge(reward, pixels, len(settings.clips), teacher.queries)


def _student_scales(student: Path, task: Task, digest: str) -> tuple[Standardisation, ...]:
    """The scale of a student's reward, one entry for each CLIP; none where it learned from another teacher."""
    card = read_card(student)
    if card.teacher.digest != digest:
        return ()
    return reward_of_student(student, card, card.target_of(task.name), task.prompts).scales
