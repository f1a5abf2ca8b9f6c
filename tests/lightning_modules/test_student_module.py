"""The LightningModule: which reward it learns, on what scale, and what it logs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pytorch_lightning import Trainer
from safetensors.torch import save_file

from datamodules.errors import DataError, SettingsError, UnknownNameError
from datamodules.frames_datamodule import FramesDataModule
from datamodules.splits import split_of
from datamodules.tasks import Prompts
from lightning_modules.fit_callbacks import quiet_lightning
from lightning_modules.rewards import Standardisation
from lightning_modules.student_module import MONITOR, StudentModule
from lightning_modules.student_network import StudentNetwork
from lightning_modules.student_scores import EPISODES
from tests.lightning_modules import students
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


def scale_of(module: StudentModule, data_set: int = 0) -> Standardisation:
    """The frozen scale of the reward that a data set's frames teach."""
    return module.targets.all[module.targets.of_set[data_set]].reward.standardisation


def ready(labels: Path) -> FramesDataModule:
    data = FramesDataModule(labels, batch_size=32)
    data.prepare_data()
    data.setup("fit")
    return data


def fit_one_epoch(module: StudentModule, labels: Path) -> None:
    with quiet_lightning():
        Trainer(
            logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu", max_epochs=1
        ).fit(module, datamodule=FramesDataModule(labels, batch_size=32))


def test_standardisation_is_frozen_to_the_training_split(labels: Path) -> None:
    module = run_test(StudentModule("test_efficientnet"), labels)
    raw = [reward_of(episode, step) for episode in range(20) for step in range(16) if split_of(episode) == "train"]
    assert scale_of(module).mean == pytest.approx(np.mean(raw), abs=1e-4)  # embeddings are float16
    assert scale_of(module).std == pytest.approx(np.std(raw), rel=1e-2)


def test_held_out_scores_are_those_of_the_test_episodes(labels: Path) -> None:
    module = run_test(StudentModule("test_efficientnet"), labels)
    scores = module.held_out
    assert scores is not None
    held_out = [(episode, step) for episode in range(20) for step in range(16) if split_of(episode) == "test"]
    assert list(zip(scores.episode.tolist(), scores.step.tolist(), strict=True)) == held_out
    raw = scores.teacher.numpy() * scale_of(module).std + scale_of(module).mean
    np.testing.assert_allclose(raw, [reward_of(*key) for key in held_out], atol=5e-4)
    np.testing.assert_allclose(scores.true_reward, [episode + step / 100 for episode, step in held_out], rtol=1e-6)


class Overheard(StudentModule):
    """Keeps what it logs."""

    def __init__(self) -> None:
        super().__init__("test_efficientnet")
        self.overheard: dict[str, Any] = {}

    def log(self, name: str, value: Any, **settings: Any) -> None:
        """As ever."""
        self.overheard[name] = value
        super().log(name, value, **settings)


def test_validation_logs_numbers_which_every_device_can_reduce(labels: Path) -> None:
    module = Overheard()
    with quiet_lightning():
        trainer = Trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu")
        trainer.validate(module, datamodule=FramesDataModule(labels), verbose=False)
    assert MONITOR in module.overheard
    assert {type(value) for value in module.overheard.values()} == {float}


def test_several_clips_are_learned_as_the_mean_of_their_standardised_rewards(tmp_path: Path) -> None:
    module = run_test(StudentModule("test_efficientnet"), write_labels(tmp_path / "labels", clips=2))
    raw = {episode: [reward_of(episode, step) for step in range(16)] for episode in range(20)}
    train, test = ([raw[episode] for episode in raw if split_of(episode) == split] for split in ("train", "test"))
    scores = module.held_out
    assert scores is not None
    # the second CLIP's similarity is half the first's: standardised they are the same
    np.testing.assert_allclose(scores.teacher, (np.ravel(test) - np.mean(train)) / np.std(train), atol=2e-2)
    assert (scale_of(module).mean, scale_of(module).std) == (0.0, 1.0)
    assert [scale.mean for scale in module.targets.all[0].reward.scales] == pytest.approx(
        [np.mean(train), np.mean(train) / 2], abs=1e-3
    )


def test_prompts_are_those_of_the_task_unless_given(labels: Path) -> None:
    module = StudentModule("test_efficientnet")
    module.build(FramesDataModule(str(labels)))
    assert module.targets.all[0].prompts == Prompts((GOAL,), (BASELINE,), 0.0)
    module = StudentModule("test_efficientnet", goal=[OTHER], alpha=0.25)
    module.build(FramesDataModule(str(labels)))
    assert module.targets.all[0].prompts == Prompts((OTHER,), (BASELINE,), 0.25)


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
        StudentModule("inception_v3").build(data)


def test_wrong_settings_are_refused_at_construction() -> None:
    with pytest.raises(UnknownNameError, match=r"did you mean .*'test_efficientnet'"):
        StudentModule("test_eficientnet")
    with pytest.raises(SettingsError, match=r"learning_rate is 0\.0"):
        StudentModule("test_efficientnet", learning_rate=0.0)
    with pytest.raises(SettingsError, match=r"weight_decay is -1\.0"):
        StudentModule("test_efficientnet", weight_decay=-1.0)


def test_frozen_backbone_needs_weights_that_mean_something() -> None:
    with pytest.raises(SettingsError, match=r"model\.frozen is true and model\.weights is 'random'"):
        StudentModule("test_efficientnet", frozen=True)


def test_frozen_backbone_stays_as_it_was_and_the_head_learns(labels: Path, tmp_path: Path) -> None:
    start = StudentNetwork("test_efficientnet", 32).backbones[0].state_dict()
    save_file(start, tmp_path / "start.safetensors")
    module = StudentModule("test_efficientnet", weights=str(tmp_path / "start.safetensors"), frozen=True)
    module.build(FramesDataModule(labels))
    head = {name: tensor.clone() for name, tensor in module.network.heads[0].state_dict().items()}
    fit_one_epoch(module, labels)
    for name, tensor in module.network.backbones[0].state_dict().items():
        torch.testing.assert_close(tensor, start[name], msg=name)
    assert not torch.equal(module.network.heads[0].state_dict()["0.weight"], head["0.weight"])


def test_gradient_checkpointing_gives_the_same_loss(labels: Path) -> None:
    batch = next(iter(ready(labels).train_dataloader()))
    losses = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        module = run_test(StudentModule("test_efficientnet", gradient_checkpointing=checkpointing), labels).train()
        loss = module.loss_of(batch)
        loss.backward()
        losses.append((loss.item(), next(module.network.backbones[0].parameters()).grad))
    assert losses[0][0] == pytest.approx(losses[1][0], rel=1e-5)
    torch.testing.assert_close(losses[0][1], losses[1][1], rtol=1e-3, atol=1e-6)


def test_ranking_weight_adds_that_share_of_the_ranking_loss(labels: Path) -> None:
    batch = next(iter(ready(labels).train_dataloader()))
    module = run_test(StudentModule("test_efficientnet"), labels)
    plain = module.loss_of(batch).item()
    module.ranking_weight = 0.5
    student, teacher = module(batch.frames)[:, 0].detach().numpy(), module._answers(batch).numpy()
    pairs = [(i, j) for i in range(len(teacher)) for j in range(len(teacher)) if teacher[i] > teacher[j]]
    by_hand = np.mean([np.log1p(np.exp(-(student[i] - student[j]))) for i, j in pairs])
    assert module.loss_of(batch).item() == pytest.approx(plain + 0.5 * by_hand, rel=1e-4)


def test_loss_that_is_not_finite_names_its_frames_and_the_cause(labels: Path) -> None:
    module = run_test(StudentModule("test_efficientnet"), labels)
    batch = next(iter(ready(labels).val_dataloader()))
    key = f"{int(batch.episode[1]):06d}-{int(batch.step[1]):06d}"
    batch.embeddings[1] = torch.nan
    with pytest.raises(DataError, match=f"on frames {key}; their labels are damaged: label them again"):
        module.loss_of(batch)
    with torch.no_grad():
        next(module.network.heads[0].parameters()).fill_(torch.nan)
    batch.embeddings[1] = batch.embeddings[0]
    with pytest.raises(DataError, match=rf"on frames .* and {len(batch.frames) - 5} more; the fit diverged: lower"):
        module.loss_of(batch)


def test_diverged_student_is_a_plain_error(labels: Path) -> None:
    module = StudentModule("test_efficientnet")
    module.build(FramesDataModule(str(labels)))
    with torch.no_grad():
        next(module.network.heads[0].parameters()).fill_(torch.nan)
    with pytest.raises(DataError, match=r"student rewards are not finite.*learning_rate"):
        run_test(module, labels)


DARK = replace(TASK, name="dark_squares", prompts=Prompts((OTHER,), (BASELINE,), 0.25))


def raw_scores(module: StudentModule, episodes: int, data_set: int) -> tuple[NDArray[np.float32], list[float]]:
    """The teacher's held-out rewards of a data set on their raw scale, and the squares' own."""
    scores, scale = module.held_out, scale_of(module, data_set)
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
    alone = [run_test(StudentModule("test_efficientnet"), place) for place in (labels, dark)]
    assert [scale_of(module, number) for number in (0, 1)] == [scale_of(one) for one in alone]
    assert scale_of(alone[0]) != scale_of(alone[1])


def test_two_data_sets_of_one_task_share_one_scale(labels: Path, tmp_path: Path) -> None:
    more = write_labels(tmp_path / "more", episodes=10)
    module = run_test(StudentModule("test_efficientnet"), [str(labels), str(more)])
    raw = [reward_of(e, s) for n in (20, 10) for e in range(n) for s in range(16) if split_of(e) == "train"]
    assert len(module.targets.all) == 1
    assert scale_of(module).mean == pytest.approx(np.mean(raw), abs=1e-4)
    assert scale_of(module).std == pytest.approx(np.std(raw), rel=1e-2)


def test_training_batches_hold_every_stratum_of_the_reward(labels: Path) -> None:
    data = FramesDataModule(labels, batch_size=32, strata=4)
    with quiet_lightning():
        trainer = Trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu")
        trainer.test(StudentModule("test_efficientnet"), datamodule=data, verbose=False)
    train = [reward_of(episode, step) for episode in range(20) for step in range(16) if split_of(episode) == "train"]
    for batch in data.train_dataloader():
        rewards = [reward_of(*key) for key in zip(batch.episode.tolist(), batch.step.tolist(), strict=True)]
        quarters = np.bincount(np.digitize(rewards, np.quantile(train, [0.25, 0.5, 0.75])), minlength=4)
        assert quarters.min() >= 5
        assert quarters.max() <= 11


def test_embedding_head_learns_the_embeddings_in_units_of_their_spread(labels: Path) -> None:
    module = run_test(StudentModule("test_efficientnet", head="embedding"), labels)
    data = ready(labels)
    embeddings = data.train_embeddings()
    batch = next(iter(data.val_dataloader()))
    student, teacher = module(batch.frames)[:, 0].detach().numpy(), batch.embeddings.numpy()
    cosines = (student * teacher).sum(axis=1)
    unexplained = (1 - cosines).mean() / (0.5 * embeddings.var(axis=0).sum())
    assert module.loss_of(batch).item() == pytest.approx(unexplained, rel=1e-2)


def test_frames_that_all_look_alike_give_a_finite_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(students, "brightness_of", lambda episode, step: 0.5)
    alike = write_labels(tmp_path / "labels", episodes=10)
    module = run_test(StudentModule("test_efficientnet", head="embedding"), alike)
    assert module.loss_of(next(iter(ready(alike).test_dataloader()))).isfinite()


def test_embedding_head_is_scored_by_the_reward_of_its_embeddings(labels: Path) -> None:
    module = run_test(StudentModule("test_efficientnet", head="embedding"), labels).eval()
    batch = next(iter(ready(labels).test_dataloader()))
    similarity = module(batch.frames)[:, 0, 0].detach().numpy()  # GOAL is the first axis, and alpha is 0
    scale = scale_of(module)
    assert module.held_out is not None
    student = module.held_out.student[: len(similarity)]
    np.testing.assert_allclose(student, (similarity - scale.mean) / scale.std, atol=1e-2)


def test_members_of_an_ensemble_do_without_a_fifth_of_the_episodes_each(labels: Path) -> None:
    module = run_test(StudentModule("test_efficientnet", members=4), labels)
    data = ready(labels)
    batches = list(data.train_dataloader())
    kept = {
        int(episode): tuple(row.tolist())
        for batch in batches
        for episode, row in zip(batch.episode, module._kept(batch), strict=True)  # type: ignore[arg-type]
    }
    assert kept.keys() == data.train_episodes()
    assert [sum(row[member] == 0 for row in kept.values()) for member in range(4)] == [3, 3, 3, 3]  # of 16
    assert len({tuple(row[member] for row in kept.values()) for member in range(4)}) > 1


def test_frames_that_a_member_does_without_have_no_part_in_its_loss(labels: Path) -> None:
    module = run_test(StudentModule("test_efficientnet", members=2, loss="mse"), labels)
    batch = next(iter(ready(labels).train_dataloader()))
    outputs, answers, kept = module(batch.frames).detach(), module._answers(batch), module._kept(batch)
    assert kept is not None
    pairs = [(i, k) for i in range(len(answers)) for k in range(2) if kept[i, k]]
    assert 0 < len(pairs) < 2 * len(answers)
    by_hand = np.mean([(outputs[i, k].item() - answers[i].item()) ** 2 for i, k in pairs])
    assert module.loss_of(batch).item() == pytest.approx(by_hand, rel=1e-5)


def test_held_out_scores_of_an_ensemble_are_mean_and_spread(labels: Path) -> None:
    module = run_test(StudentModule("test_efficientnet", members=3, shared_backbone=True), labels).eval()
    batch = next(iter(ready(labels).test_dataloader()))
    members = module(batch.frames).detach().numpy()
    assert module.held_out is not None
    count = len(members)
    np.testing.assert_allclose(module.held_out.student[:count], members.mean(axis=1), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(module.held_out.spread[:count], members.std(axis=1), rtol=1e-3, atol=1e-5)


def test_loss_and_head_must_suit_each_other() -> None:
    with pytest.raises(SettingsError, match=r"loss is 'huber': with model\.head 'embedding' it must be cosine"):
        StudentModule("test_efficientnet", head="embedding", loss="huber")
    with pytest.raises(SettingsError, match=r"ranking_weight is 0\.5 and model\.head is 'embedding'"):
        StudentModule("test_efficientnet", head="embedding", ranking_weight=0.5)
    with pytest.raises(SettingsError, match=r"shift_pixels is -1: it must be 0 or more"):
        StudentModule("test_efficientnet", shift_pixels=-1)
    with pytest.raises(SettingsError, match=r"members is 33: it must lie between 1 and 32"):
        StudentModule("test_efficientnet", members=33)


def test_a_fit_under_bfloat16_gives_float32_rewards(labels: Path) -> None:
    module = StudentModule("test_efficientnet")
    data = FramesDataModule(labels, batch_size=32)
    with quiet_lightning():
        trainer = Trainer(
            precision="bf16-mixed",
            gradient_clip_val=1.0,
            max_epochs=1,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
            accelerator="cpu",
        )
        trainer.fit(module, datamodule=data)
        trainer.test(module, datamodule=data, verbose=False)
    assert module.held_out is not None
    assert module.held_out.student.dtype == torch.float32
    rewards = module.eval()(next(iter(data.test_dataloader())).frames)[:, 0].detach()
    np.testing.assert_allclose(module.held_out.student, rewards, atol=0.2)  # eight bits of mantissa
    assert not torch.equal(module.held_out.student, rewards)
