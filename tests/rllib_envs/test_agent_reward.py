"""Choosing a reward: mistakes are found before any work, and the right function comes out."""

from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from datamodules.errors import DataError, SettingsError, UnknownNameError
from datamodules.manifest import TeacherEntry
from datamodules.pixels import to_model_input
from datamodules.tasks import Prompts, RenderSettings, Task
from lightning_modules.reward_function import RandomReward, StudentReward
from lightning_modules.settings import TeacherSettings
from lightning_modules.student_embeddings import StudentEmbeddings
from lightning_modules.student_files import WEIGHTS, save_student
from lightning_modules.teacher import ClipTeacher
from rllib_envs.agent_files import AgentCard
from rllib_envs.agent_reward import SCALE_FRAMES, check_reward, make_reward, measure_teacher_scales, random_frames
from rllib_envs.settings import SacSettings
from tests.lightning_modules.clips import write_clip
from tests.lightning_modules.students import PIXELS, made_student

SAC = SacSettings()


@pytest.fixture
def small_pole(pole: Task) -> Task:
    prompts = made_student()[1].target_of().prompts
    return replace(pole, prompts=prompts, render=RenderSettings(frame_pixels=PIXELS, teacher_pixels=48))


@pytest.fixture
def student(small_pole: Task, tmp_path: Path) -> Path:
    """A student with random weights, of the task `small_pole`."""
    network, card = made_student()
    save_student(
        tmp_path / "student", network, replace(card, targets=(replace(card.targets[0], task=small_pole.name),))
    )
    return tmp_path / "student"


def test_a_students_card_gets_its_digest_and_gives_its_reward(small_pole: Task, student: Path) -> None:
    card = check_reward(AgentCard(small_pole, "student", SAC, 0, student=student))
    assert card.student_digest == sha256((student / WEIGHTS).read_bytes()).hexdigest()
    frames = np.random.default_rng(0).integers(0, 256, (3, PIXELS, PIXELS, 3), np.uint8)
    reward = make_reward(card)
    assert reward is not None
    np.testing.assert_array_equal(reward(frames), StudentReward.load(student)(frames))


def test_an_ensembles_spread_is_penalised_where_the_card_says_so(small_pole: Task, tmp_path: Path) -> None:
    network, card = made_student(members=3)
    student = tmp_path / "ensemble"
    save_student(student, network, replace(card, targets=(replace(card.targets[0], task=small_pole.name),)))
    check_reward(AgentCard(small_pole, "student", SAC, 0, student=student, spread_penalty=2.0)).write(tmp_path)
    agent = AgentCard.read(tmp_path)
    frames = np.random.default_rng(0).integers(0, 256, (3, PIXELS, PIXELS, 3), np.uint8)
    reward = make_reward(agent)
    assert reward is not None
    members = StudentReward.load(student).members(frames)
    np.testing.assert_allclose(reward(frames), members.mean(axis=1) - 2 * members.std(axis=1), rtol=1e-5)


def test_a_spread_penalty_needs_the_reward_of_an_ensemble(small_pole: Task, student: Path) -> None:
    with pytest.raises(SettingsError, match=r"spread_penalty is 1\.0 but the reward is 'random'"):
        check_reward(AgentCard(small_pole, "random", SAC, 0, spread_penalty=1.0))
    with pytest.raises(SettingsError, match="is a single one, which has no spread"):
        check_reward(AgentCard(small_pole, "student", SAC, 0, student=student, spread_penalty=1.0))


def test_the_other_rewards_need_no_files(pole: Task) -> None:
    assert make_reward(check_reward(AgentCard(pole, "true", SAC, 0))) is None
    assert isinstance(make_reward(check_reward(AgentCard(pole, "random", SAC, 0))), RandomReward)


def test_a_teacher_of_several_clips_rewards_on_a_frozen_scale(small_pole: Task, tmp_path: Path) -> None:
    first, second = (write_clip(tmp_path, f"agent-test-clip-{seed}", seed) for seed in (1, 2))
    teacher = replace(first, model=(first.model, second.model), weights=(first.weights, second.weights))
    card = measure_teacher_scales(check_reward(AgentCard(small_pole, "teacher", SAC, 0, teacher=teacher)))
    card.write(tmp_path / "agent")
    card = AgentCard.read(tmp_path / "agent")
    assert len(card.teacher_scales) == 2
    reward = make_reward(card)
    assert reward is not None
    seen = replace(small_pole, render=RenderSettings(frame_pixels=48, teacher_pixels=48))
    rewards = reward(random_frames(seen, SCALE_FRAMES, seed=0))  # those that set the scales
    assert rewards.mean() == pytest.approx(0, abs=1e-3)
    assert rewards.std() == pytest.approx(1, abs=1e-3)


def test_a_teacher_in_the_loop_sees_the_frames_that_it_labels_and_a_student_those_that_it_knows(pole: Task) -> None:
    task = replace(pole, render=RenderSettings(frame_pixels=PIXELS, teacher_pixels=48))
    assert AgentCard(task, "teacher", SAC, 0).drawn_task.render.frame_pixels == 48
    assert AgentCard(task, "student", SAC, 0).drawn_task == task


def test_an_agent_that_sees_pixels_shares_its_frames_with_its_teacher(pole: Task) -> None:
    card = AgentCard(pole, "teacher", replace(SAC, observations="pixels"), 0, teacher=TeacherSettings("a", "b"))
    with pytest.raises(SettingsError, match=r"84 pixels \(render\.frame_pixels\) and its teacher of 96"):
        check_reward(replace(card, task=replace(pole, render=RenderSettings(frame_pixels=84, teacher_pixels=96))))
    check_reward(replace(card, task=replace(pole, render=RenderSettings(frame_pixels=84, teacher_pixels=84))))


def test_an_unknown_reward_is_offered_the_closest(pole: Task) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'student'"):
        check_reward(AgentCard(pole, cast(Any, "studnet"), SAC, 0))


@pytest.mark.parametrize(("reward", "option"), [("student", "--student"), ("teacher", "--teacher")])
def test_a_reward_without_its_source_names_the_option(pole: Task, reward: Any, option: str) -> None:
    with pytest.raises(SettingsError, match=option):
        check_reward(AgentCard(pole, reward, SAC, 0))


def test_a_student_of_another_task_or_size_is_refused(small_pole: Task, student: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="fitted for 'pole', not 'walk'"):
        check_reward(AgentCard(replace(small_pole, name="walk"), "student", SAC, 0, student=student))
    larger = replace(small_pole, render=RenderSettings(frame_pixels=84))
    with pytest.raises(DataError, match="frames of 32 pixels"):
        check_reward(AgentCard(larger, "student", SAC, 0, student=student))
    with pytest.raises(DataError, match="fit"):
        check_reward(AgentCard(small_pole, "student", SAC, 0, student=tmp_path / "nowhere"))


def test_prompts_that_a_reward_head_was_not_fitted_to_are_refused(small_pole: Task, student: Path) -> None:
    other = replace(small_pole, prompts=Prompts(("a pole hanging down",)))
    with pytest.raises(SettingsError, match=r"fitted to the reward of 'a bright square' .* 'a pole hanging down' with"):
        check_reward(AgentCard(other, "student", SAC, 0, student=student))


def test_an_embedding_head_takes_the_tasks_prompts_and_the_teacher_embeds_new_ones(
    small_pole: Task, tmp_path: Path
) -> None:
    teacher = write_clip(tmp_path, "agent-test-clip", 1)
    clip = ClipTeacher(teacher)
    network, card = made_student(head="embedding")
    own = card.targets[0].prompts
    card = replace(
        card,
        targets=(replace(card.targets[0], task=small_pole.name),),
        teacher=TeacherEntry(clip.name, clip.digest, clip.dims, "float32"),
    )
    network = card.network().eval()
    sentences = dict(zip((*own.goal, *own.baseline), clip.embed_prompts((*own.goal, *own.baseline)), strict=True))
    sample = clip.embed_frames(np.random.default_rng(0).integers(0, 256, (20, 48, 48, 3), np.uint8))
    student = tmp_path / "student"
    save_student(student, network, card, StudentEmbeddings(sentences, {small_pole.name: sample.astype(np.float16)}))
    other = replace(small_pole, prompts=Prompts(("a pole hanging down",)))
    with pytest.raises(DataError, match=r"does not know .* 'a pole hanging down': give the teacher"):
        check_reward(AgentCard(other, "student", SAC, 0, student=student))
    checked = check_reward(AgentCard(other, "student", SAC, 0, student=student, teacher=teacher))
    frames = np.random.default_rng(1).integers(0, 256, (3, PIXELS, PIXELS, 3), np.uint8)
    reward = make_reward(checked)
    assert reward is not None
    with torch.inference_mode():
        embeddings = network(to_model_input(torch.from_numpy(frames)))[:, 0].numpy()
    (goal,) = clip.embed_prompts(["a pole hanging down"])
    standardised = (embeddings @ goal - (sample @ goal).mean()) / (sample @ goal).std()
    np.testing.assert_allclose(reward(frames), standardised, atol=0.1 * np.abs(standardised).max())


def test_random_frames_differ_within_an_episode_and_repeat_with_the_seed(small_pole: Task) -> None:
    frames = random_frames(small_pole, 7, seed=1)
    assert frames.shape == (7, PIXELS, PIXELS, 3)
    assert (frames == random_frames(small_pole, 7, seed=1)).all()
    assert (frames != random_frames(small_pole, 7, seed=2)).any()
    longer = random_frames(replace(small_pole, episode_frames=400), 100, seed=1)
    assert (longer.std(axis=0) > 0).any()
