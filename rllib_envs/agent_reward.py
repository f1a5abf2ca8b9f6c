"""From an agent's card to the reward function that its environments call."""

from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from datamodules.errors import DataError, SettingsError, UnknownNameError
from datamodules.tasks import Task
from lightning_modules.reward_function import (
    RandomReward,
    RewardFunction,
    StudentReward,
    TeacherReward,
    check_spread_penalty,
    reward_of_student,
)
from lightning_modules.rewards import Standardisation
from lightning_modules.settings import TeacherSettings
from lightning_modules.student_files import WEIGHTS, read_card
from rllib_envs.agent_files import AgentCard
from rllib_envs.simulators import make_simulator

if TYPE_CHECKING:
    from lightning_modules.teacher import ClipTeacher

REWARDS = ("true", "student", "teacher", "random")
SCALE_FRAMES = 256
"""frames of a random policy that set the teacher's scale; asked once, before training starts"""


def check_reward(card: AgentCard) -> AgentCard:
    """Find mistakes in the choice of a reward before any work starts; returns the card with the student's digest.

    Raises:
        UnknownNameError: there is no such reward.
        SettingsError: the reward's student or teacher is not given, a reward head was fitted to other prompts, or there
            is no spread to penalise.
        DataError: the student is missing, was fitted for another task or frame size, or does not know a sentence.
    """
    if card.reward not in REWARDS:
        raise UnknownNameError("reward", card.reward, REWARDS)
    if card.spread_penalty and card.reward != "student":
        raise SettingsError(
            f"spread_penalty is {card.spread_penalty} but the reward is {card.reward!r}: only an ensemble of students "
            "has a spread; leave it out, or choose the reward 'student'"
        )
    if card.reward == "teacher" and card.teacher is None:
        raise SettingsError("the reward is 'teacher' but no teacher is given: add --teacher conf/teacher/bundled.yaml")
    sizes = card.task.render.frame_pixels, card.task.render.teacher_pixels
    if card.reward == "teacher" and card.observations == "pixels" and sizes[0] != sizes[1]:
        raise SettingsError(
            f"the agent would see frames of {sizes[0]} pixels (render.frame_pixels) and its teacher of {sizes[1]} "
            "(render.teacher_pixels), and a frame is drawn once for both: make the two equal"
        )
    if card.reward != "student":
        return card
    if card.student is None:
        raise SettingsError("the reward is 'student' but no student is given: add --student with the folder of a fit")
    student = read_card(card.student)
    check_spread_penalty(card.spread_penalty, student.members, card.student)
    if card.task.name not in student.tasks:
        raise DataError(
            f"the student in {card.student} was fitted for {', '.join(map(repr, student.tasks))}, not "
            f"{card.task.name!r}: give a student of this task"
        )
    if student.pixels != card.task.render.frame_pixels:
        raise DataError(
            f"the student in {card.student} takes frames of {student.pixels} pixels, but render.frame_pixels of "
            f"task {card.task.name!r} is {card.task.render.frame_pixels}: fit the student again"
        )
    teacher = None if card.teacher is None or student.head == "reward" else load_teacher(card.teacher)
    reward_of_student(card.student, student, student.target_of(card.task.name), card.task.prompts, teacher)
    return replace(card, student_digest=sha256((card.student / WEIGHTS).read_bytes()).hexdigest())


def make_reward(card: AgentCard) -> RewardFunction | None:
    """The reward function of an agent, None for the true reward. Called in the process that runs the environment."""
    if card.reward == "student":
        assert card.student is not None, "check_reward comes first"
        prompts, penalty = card.task.prompts, card.spread_penalty
        return StudentReward.load(card.student, task=card.task.name, prompts=prompts, spread_penalty=penalty)
    if card.reward == "teacher":
        assert card.teacher is not None, "check_reward comes first"
        return teacher_reward(card.task, card.teacher, card.teacher_scales)
    return RandomReward(card.seed) if card.reward == "random" else None


def teacher_reward(task: Task, teacher: TeacherSettings, scales: tuple[Standardisation, ...] = ()) -> TeacherReward:
    """The teacher as a reward; `scales` has one entry for each CLIP."""
    return TeacherReward(load_teacher(teacher), task.prompts, scales)


def load_teacher(settings: TeacherSettings) -> "ClipTeacher":
    """The teacher of these settings. Raises as ClipTeacher does."""
    from lightning_modules.teacher import ClipTeacher  # open_clip, which no other reward needs

    return ClipTeacher(settings)


def measure_teacher_scales(card: AgentCard) -> AgentCard:
    """The card with the scales of its teacher's reward on SCALE_FRAMES frames of a random policy.

    The raw range moves strongly with alpha, and SAC reads the scale of a reward as its temperature.
    """
    assert card.teacher is not None, "check_reward comes first"
    frames = random_frames(card.drawn_task, SCALE_FRAMES, card.seed)
    return replace(card, teacher_scales=teacher_reward(card.task, card.teacher).scales_on(frames))


def random_frames(task: Task, count: int, seed: int) -> NDArray[np.uint8]:
    """Frames of a policy that acts at random, (count, P, P, 3)."""
    simulator = make_simulator(task)
    simulator.action_space.seed(seed)
    pixels = task.render.frame_pixels
    frames = np.empty((count, pixels, pixels, 3), np.uint8)
    for number, frame in enumerate(frames):
        if number % task.episode_steps == 0:
            simulator.reset(seed + number)
        simulator.step(simulator.action_space.sample())
        simulator.render(pixels, out=frame)
    simulator.close()
    return frames
