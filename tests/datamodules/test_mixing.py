"""Several data sets in one: mixed by size, each sample with its own set's number, and only where they fit together."""

import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from datamodules import decoded_cache
from datamodules.errors import DataError, SettingsError
from datamodules.frames_datamodule import FramesDataModule
from datamodules.manifest import Manifest, read_manifest
from tests.data_sets import DIM, TASK, embedding_of, frame_of, write_labels

WALKER = replace(TASK, name="walker_walk", simulator="walker-walk")
BIG, SMALL = (30, 5), (10, 5)
BOTH = pytest.mark.parametrize("cache", [True, False])


class Usage(NamedTuple):
    """What `shutil.disk_usage` says, as far as it is asked."""

    free: int


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """150 samples of one task and 50 of another, with the same keys."""
    folder = tmp_path_factory.mktemp("sets")
    return [
        str(write_labels(folder / "cartpole", *BIG)),
        str(write_labels(folder / "walker", *SMALL, samples_per_shard=4, task=WALKER)),
    ]


def ready(places: list[str], **changed: Any) -> FramesDataModule:
    module = FramesDataModule(places, **{"batch_size": 16, **changed})
    module.prepare_data()
    module.setup("fit")
    return module


def keys_by_batch(loader: Any) -> list[list[tuple[int, int, int]]]:
    """(data set, episode, step) by batch, every frame and label compared with what that sample holds."""
    batches = []
    for batch in loader:
        keys = list(zip(batch.data_set.tolist(), batch.episode.tolist(), batch.step.tolist(), strict=True))
        for (_, episode, step), frame, embedding in zip(keys, batch.frames, batch.embeddings, strict=True):
            np.testing.assert_array_equal(frame, frame_of(episode, step))
            np.testing.assert_array_equal(embedding, embedding_of(episode, step).astype(np.float32))
        batches.append(keys)
    return batches


def test_sets_that_have_room_each_but_not_together_are_streamed(
    places: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for_the_big_one = decoded_cache.FREE_BYTES + 150 * (16 * 16 * 3 + 2 * DIM + 8 + 8 + 4)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: Usage(for_the_big_one))
    for number, place in enumerate(places):
        ready([place], cache=tmp_path / f"alone{number}")
        assert (tmp_path / f"alone{number}").exists()
    assert not caplog.text
    ready(places, cache=tmp_path / "both")
    assert not (tmp_path / "both").exists()
    assert "decoded anew in every epoch: 200 decoded frames take" in caplog.text


@BOTH
@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.filterwarnings("ignore:This process.*fork:DeprecationWarning")
def test_every_set_is_covered_once(places: list[str], cache: bool, num_workers: int) -> None:
    module = ready(places, cache=cache, num_workers=num_workers, batch_size=1)
    loaders = (module.train_dataloader(), module.val_dataloader(), module.test_dataloader())
    seen = [key for loader in loaders for batch in keys_by_batch(loader) for key in batch]
    expected = {
        (n, e, s) for n, (episodes, steps) in enumerate((BIG, SMALL)) for e in range(episodes) for s in range(steps)
    }
    assert len(seen) == len(expected) == 200
    assert set(seen) == expected
    validation = [key for batch in keys_by_batch(module.val_dataloader()) for key in batch]
    assert Counter(number for number, _, _ in validation) == {0: 15, 1: 5}


@BOTH
def test_batches_mix_the_sets_by_their_size(places: list[str], cache: bool) -> None:
    counts = [
        sum(number == 1 for number, _, _ in batch)
        for _ in range(3)
        for batch in keys_by_batch(ready(places, cache=cache).train_dataloader())
    ]
    assert np.mean(counts) == pytest.approx(16 / 4, abs=0.5)
    assert sum(count == 0 for count in counts) <= 2


def test_streaming_spreads_each_set_over_the_epoch(places: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the shuffle buffer is much smaller than the data sets."""
    monkeypatch.setattr("datamodules.streamed_batches.BUFFER", 16)
    batches = keys_by_batch(ready(places, cache=False, batch_size=40).train_dataloader())
    assert len(batches) == 4
    assert all(4 <= sum(number == 1 for number, _, _ in batch) <= 16 for batch in batches)


def test_tasks_prompts_and_embeddings_are_each_sets_own(places: list[str]) -> None:
    module = ready(places)
    assert [task.name for task in module.tasks] == ["cartpole_swingup", "walker_walk"]
    assert module.train_embeddings(0).shape == (120, DIM)
    assert module.train_embeddings(1).shape == (40, DIM)
    manifest = read_manifest(places[1])
    np.testing.assert_array_equal(
        module.prompt_embeddings(["a pole"], 1), np.array([manifest.prompts["a pole"]], np.float32)
    )
    digests = {FramesDataModule(given).digest for given in (places[0], places[1], places, places[::-1])}
    assert len(digests) == 4


def changed(place: Path, manifest: Manifest) -> str:
    manifest.write(place)
    return str(place)


def test_sets_that_do_not_fit_together_are_refused_with_the_difference(places: list[str], tmp_path: Path) -> None:
    other = read_manifest(write_labels(tmp_path))
    assert other.teacher is not None
    for difference, manifest in {
        "the frame size is 16 pixels there and 20 pixels here": replace(
            other, task=replace(TASK, render=replace(TASK.render, frame_pixels=20))
        ),
        r"the teacher is tiny/known \(digest 0{12}\) there and tiny/known \(digest 1{12}\) here": replace(
            other, teacher=replace(other.teacher, digest="1" * 64)
        ),
        "the precision of the teacher is float32 there and bfloat16 here": replace(
            other, teacher=replace(other.teacher, precision="bfloat16")
        ),
    }.items():
        with pytest.raises(DataError, match=f"cannot be mixed: {difference}"):
            ready([places[0], changed(tmp_path, manifest)])


def test_one_data_set_under_two_names_is_refused(places: list[str], tmp_path: Path) -> None:
    twin = write_labels(tmp_path, *BIG)
    with pytest.raises(DataError, match="holds the same samples as"):
        ready([places[0], str(twin)])


def test_no_labels_at_all_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"data\.labels is empty"):
        FramesDataModule([])
