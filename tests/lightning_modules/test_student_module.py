"""The LightningModule: which reward it learns, on what scale, and what it logs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pytorch_lightning import Trainer

from datamodules.errors import DataError, SettingsError, UnknownNameError
from datamodules.frames_datamodule import FramesDataModule
from datamodules.splits import split_of
from datamodules.tasks import Prompts
from lightning_modules.fit_callbacks import quiet_lightning
from lightning_modules.student_module import EPISODES, StudentModule
from tests.lightning_modules.students import BASELINE, GOAL, OTHER, TASK, reward_of, write_labels


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_labels(tmp_path_factory.mktemp("squares") / "labels")


def run_test(module: StudentModule, labels: Path | list[str]) -> StudentModule:
    """The module after a test over the held-out episodes, its network as it began."""
    with quiet_lightning():
        trainer = Trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu")
        trainer.test(
            module, datamodule=FramesDataModule(labels if isinstance(labels, list) else str(labels)), verbose=False
        )
    return module


def test_standardisation_is_frozen_to_the_training_split(labels: Path) -> None:
    module = run_test(StudentModule("test_efficientnet"), labels)
    raw = [reward_of(episode, step) for episode in range(20) for step in range(16) if split_of(episode) == "train"]
    assert module.standardisation.mean == pytest.approx(np.mean(raw), abs=1e-4)  # embeddings are float16
    assert module.standardisation.std == pytest.approx(np.std(raw), rel=1e-2)


def test_held_out_scores_are_those_of_the_test_episodes(labels: Path) -> None:
    module = run_test(StudentModule("test_efficientnet"), labels)
    scores = module.held_out
    assert scores is not None
    held_out = [(episode, step) for episode in range(20) for step in range(16) if split_of(episode) == "test"]
    assert list(zip(scores.episode.tolist(), scores.step.tolist(), strict=True)) == held_out
    raw = scores.teacher.numpy() * module.standardisation.std + module.standardisation.mean
    np.testing.assert_allclose(raw, [reward_of(*key) for key in held_out], atol=5e-4)
    np.testing.assert_allclose(scores.true_reward, [episode + step / 100 for episode, step in held_out], rtol=1e-6)


def test_prompts_are_those_of_the_task_unless_given(labels: Path) -> None:
    module = StudentModule("test_efficientnet")
    module.build(FramesDataModule(str(labels)))
    assert (module.prompts.goal, module.prompts.baseline, module.prompts.alpha) == ((GOAL,), (BASELINE,), 0.0)
    module = StudentModule("test_efficientnet", goal=[OTHER], alpha=0.25)
    module.build(FramesDataModule(str(labels)))
    assert (module.prompts.goal, module.prompts.baseline, module.prompts.alpha) == ((OTHER,), (BASELINE,), 0.25)


def test_another_goal_is_another_reward_of_the_same_labels(labels: Path) -> None:
    modules = [StudentModule("test_efficientnet", goal=[goal]) for goal in (GOAL, OTHER)]
    bright, dark = (run_test(module, labels).held_out for module in modules)
    assert bright is not None
    assert dark is not None
    np.testing.assert_allclose(bright.teacher, -dark.teacher, atol=1e-3)  # OTHER points the opposite way


def test_sentence_the_teacher_never_saw_names_the_command(labels: Path) -> None:
    with pytest.raises(DataError, match=r"no text embedding of 'a round square'.*scripts.label_frames"):
        StudentModule("test_efficientnet", goal=["a round square"]).build(FramesDataModule(str(labels)))


def test_backbone_that_cannot_take_the_frames_is_found_before_any_frame_is_read(labels: Path) -> None:
    data = FramesDataModule(str(labels))
    with pytest.raises(SettingsError, match="cannot take frames of 32 x 32"):
        StudentModule("test_vit", patch_size=12).build(data)


def test_wrong_settings_are_refused_at_construction() -> None:
    with pytest.raises(UnknownNameError, match=r"did you mean .*'test_efficientnet'"):
        StudentModule("test_eficientnet")
    with pytest.raises(SettingsError, match=r"learning_rate is 0\.0"):
        StudentModule("test_efficientnet", learning_rate=0.0)
    with pytest.raises(SettingsError, match=r"weight_decay is -1\.0"):
        StudentModule("test_efficientnet", weight_decay=-1.0)


def test_diverged_student_is_a_plain_error(labels: Path) -> None:
    module = StudentModule("test_efficientnet")
    module.build(FramesDataModule(str(labels)))
    with torch.no_grad():
        next(module.network.head.parameters()).fill_(torch.nan)
    with pytest.raises(DataError, match=r"student rewards are not finite.*learning_rate"):
        run_test(module, labels)


DARK = replace(TASK, name="dark_squares", prompts=Prompts((OTHER,), (BASELINE,), 0.25))


def raw_scores(module: StudentModule, episodes: int, data_set: int) -> tuple[NDArray[np.float32], list[float]]:
    """The teacher's held-out rewards of a data set on their raw scale, and the squares' own."""
    scores, scale = module.held_out, module.standardisations[data_set]
    assert scores is not None
    mine = (scores.episode >= data_set * EPISODES) & (scores.episode < (data_set + 1) * EPISODES)
    keys = [(episode, step) for episode in range(episodes) for step in range(16) if split_of(episode) == "test"]
    shifted = [(episode + data_set * EPISODES, step) for episode, step in keys]
    assert list(zip(scores.episode[mine].tolist(), scores.step[mine].tolist(), strict=True)) == shifted
    return scores.teacher[mine].numpy() * scale.std + scale.mean, [reward_of(*key) for key in keys]


def test_each_frame_is_scored_by_its_own_tasks_reward(labels: Path, tmp_path: Path) -> None:
    dark = write_labels(tmp_path / "dark", episodes=10, task=DARK)
    module = run_test(StudentModule("test_efficientnet"), [str(labels), str(dark)])
    bright, rewards = raw_scores(module, 20, 0)
    np.testing.assert_allclose(bright, rewards, atol=5e-4)
    found, rewards = raw_scores(module, 10, 1)
    np.testing.assert_allclose(found, [projected(reward) for reward in rewards], atol=1e-3)


def projected(reward: float, alpha: float = 0.25) -> float:
    """Rocamonde et al. 2024, Definition 1, of a square's embedding with OTHER as goal, by projection."""
    state = np.array([reward, 0.0, np.sqrt(1 - reward**2)])
    goal, baseline = np.array([-1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0])
    direction = (goal - baseline) / np.linalg.norm(goal - baseline)
    along = baseline + direction * ((state - baseline) @ direction)
    return float(1 - 0.5 * np.sum((alpha * along + (1 - alpha) * state - goal) ** 2))


def test_each_task_has_a_scale_of_its_own(labels: Path, tmp_path: Path) -> None:
    dark = write_labels(tmp_path / "dark", episodes=10, task=DARK)
    module = run_test(StudentModule("test_efficientnet"), [str(labels), str(dark)])
    alone = [run_test(StudentModule("test_efficientnet"), place).standardisation for place in (labels, dark)]
    assert module.standardisations == alone
    assert alone[0] != alone[1]


def test_two_data_sets_of_one_task_share_one_scale(labels: Path, tmp_path: Path) -> None:
    more = write_labels(tmp_path / "more", episodes=10)
    module = run_test(StudentModule("test_efficientnet"), [str(labels), str(more)])
    raw = [reward_of(e, s) for n in (20, 10) for e in range(n) for s in range(16) if split_of(e) == "train"]
    assert module.standardisations[0] == module.standardisations[1]
    assert module.standardisation.mean == pytest.approx(np.mean(raw), abs=1e-4)
    assert module.standardisation.std == pytest.approx(np.std(raw), rel=1e-2)
