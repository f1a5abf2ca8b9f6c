"""Reward functions: numpy in, numpy out, and nothing heavy imported on the way."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from datamodules.errors import DataError, SettingsError
from datamodules.pixels import to_model_input
from datamodules.tasks import Prompts
from lightning_modules.reward_function import RandomReward, RewardFunction, StudentReward, TeacherReward
from lightning_modules.rewards import Standardisation
from lightning_modules.student_embeddings import StudentEmbeddings
from lightning_modules.student_files import save_student
from tests.lightning_modules.students import (
    BASELINE,
    DIM,
    GOAL,
    OTHER,
    PIXELS,
    SENTENCES,
    TASK,
    TEACHER,
    made_student,
)

ROOT = Path(__file__).parents[2]
FRAMES = np.random.default_rng(0).integers(0, 256, (5, PIXELS, PIXELS, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_student(tmp_path, *made_student())
    return tmp_path


class FirstPixelTeacher:
    """Embeds a frame by its first pixel alone, so that a wrong frame, order or index shows."""

    dims = (2,)
    digest = "3" * 64
    SENTENCES: ClassVar = {"goal": (1.0, 0.0), "baseline": (0.6, 0.8)}

    def embed_frames(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        angle = frames[:, 0, 0, 0] / 255 * np.pi / 2
        return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)

    def embed_prompts(self, sentences: Sequence[str]) -> NDArray[np.float32]:
        return np.array([self.SENTENCES[sentence] for sentence in sentences], np.float32)


def test_student_gives_what_its_network_gives(folder: Path) -> None:
    network, _ = made_student()
    with torch.inference_mode():
        expected = network(to_model_input(FRAMES))[:, 0].numpy()
    rewards = StudentReward.load(folder, runtime="torch")(FRAMES)
    assert rewards.dtype == np.float32
    np.testing.assert_allclose(rewards, expected, rtol=1e-4, atol=1e-5)


def test_frames_do_not_depend_on_the_batch_they_come_in(folder: Path) -> None:
    reward = StudentReward.load(folder, runtime="torch")
    singly = [reward(FRAMES[index : index + 1])[0] for index in range(len(FRAMES))]
    np.testing.assert_allclose(reward(FRAMES), singly, rtol=1e-4, atol=1e-5)


def test_raw_reward_undoes_the_standardisation(folder: Path) -> None:
    reward = StudentReward.load(folder)
    np.testing.assert_allclose(reward.raw(FRAMES), reward(FRAMES) * 0.05 + 0.3, rtol=1e-5)
    assert reward.raw(FRAMES).dtype == np.float32


@pytest.mark.parametrize("shared_backbone", [False, True])
def test_ensemble_gives_the_mean_of_its_members_and_their_spread(tmp_path: Path, shared_backbone: bool) -> None:
    network, card = made_student(members=3, shared_backbone=shared_backbone)
    save_student(tmp_path, network, card)
    with torch.inference_mode():
        expected = network(to_model_input(FRAMES)).numpy()
    assert (expected.std(axis=1) > 0).all()
    reward = StudentReward.load(tmp_path, runtime="torch")
    np.testing.assert_allclose(reward(FRAMES), expected.mean(axis=1), rtol=1e-4, atol=1e-5)
    mean, spread = reward.mean_and_spread(FRAMES)
    np.testing.assert_array_equal(mean, reward(FRAMES))
    np.testing.assert_allclose(spread, expected.std(axis=1), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("head", ["reward", "embedding"])
def test_the_penalty_takes_that_many_standard_deviations_off_the_mean(tmp_path: Path, head: Any) -> None:
    network, card = made_student(head=head, members=3)
    embeddings = StudentEmbeddings(SENTENCES, {TASK.name: SAMPLE}) if head == "embedding" else None
    save_student(tmp_path, network, card, embeddings)
    members = StudentReward.load(tmp_path, runtime="torch").members(FRAMES)
    deviations = np.sqrt(((members - members.mean(axis=1, keepdims=True)) ** 2).mean(axis=1))
    assert (deviations > 0).all()
    pessimist = StudentReward.load(tmp_path, runtime="torch", spread_penalty=1.5)
    assert pessimist(FRAMES).dtype == np.float32
    np.testing.assert_allclose(pessimist(FRAMES), members.mean(axis=1) - 1.5 * deviations, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(pessimist.mean_and_spread(FRAMES)[0], members.mean(axis=1))


def test_a_spread_that_is_not_there_cannot_be_penalised(folder: Path) -> None:
    with pytest.raises(SettingsError, match=r"spread_penalty is 1\.0 but the student of .* is a single one"):
        StudentReward.load(folder, spread_penalty=1.0)
    for penalty in (-0.5, float("nan"), float("inf")):
        with pytest.raises(SettingsError, match="at least 0 and finite"):
            StudentReward.load(folder, spread_penalty=penalty)


def test_single_student_has_no_spread(folder: Path) -> None:
    assert not StudentReward.load(folder).mean_and_spread(FRAMES)[1].any()


def test_prompts_of_the_fit_may_be_given_to_a_reward_head_and_no_others(folder: Path) -> None:
    own = made_student()[1].target_of().prompts
    expected = StudentReward.load(folder, runtime="torch")(FRAMES)
    np.testing.assert_array_equal(StudentReward.load(folder, runtime="torch", prompts=own)(FRAMES), expected)
    with pytest.raises(SettingsError, match=r"has no other: 'a dark square' with alpha 0 .*--model\.head embedding"):
        StudentReward.load(folder, prompts=Prompts((OTHER,)))


SAMPLE = np.random.default_rng(1).normal(size=(64, DIM)).astype(np.float32)
SAMPLE = (SAMPLE / np.linalg.norm(SAMPLE, axis=1, keepdims=True)).astype(np.float16)


@pytest.fixture
def embedding_folder(tmp_path: Path) -> Path:
    """A student with an embedding head that knows all SENTENCES but OTHER."""
    sentences = {key: vector.astype(np.float32) for key, vector in SENTENCES.items() if key != OTHER}
    embeddings = StudentEmbeddings(sentences, {TASK.name: SAMPLE})
    save_student(tmp_path, *made_student(head="embedding"), embeddings)
    return tmp_path


def embeddings_of_frames() -> NDArray[np.float64]:
    with torch.inference_mode():
        embeddings: NDArray[np.float64] = (
            made_student(head="embedding")[0](to_model_input(FRAMES))[:, 0].double().numpy()
        )
    return embeddings


@pytest.mark.parametrize("runtime", ["torch", "auto"])
def test_embedding_head_gives_the_reward_of_any_prompt(embedding_folder: Path, runtime: Any) -> None:
    reward = StudentReward.load(embedding_folder, runtime, prompts=Prompts((BASELINE,)))  # alpha 0: the cosine
    similarity, sample = embeddings_of_frames() @ SENTENCES[BASELINE], SAMPLE.astype(np.float64) @ SENTENCES[BASELINE]
    tolerance = 1e-3 if runtime == "torch" else 0.1
    np.testing.assert_allclose(reward(FRAMES), (similarity - sample.mean()) / sample.std(), atol=tolerance)
    np.testing.assert_allclose(reward.raw(FRAMES), similarity, atol=tolerance)


def test_embedding_head_has_the_prompts_and_the_scale_of_its_fit_unless_others_are_given(
    embedding_folder: Path,
) -> None:
    reward, own = StudentReward.load(embedding_folder, "torch"), made_student()[1].target_of()
    expected = TeacherReward(KnownTeacher(), own.prompts, own.scales)
    np.testing.assert_allclose(reward(FRAMES), expected(FRAMES), atol=1e-3)


class KnownTeacher:
    """Embeds frames as the student of `embedding_folder` does, and the sentences of SENTENCES."""

    dims = (DIM,)
    digest = TEACHER.digest

    def embed_frames(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        return embeddings_of_frames().astype(np.float32)

    def embed_prompts(self, sentences: Sequence[str]) -> NDArray[np.float32]:
        return np.array([SENTENCES[sentence] for sentence in sentences], np.float32)


def test_new_sentence_is_embedded_by_the_teacher_once_and_kept(embedding_folder: Path) -> None:
    prompts = Prompts((OTHER,))
    with pytest.raises(DataError, match=r"does not know .* 'a dark square': give the teacher .*'a bright square'"):
        StudentReward.load(embedding_folder, prompts=prompts)
    first = StudentReward.load(embedding_folder, "torch", prompts=prompts, teacher=KnownTeacher())(FRAMES)
    np.testing.assert_array_equal(StudentReward.load(embedding_folder, "torch", prompts=prompts)(FRAMES), first)


def test_sentence_of_another_teacher_is_refused(embedding_folder: Path) -> None:
    other = KnownTeacher()
    other.digest = "5" * 64
    with pytest.raises(DataError, match=r"learned from tiny/known .* not from the teacher given \(digest 555"):
        StudentReward.load(embedding_folder, prompts=Prompts((OTHER,)), teacher=other)


def test_embedding_head_without_its_embeddings_is_refused(embedding_folder: Path) -> None:
    (embedding_folder / "embeddings.safetensors").write_bytes(b"")
    with pytest.raises(DataError, match=r"embeddings\.safetensors is missing or damaged.*fit"):
        StudentReward.load(embedding_folder)
    StudentEmbeddings({GOAL: np.ones(3, np.float32)}, {TASK.name: SAMPLE}).write(embedding_folder)
    with pytest.raises(DataError, match=r"does not fit its student in 'a bright square' \(embeddings have length 8"):
        StudentReward.load(embedding_folder)


def test_rewards_can_be_written_to(folder: Path) -> None:
    rewards = StudentReward.load(folder)(FRAMES)
    rewards += 1.0


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (FRAMES.astype(np.float32), "frames are float32"),
        (FRAMES[0], "add the batch axis"),
        (FRAMES[:, :16, :16], rf"must be \(batch, {PIXELS}, {PIXELS}, 3\)"),
    ],
)
def test_student_refuses_other_frames(folder: Path, frames: NDArray[np.uint8], message: str) -> None:
    with pytest.raises(DataError, match=message):
        StudentReward.load(folder)(frames)


def test_teacher_reward_is_the_cosine_without_projection() -> None:
    frames = np.zeros((3, 4, 4, 3), np.uint8)
    frames[:, 0, 0, 0] = [0, 85, 255]  # 0, 30 and 90 degrees
    rewards = TeacherReward(FirstPixelTeacher(), Prompts(("goal",)))(frames)
    np.testing.assert_allclose(rewards, [1.0, np.cos(np.pi / 6), 0.0], atol=1e-6)


def test_teacher_reward_follows_the_definition_of_the_projection() -> None:
    frames = np.zeros((3, 4, 4, 3), np.uint8)
    frames[:, 0, 0, 0] = [10, 85, 200]
    alpha, teacher = 0.5, FirstPixelTeacher()
    s, g, b = teacher.embed_frames(frames), np.array([1.0, 0.0]), np.array([0.6, 0.8])
    # Rocamonde et al. 2024, Definition 1, as written: project s on the line through b and g
    direction = (g - b) / np.linalg.norm(g - b)
    projected = b + ((s - b) @ direction)[:, None] * direction
    expected = 1 - 0.5 * np.sum((alpha * projected + (1 - alpha) * s - g) ** 2, axis=1)
    rewards = TeacherReward(teacher, Prompts(("goal",), ("baseline",), alpha))(frames)
    np.testing.assert_allclose(rewards, expected, atol=1e-6)


def test_teacher_reward_is_standardised_on_request() -> None:
    frames = np.zeros((1, 4, 4, 3), np.uint8)  # cosine 1
    reward = TeacherReward(FirstPixelTeacher(), Prompts(("goal",)), [Standardisation(mean=0.5, std=0.25)])
    np.testing.assert_allclose(reward(frames), [2.0])


def test_scales_are_those_of_the_frames_they_are_asked_for() -> None:
    frames = np.zeros((2, 4, 4, 3), np.uint8)
    frames[:, 0, 0, 0] = [0, 255]  # cosine 1 and 0
    (scale,) = TeacherReward(FirstPixelTeacher(), Prompts(("goal",))).scales_on(frames)
    assert (scale.mean, scale.std) == (pytest.approx(0.5), pytest.approx(0.5))


def test_random_reward_is_repeatable_noise_of_unit_scale() -> None:
    frames = np.zeros((4000, 1, 1, 3), np.uint8)
    rewards = RandomReward(seed=1)(frames)
    np.testing.assert_array_equal(rewards, RandomReward(seed=1)(frames))
    assert rewards.dtype == np.float32
    assert abs(rewards.mean()) < 0.06
    assert abs(rewards.std() - 1) < 0.05


def test_all_of_them_are_reward_functions(folder: Path) -> None:
    kinds: list[RewardFunction] = [
        StudentReward.load(folder),
        TeacherReward(FirstPixelTeacher(), Prompts(("goal",))),
        RandomReward(0),
    ]
    assert [reward(FRAMES).shape for reward in kinds] == [(5,)] * 3


def test_using_a_student_imports_no_framework(folder: Path) -> None:
    code = (
        "import sys, numpy as np\n"
        "from lightning_modules.reward_function import StudentReward\n"
        f"StudentReward.load({str(folder)!r})(np.zeros((2, {PIXELS}, {PIXELS}, 3), np.uint8))\n"
        "print({'ray', 'pytorch_lightning', 'open_clip', 'mlflow', 'webdataset'} & set(sys.modules))"
    )
    outcome = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (outcome.stdout, outcome.stderr) == ("set()\n", "")
