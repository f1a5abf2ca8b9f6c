"""The LightningModule: which reward it learns, on what scale, and what it logs."""

from pathlib import Path

import numpy as np
import pytest
import torch
from pytorch_lightning import Trainer

from datamodules.errors import DataError, SettingsError, UnknownNameError
from datamodules.frames_datamodule import FramesDataModule
from datamodules.splits import split_of
from lightning_modules.fit_callbacks import quiet_lightning
from lightning_modules.student_module import StudentModule
from tests.lightning_modules.students import BASELINE, GOAL, OTHER, reward_of, write_labels


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_labels(tmp_path_factory.mktemp("squares") / "labels")


def run_test(module: StudentModule, labels: Path) -> StudentModule:
    """The module after a test over the held-out episodes, its network as it began."""
    with quiet_lightning():
        trainer = Trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu")
        trainer.test(module, datamodule=FramesDataModule(labels), verbose=False)
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


def test_several_clips_are_learned_as_the_mean_of_their_standardised_rewards(tmp_path: Path) -> None:
    module = run_test(StudentModule("test_efficientnet"), write_labels(tmp_path / "labels", clips=2))
    raw = {episode: [reward_of(episode, step) for step in range(16)] for episode in range(20)}
    train, test = ([raw[episode] for episode in raw if split_of(episode) == split] for split in ("train", "test"))
    scores = module.held_out
    assert scores is not None
    # the second CLIP's similarity is half the first's: standardised they are the same
    np.testing.assert_allclose(scores.teacher, (np.ravel(test) - np.mean(train)) / np.std(train), atol=2e-2)
    assert (module.standardisation.mean, module.standardisation.std) == (0.0, 1.0)
    assert [scale.mean for scale in module.reward.scales] == pytest.approx(
        [np.mean(train), np.mean(train) / 2], abs=1e-3
    )


def test_prompts_are_those_of_the_task_unless_given(labels: Path) -> None:
    module = StudentModule("test_efficientnet")
    module.build(FramesDataModule(labels))
    assert (module.prompts.goal, module.prompts.baseline, module.prompts.alpha) == ((GOAL,), (BASELINE,), 0.0)
    module = StudentModule("test_efficientnet", goal=[OTHER], alpha=0.25)
    module.build(FramesDataModule(labels))
    assert (module.prompts.goal, module.prompts.baseline, module.prompts.alpha) == ((OTHER,), (BASELINE,), 0.25)


def test_another_goal_is_another_reward_of_the_same_labels(labels: Path) -> None:
    modules = [StudentModule("test_efficientnet", goal=[goal]) for goal in (GOAL, OTHER)]
    bright, dark = (run_test(module, labels).held_out for module in modules)
    assert bright is not None
    assert dark is not None
    np.testing.assert_allclose(bright.teacher, -dark.teacher, atol=1e-3)  # OTHER points the opposite way


def test_sentence_the_teacher_never_saw_names_the_command(labels: Path) -> None:
    with pytest.raises(DataError, match=r"no text embedding of 'a round square'.*scripts.label_frames"):
        StudentModule("test_efficientnet", goal=["a round square"]).build(FramesDataModule(labels))


def test_backbone_that_cannot_take_the_frames_is_found_before_any_frame_is_read(labels: Path) -> None:
    data = FramesDataModule(labels)
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
    module.build(FramesDataModule(labels))
    with torch.no_grad():
        next(module.network.head.parameters()).fill_(torch.nan)
    with pytest.raises(DataError, match=r"student rewards are not finite.*learning_rate"):
        run_test(module, labels)
