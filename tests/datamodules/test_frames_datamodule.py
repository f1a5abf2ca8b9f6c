"""Batches hold the right frames with the right labels, every epoch, with and without loader processes."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from torch.utils.data import DataLoader

from datamodules.batches import FrameBatch
from datamodules.errors import DataError, SettingsError
from datamodules.frames_datamodule import FramesDataModule
from datamodules.manifest import read_manifest
from datamodules.splits import split_of
from tests.data_sets import DIM, embedding_of, frame_of, write_frames, write_labels

EPISODES, STEPS = 20, 5
HELD_OUT = {split: {e for e in range(EPISODES) if split_of(e) == split} for split in ("train", "validation", "test")}

pytestmark = pytest.mark.filterwarnings("ignore:This process.*fork:DeprecationWarning")


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_labels(tmp_path_factory.mktemp("labels"), EPISODES, STEPS)


def ready(labels: Path, **settings: Any) -> FramesDataModule:
    module = FramesDataModule(labels, **{"batch_size": 8, **settings})
    module.prepare_data()
    module.setup("fit")
    return module


def keys_of(loader: DataLoader[FrameBatch]) -> list[tuple[int, int]]:
    """(episode, step) in the order given, every frame and label compared with what that sample holds."""
    keys = []
    for batch in loader:
        for frame, embedding, episode, step, true_reward, _ in zip(*batch, strict=True):
            key = int(episode), int(step)
            np.testing.assert_array_equal(frame.numpy(), frame_of(*key))
            np.testing.assert_array_equal(embedding.numpy(), embedding_of(*key).astype(np.float32))
            assert float(true_reward) == pytest.approx(key[0] + key[1] / 100)
            keys.append(key)
    return keys


def test_a_batch_is_named_and_typed(labels: Path) -> None:
    batch = next(iter(ready(labels).train_dataloader()))
    assert {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in batch._asdict().items()} == {
        "frames": (torch.uint8, (8, 16, 16, 3)),
        "embeddings": (torch.float32, (8, DIM)),
        "episode": (torch.int64, (8,)),
        "step": (torch.int64, (8,)),
        "true_reward": (torch.float32, (8,)),
        "data_set": (torch.int64, (8,)),
    }


@pytest.mark.parametrize("num_workers", [0, 2])
def test_held_out_samples_come_once_and_in_order(labels: Path, num_workers: int) -> None:
    module = ready(labels, num_workers=num_workers)
    for split, loader in (("validation", module.val_dataloader()), ("test", module.test_dataloader())):
        assert keys_of(loader) == [(episode, step) for episode in sorted(HELD_OUT[split]) for step in range(STEPS)]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_epoch_of_training_has_no_duplicates_and_another_order_each_time(labels: Path, num_workers: int) -> None:
    loader = ready(labels, num_workers=num_workers).train_dataloader()
    first, second = keys_of(loader), keys_of(loader)
    assert first != second
    for epoch in (first, second):
        assert len(epoch) == 80 == len(set(epoch))  # 16 episodes of 5 steps, ten full batches of 8
        assert {episode for episode, _ in epoch} == HELD_OUT["train"]


def test_the_order_is_decided_by_the_seed(labels: Path) -> None:
    orders = [keys_of(ready(labels, seed=seed).train_dataloader()) for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]


def test_loader_processes_do_not_change_the_order(labels: Path) -> None:
    assert keys_of(ready(labels).train_dataloader()) == keys_of(ready(labels, num_workers=2).train_dataloader())


def test_only_training_leaves_out_an_incomplete_batch(labels: Path) -> None:
    module = ready(labels, batch_size=9)
    assert [len(batch.frames) for batch in module.train_dataloader()] == [9] * 8
    assert [len(batch.frames) for batch in module.val_dataloader()] == [9, 1]
    assert len(module.val_dataloader()) == 2


def test_a_batch_larger_than_the_split_is_the_whole_split(labels: Path) -> None:
    assert Counter(keys_of(ready(labels, batch_size=1000).train_dataloader())).total() == 80


def test_shares_are_whole_episodes_inside_each_other(labels: Path) -> None:
    episodes = {}
    for fraction in (0.25, 0.5, 1.0):
        module = ready(labels, data_fraction=fraction, batch_size=STEPS)
        counted = Counter(episode for episode, _ in keys_of(module.train_dataloader()))
        assert set(counted.values()) == {STEPS}
        episodes[fraction] = set(counted)
        assert len(keys_of(module.val_dataloader())) == 10  # held-out data stays as it is
    assert episodes[0.25] < episodes[0.5] < episodes[1.0] == HELD_OUT["train"]
    assert [len(chosen) for chosen in episodes.values()] == [4, 8, 16]


def test_train_embeddings_are_those_of_the_training_share(labels: Path) -> None:
    module = ready(labels, data_fraction=0.5, batch_size=STEPS)
    episodes = sorted({episode for episode, _ in keys_of(module.train_dataloader())})
    expected = [embedding_of(episode, step) for episode in episodes for step in range(STEPS)]
    np.testing.assert_array_equal(module.train_embeddings(), np.array(expected, np.float32))
    assert module.train_embeddings().dtype == np.float32


def test_prompts_and_their_embeddings_come_from_the_manifest(labels: Path) -> None:
    module = FramesDataModule(labels)
    assert module.task.prompts.goal == ("a pole upright",)
    embeddings = module.prompt_embeddings(["a pole", "a pole upright"])
    assert embeddings.dtype == np.float32
    np.testing.assert_array_equal(embeddings, np.array([embedding_of(900, 1), embedding_of(900, 0)], np.float32))
    assert module.prompt_embeddings([]).shape == (0, DIM)


def test_a_prompt_without_embedding_names_the_command(labels: Path) -> None:
    with pytest.raises(
        DataError, match=r"'a red pole'.*scripts\.label_frames.*--prompts '\[\"a red pole\"\]'.*'a pole'"
    ):
        FramesDataModule(labels).prompt_embeddings(["a pole", "a red pole"])


def test_frames_without_labels_name_the_command(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"frames without labels.*scripts\.label_frames --frames"):
        FramesDataModule(write_frames(tmp_path)).prepare_data()


def test_too_few_episodes_are_refused_in_setup(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="collect at least ten episodes"):
        ready(write_labels(tmp_path, episodes=1))


def test_a_new_prompt_leaves_the_decoded_frames_alone(tmp_path: Path) -> None:
    labels = write_labels(tmp_path)
    ready(labels)
    manifest = read_manifest(labels)
    replace(manifest, prompts={**manifest.prompts, "new": embedding_of(900, 2).tolist()}).write(labels)
    for shard in labels.glob("*.tar"):
        shard.unlink()  # a second decoding would miss them
    assert ready(labels).prompt_embeddings(["new"]).shape == (1, DIM)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"data_fraction": 0.0}, "data_fraction is 0.0"),
        ({"data_fraction": 1.5}, "data_fraction is 1.5"),
        ({"num_workers": -1}, "num_workers is -1"),
    ],
)
def test_settings_outside_their_range_are_refused(labels: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        FramesDataModule(labels, **settings)


class SeenFrames(LightningModule):
    """Notes which samples each epoch brings; its one weight learns nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.epochs: dict[int, list[tuple[int, int]]] = {}

    def training_step(self, batch: FrameBatch) -> torch.Tensor:
        pairs = zip(batch.episode.tolist(), batch.step.tolist(), strict=True)
        self.epochs.setdefault(self.current_epoch, []).extend(pairs)
        return self.weight * batch.frames.float().mean()

    def validation_step(self, batch: FrameBatch) -> None:
        assert set(batch.episode.tolist()) <= HELD_OUT["validation"]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)


def fit(labels: Path, epochs: int, folder: Path, resume: Path | None = None) -> SeenFrames:
    model = SeenFrames()
    trainer = Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=folder
    )
    trainer.fit(model, FramesDataModule(labels, batch_size=8), ckpt_path=resume)
    trainer.save_checkpoint(folder / "last.ckpt")
    return model


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_a_resumed_fit_sees_the_order_it_would_have_seen(labels: Path, tmp_path: Path) -> None:
    whole = fit(labels, 3, tmp_path / "whole")
    fit(labels, 2, tmp_path / "parts")
    resumed = fit(labels, 3, tmp_path / "parts", resume=tmp_path / "parts" / "last.ckpt")
    assert resumed.epochs == {2: whole.epochs[2]}
    assert whole.epochs[0] != whole.epochs[1] != whole.epochs[2]
