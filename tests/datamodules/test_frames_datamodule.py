"""Batches hold the right frames with the right labels, every epoch, with and without loader processes."""

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_lightning import LightningModule, Trainer
from torch.utils.data import DataLoader

from datamodules import decoded_cache
from datamodules.batches import FrameBatch
from datamodules.errors import DataError, SettingsError
from datamodules.frames_datamodule import FramesDataModule
from datamodules.manifest import read_manifest
from datamodules.splits import split_of
from tests.data_sets import DIM, embedding_of, frame_of, write_frames, write_labels
from tests.loopback import Loopback

EPISODES, STEPS = 20, 5
HELD_OUT = {split: {e for e in range(EPISODES) if split_of(e) == split} for split in ("train", "validation", "test")}

CACHE_AND_STREAM = pytest.mark.parametrize("cache", [True, False])

pytestmark = pytest.mark.filterwarnings("ignore:This process.*fork:DeprecationWarning")


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_labels(tmp_path_factory.mktemp("labels"), EPISODES, STEPS)


def ready(labels: Path | str, **changed: Any) -> FramesDataModule:
    module = FramesDataModule(str(labels), **{"batch_size": 8, **changed})
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


@CACHE_AND_STREAM
@pytest.mark.parametrize("num_workers", [0, 2])
def test_held_out_samples_come_once_and_in_order(labels: Path, num_workers: int, cache: bool) -> None:
    module = ready(labels, num_workers=num_workers, cache=cache)
    for split, loader in (("validation", module.val_dataloader()), ("test", module.test_dataloader())):
        assert keys_of(loader) == [(episode, step) for episode in sorted(HELD_OUT[split]) for step in range(STEPS)]


@CACHE_AND_STREAM
@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_epoch_of_training_has_no_duplicates_and_another_order_each_time(
    labels: Path, num_workers: int, cache: bool
) -> None:
    loader = ready(labels, num_workers=num_workers, cache=cache).train_dataloader()
    first, second = keys_of(loader), keys_of(loader)
    assert first != second
    for epoch in (first, second):
        assert len(epoch) == 80 == len(set(epoch))  # 16 episodes of 5 steps, ten full batches of 8
        assert {episode for episode, _ in epoch} == HELD_OUT["train"]


@CACHE_AND_STREAM
def test_the_order_is_decided_by_the_seed(labels: Path, cache: bool) -> None:
    orders = [keys_of(ready(labels, seed=seed, cache=cache).train_dataloader()) for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]


def test_loader_processes_do_not_change_the_order(labels: Path) -> None:
    assert keys_of(ready(labels).train_dataloader()) == keys_of(ready(labels, num_workers=2).train_dataloader())


@CACHE_AND_STREAM
def test_only_training_leaves_out_an_incomplete_batch(labels: Path, cache: bool) -> None:
    module = ready(labels, batch_size=9, cache=cache)
    assert [len(batch.frames) for batch in module.train_dataloader()] == [9] * 8
    assert [len(batch.frames) for batch in module.val_dataloader()] == [9, 1]
    assert len(module.val_dataloader()) == 2


def test_a_batch_larger_than_the_split_is_the_whole_split(labels: Path) -> None:
    assert Counter(keys_of(ready(labels, batch_size=1000).train_dataloader())).total() == 80


@CACHE_AND_STREAM
def test_shares_are_whole_episodes_inside_each_other(labels: Path, cache: bool) -> None:
    episodes = {}
    for fraction in (0.25, 0.5, 1.0):
        module = ready(labels, data_fraction=fraction, batch_size=STEPS, cache=cache)
        counted = Counter(episode for episode, _ in keys_of(module.train_dataloader()))
        assert set(counted.values()) == {STEPS}
        episodes[fraction] = set(counted)
        assert len(keys_of(module.val_dataloader())) == 10  # held-out data stays as it is
    assert episodes[0.25] < episodes[0.5] < episodes[1.0] == HELD_OUT["train"]
    assert [len(chosen) for chosen in episodes.values()] == [4, 8, 16]


@CACHE_AND_STREAM
def test_train_embeddings_are_those_of_the_training_share(labels: Path, cache: bool) -> None:
    module = ready(labels, data_fraction=0.5, batch_size=STEPS, cache=cache)
    episodes = sorted({episode for episode, _ in keys_of(module.train_dataloader())})
    expected = [embedding_of(episode, step) for episode in episodes for step in range(STEPS)]
    np.testing.assert_array_equal(module.train_embeddings(), np.array(expected, np.float32))
    assert module.train_embeddings().dtype == np.float32


def test_prompts_and_their_embeddings_come_from_the_manifest(labels: Path) -> None:
    module = FramesDataModule(str(labels))
    assert module.task.prompts.goal == ("a pole upright",)
    embeddings = module.prompt_embeddings(["a pole", "a pole upright"])
    assert embeddings.dtype == np.float32
    np.testing.assert_array_equal(embeddings, np.array([embedding_of(900, 1), embedding_of(900, 0)], np.float32))
    assert module.prompt_embeddings([]).shape == (0, DIM)


def test_a_prompt_without_embedding_names_the_command(labels: Path) -> None:
    with pytest.raises(
        DataError, match=r"'a red pole'.*scripts\.label_frames.*--prompts '\[\"a red pole\"\]'.*'a pole'"
    ):
        FramesDataModule(str(labels)).prompt_embeddings(["a pole", "a red pole"])


def test_frames_without_labels_name_the_command(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"frames without labels.*scripts\.label_frames --frames"):
        FramesDataModule(str(write_frames(tmp_path))).prepare_data()


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
    ("changed", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"data_fraction": 0.0}, "data_fraction is 0.0"),
        ({"data_fraction": 1.5}, "data_fraction is 1.5"),
        ({"strata": 0}, "strata is 0"),
        ({"strata": 5, "cache": False}, r"strata is 5 and data\.cache is false.*set strata to 1, or cache to true"),
        ({"num_workers": -1}, "num_workers is -1"),
        ({"damaged": "ignore"}, "damaged is 'ignore'"),
        ({"damaged": "skip", "most_damaged": 1.5}, "most_damaged is 1.5"),
    ],
)
def test_settings_outside_their_range_are_refused(labels: Path, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        FramesDataModule(str(labels), **changed)


@CACHE_AND_STREAM
@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_epoch_set_before_the_first_batch_decides_the_order(labels: Path, num_workers: int, cache: bool) -> None:
    in_order = ready(labels, cache=cache, num_workers=num_workers).train_dataloader()
    epochs = [keys_of(in_order) for _ in range(3)]
    resumed = ready(labels, cache=cache, num_workers=num_workers).train_dataloader()
    batches = iter(resumed)  # Lightning makes it before it knows the epoch
    resumed.sampler.set_epoch(2)  # type: ignore[attr-defined]
    keys = [key for batch in batches for key in zip(batch.episode.tolist(), batch.step.tolist(), strict=True)]
    assert keys == epochs[2] != epochs[0]


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
        assert self.trainer.estimated_stepping_batches  # makes the training loader before the epoch is restored
        return torch.optim.SGD(self.parameters(), lr=0.0)


def fit(
    labels: Path, epochs: int, folder: Path, *, cache: bool, num_workers: int, resume: Path | None = None
) -> SeenFrames:
    model = SeenFrames()
    trainer = Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=folder
    )
    data = FramesDataModule(str(labels), batch_size=8, cache=cache, num_workers=num_workers)
    trainer.fit(model, data, ckpt_path=resume)
    trainer.save_checkpoint(folder / "last.ckpt")
    return model


@pytest.mark.parametrize(("cache", "num_workers"), [(True, 0), (False, 0), (True, 2)])
@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_a_resumed_fit_sees_the_order_it_would_have_seen(
    labels: Path, tmp_path: Path, cache: bool, num_workers: int
) -> None:
    whole = fit(labels, 3, tmp_path / "whole", cache=cache, num_workers=num_workers)
    fit(labels, 2, tmp_path / "parts", cache=cache, num_workers=num_workers)
    last = tmp_path / "parts" / "last.ckpt"
    resumed = fit(labels, 3, tmp_path / "parts", cache=cache, num_workers=num_workers, resume=last)
    assert resumed.epochs == {2: whole.epochs[2]}
    assert whole.epochs[0] != whole.epochs[1] != whole.epochs[2]


def test_nothing_is_written_where_frames_are_streamed(tmp_path: Path) -> None:
    before = sorted(write_labels(tmp_path / "labels").rglob("*"))
    keys_of(ready(tmp_path / "labels", cache=False).train_dataloader())
    assert sorted((tmp_path / "labels").rglob("*")) == before


def test_frames_are_streamed_where_there_is_no_room(
    labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(decoded_cache, "FREE_BYTES", 2**60)
    module = ready(labels, cache=tmp_path / "small")
    assert len(keys_of(module.train_dataloader())) == 80
    assert not (tmp_path / "small").exists()
    assert "decoded anew in every epoch: 100 decoded frames take 0.0 GiB" in caplog.text


def test_strata_without_room_or_rewards_are_refused(
    labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SettingsError, match=r"strata is 5 and the rewards are unknown: call stratify\(\)"):
        ready(labels, strata=5).train_dataloader()
    monkeypatch.setattr(decoded_cache, "FREE_BYTES", 2**60)
    with pytest.raises(SettingsError, match=r"strata is 5 and 100 decoded frames take .*give data\.cache another"):
        ready(labels, strata=5, cache=tmp_path / "small")


@CACHE_AND_STREAM
def test_reading_is_reported(tmp_path: Path, cache: bool) -> None:
    module = FramesDataModule(str(write_labels(tmp_path)), cache=cache)
    reports: list[tuple[int, int]] = []
    assert not module.prepared
    module.prepare_data(lambda done, total, note: reports.append((done, total)))
    assert reports[-1] == (50, 50)


@CACHE_AND_STREAM
def test_a_damaged_shard_stops_before_the_first_batch(tmp_path: Path, cache: bool) -> None:
    shards = sorted(write_labels(tmp_path).glob("*.tar"))
    for shard in (shards[1], shards[4]):
        shard.write_bytes(shard.read_bytes()[:-512])
    with pytest.raises(
        DataError, match=r"(?s)2 of 7 shards.*shard-000001\.tar.*shard-000004\.tar.*scripts.label_frames"
    ):
        ready(tmp_path, cache=cache)


@CACHE_AND_STREAM
def test_damaged_shards_are_skipped_when_asked_to(
    tmp_path: Path, cache: bool, caplog: pytest.LogCaptureFixture
) -> None:
    damaged = sorted(write_labels(tmp_path, EPISODES, STEPS).glob("*.tar"))[2]
    damaged.write_bytes(damaged.read_bytes()[:-512])
    module = ready(tmp_path, cache=cache, damaged="skip", most_damaged=0.1, batch_size=1)
    loaders = (module.train_dataloader(), module.val_dataloader(), module.test_dataloader())
    seen = {key for loader in loaders for key in keys_of(loader)}
    lost = {divmod(number, STEPS) for number in range(16, 24)}
    assert seen == {(episode, step) for episode in range(EPISODES) for step in range(STEPS)} - lost
    assert [damage.shard for damage in module.skipped[str(tmp_path)]] == ["shard-000002.tar"]
    assert "1 of 13 shards" in caplog.text
    assert "shard-000002.tar" in caplog.text
    with pytest.raises(DataError, match=r"(?s)1 of 13 shards.*at most 5% may be left out"):
        ready(tmp_path, cache=False, damaged="skip")


@CACHE_AND_STREAM
def test_a_sample_that_is_in_two_shards_is_refused(tmp_path: Path, cache: bool) -> None:
    manifest = read_manifest(write_labels(tmp_path))
    (tmp_path / "shard-000099.tar").write_bytes((tmp_path / "shard-000000.tar").read_bytes())
    twin = replace(manifest.shards[0], name="shard-000099.tar")
    replace(manifest, shards=(*manifest.shards, twin)).write(tmp_path)
    with pytest.raises(DataError, match=r"sample 000000-000000 .* is there twice"):
        ready(tmp_path, cache=cache)


@CACHE_AND_STREAM
def test_an_address_gives_the_batches_of_its_folder(server: Loopback, tmp_path: Path, cache: bool) -> None:
    write_labels(tmp_path / "served" / "labels", EPISODES, STEPS)
    place, kept = f"{server.address}/labels", tmp_path / "kept" if cache else False
    remote, local = ready(place, cache=kept), ready(tmp_path / "served" / "labels", cache=cache)
    assert keys_of(remote.train_dataloader()) == keys_of(local.train_dataloader())
    server.broken_off["shard-000005.tar"] = 2
    assert keys_of(remote.val_dataloader()) == keys_of(local.val_dataloader())
    workers = ready(place, cache=kept, num_workers=2)
    assert sorted(keys_of(workers.train_dataloader())) == sorted(keys_of(local.train_dataloader()))


def test_streaming_fetches_only_shards_that_are_wanted(server: Loopback, tmp_path: Path) -> None:
    write_labels(tmp_path / "served" / "labels", EPISODES, STEPS)
    module = ready(f"{server.address}/labels", cache=False)
    server.requests.clear()
    keys = keys_of(module.val_dataloader())
    wanted = {f"shard-{(episode * STEPS + step) // 8:06d}.tar" for episode, step in keys}
    assert server.requests == dict.fromkeys(wanted, 1)


def test_a_shard_that_changes_during_a_fit_stops_it(tmp_path: Path) -> None:
    module = ready(write_labels(tmp_path, EPISODES, STEPS), cache=False)
    for shard in tmp_path.glob("*.tar"):
        content = bytearray(shard.read_bytes())
        content[600] ^= 1
        shard.write_bytes(content)
    with pytest.raises(DataError, match=r"shard-\d+\.tar in .* is damaged: its content changed"):
        keys_of(module.train_dataloader())


DAMAGES = st.lists(st.sampled_from(6 * ["whole"] + ["cut", "flip", "swap", "missing"]), min_size=13, max_size=13)


@settings(max_examples=25, deadline=None)
@given(fates=DAMAGES, data=st.data())
def test_whatever_is_damaged_no_frame_has_anothers_label(
    labels: Path, tmp_path_factory: pytest.TempPathFactory, fates: list[str], data: st.DataObject
) -> None:
    victim = tmp_path_factory.mktemp("victim")
    shards = [victim / path.name for path in sorted(labels.glob("*.tar"))]
    for path in (*shards, victim / "manifest.json"):
        path.write_bytes((labels / path.name).read_bytes())
    for number, (shard, fate) in enumerate(zip(shards, fates, strict=True)):
        content = bytearray(shard.read_bytes())
        place = data.draw(st.integers(0, len(content) - 1))
        if fate == "cut":
            shard.write_bytes(content[:place])
        elif fate == "flip":
            content[place] ^= 1 << data.draw(st.integers(0, 7))
            shard.write_bytes(content)
        elif fate == "swap":
            other = labels / shards[number - 1].name
            shard.write_bytes(other.read_bytes())
        elif fate == "missing":
            shard.unlink()
    damaged = {shard.name for shard, fate in zip(shards, fates, strict=True) if fate != "whole"}
    for cache in (True, False):
        if damaged:
            with pytest.raises(DataError) as caught:
                ready(victim, cache=cache)
            assert damaged == set(re.findall(r"(shard-\d+\.tar):", str(caught.value)))
        whole = [number for number in range(EPISODES * STEPS) if shards[number // 8].name not in damaged]
        left = {number // STEPS for number in whole}
        if any(not left & held_out for held_out in HELD_OUT.values()):
            continue
        module = ready(victim, cache=cache, damaged="skip", most_damaged=1.0, batch_size=1)
        loaders = (module.train_dataloader(), module.val_dataloader(), module.test_dataloader())
        assert sorted(key for loader in loaders for key in keys_of(loader)) == [divmod(n, STEPS) for n in whole]
