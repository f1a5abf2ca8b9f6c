"""Strata: their sizes from the square roots of their widths, and epochs in which every batch holds all of them."""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.batch_order import Turn, Turns
from datamodules.batches import CachedBatches
from datamodules.frames_datamodule import FramesDataModule
from datamodules.strata import draws, strata_of
from tests.data_sets import write_labels


@pytest.mark.parametrize(
    ("ordered", "expected"),
    [
        # from 0 to 4 and from 4 to 20: square roots 2 and 4, so a third and two thirds of 8
        ([0, 1, 2, 3, 4, 8, 12, 20], [3, 5]),
        # from 0 to 1 and from 1 to 37: 1 and 6, but half and 12/7 as often as evenly at most: 1/4 to 6/7 of 8
        ([0, 0, 0, 0, 1, 8, 12, 37], [2, 6]),
        # only one value below: half as often as it occurs, against twice
        ([0, 0, 0, 0, 0, 8, 12, 37], [2, 6]),
        ([5] * 8, [4, 4]),
    ],
)
def test_strata_are_drawn_by_the_root_of_their_width_within_limits(ordered: list[float], expected: list[int]) -> None:
    assert draws(np.array(ordered, np.float32), [4, 4]).tolist() == expected


def test_strata_are_quantiles_and_samples_keep_their_positions() -> None:
    rewards = np.array([30, 0, 20, 10, 200, 40], np.float32)
    strata = strata_of([rewards], 3)
    assert [sorted(group.tolist()) for group in strata.groups] == [[1, 3], [0, 2], [4, 5]]
    assert strata.drawn == (1, 1, 4)  # ranges 20, 20 and 160: as 1, 1 and 2.83, in running sums 1.2, 2.5 and 6


@given(
    sets=st.lists(
        st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=60).map(lambda values: np.array(values, np.float32)),
        min_size=1,
        max_size=3,
    ),
    count=st.integers(1, 12),
    seed=st.integers(0, 99),
)
def test_an_epoch_is_as_long_as_its_samples_are_many(sets: list[np.ndarray], count: int, seed: int) -> None:
    strata = strata_of(sets, count)
    order = strata.order(np.random.default_rng(seed))
    taken, starts = Counter(order.tolist()), np.cumsum([0, *map(len, sets)])
    for first, last in pairwise(starts):  # each set keeps its share
        assert sum(number for position, number in taken.items() if first <= position < last) == last - first
    for group, drawn in zip(strata.groups, strata.drawn, strict=True):
        counts = [taken[position] for position in group.tolist()]
        assert sum(counts) == drawn
        assert max(counts) - min(counts) <= 1


def test_every_batch_holds_every_stratum_in_its_share() -> None:
    rewards = np.random.default_rng(0).gamma(1.0, size=4000).astype(np.float32)
    strata = strata_of([rewards], 8)
    order = strata.order(np.random.default_rng(1))
    edges = np.quantile(rewards, np.linspace(0, 1, 9)[1:-1])
    by_batch = np.stack(
        [np.bincount(np.digitize(rewards[batch], edges), minlength=8) for batch in order.reshape(-1, 40)]
    )
    expected = np.array(strata.drawn) / 100
    assert np.abs(by_batch - expected).max() <= 4  # drawn at random the largest is above 10
    assert by_batch[:, -1].mean() > 10  # more than twice the 5 that there are: the long tail
    assert by_batch.min() >= 1


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> FramesDataModule:
    """80 samples to train on, whose reward is their episode's number, in four strata."""
    module = FramesDataModule(str(write_labels(tmp_path_factory.mktemp("labels"), 20, 5)), batch_size=8, strata=4)
    module.prepare_data()
    module.setup("fit")
    module.stratify([np.asarray(module.sets[0].decoded.episode[module.rows("train")], np.float32)])
    return module


def test_the_order_is_decided_by_seed_and_epoch_alone(module: FramesDataModule) -> None:
    whole, resumed = module.train_dataloader(), module.train_dataloader()
    epochs = [[batch.episode.tolist() for batch in whole] for _ in range(3)]
    assert epochs[0] != epochs[1] != epochs[2]
    resumed.sampler.set_epoch(2)  # type: ignore[attr-defined]  # as Lightning does
    assert [batch.episode.tolist() for batch in resumed] == epochs[2]


def test_a_quarter_of_each_batch_is_of_each_quarter_of_the_episodes(module: FramesDataModule) -> None:
    train = sorted(set(module.sets[0].decoded.episode[module.rows("train")].tolist()))
    quarters = [set(train[start : start + 4]) for start in (0, 4, 8, 12)]
    for batch in module.train_dataloader():
        assert all(1 <= sum(episode in quarter for episode in batch.episode.tolist()) <= 4 for quarter in quarters)


def test_every_batch_of_training_has_no_sample_twice(module: FramesDataModule) -> None:
    batches = module.every_batch("train")
    keys = [key for batch in batches for key in zip(batch.episode.tolist(), batch.step.tolist(), strict=True)]
    assert len(set(keys)) == len(keys) == 80
    drawn = [key for b in module.train_dataloader() for key in zip(b.episode.tolist(), b.step.tolist(), strict=True)]
    assert len(set(drawn)) < len(drawn) == 80


def test_held_out_samples_stay_as_they_are(module: FramesDataModule, tmp_path: Path) -> None:
    plain = FramesDataModule(module.labels[0], batch_size=8)
    for loaders in (
        (module.val_dataloader(), plain.val_dataloader()),
        (module.test_dataloader(), plain.test_dataloader()),
    ):
        ours, theirs = ([batch.step.tolist() for batch in loader] for loader in loaders)
        assert ours == theirs


def test_processes_share_one_epoch(module: FramesDataModule) -> None:
    rows, decoded = module.rows("train"), module.sets[0].decoded
    strata = strata_of([np.asarray(decoded.episode[rows], np.float32)], 4)

    def frames(rank: int, ranks: int) -> list[list[int]]:
        turns = Turns(len(rows), 8, training=True, rank=rank, ranks=ranks)
        reader = CachedBatches([decoded], [rows], turns, 0, strata)
        batches = (reader[Turn(3, number)] for number in range(turns.batches))
        return [(batch.episode * 100 + batch.step).tolist() for batch in batches]

    assert frames(0, 2) + frames(1, 2) == frames(0, 1)
