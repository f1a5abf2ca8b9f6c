"""Every process has equally many batches; out of training every sample is in exactly one of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.batch_order import BatchOrder, Turn, Turns
from datamodules.errors import DataError

SIZES = st.tuples(st.integers(1, 8), st.integers(1, 40), st.integers(0, 200))


def positions(samples: int, batch_size: int, ranks: int, training: bool) -> list[list[list[int]]]:
    """By process and batch, the positions that it takes."""
    everyone = [Turns(samples, batch_size, training, rank, ranks) for rank in range(ranks)]
    return [[list(range(*turns.span(number))) for number in range(turns.batches)] for turns in everyone]


@given(sizes=SIZES)
def test_out_of_training_every_sample_comes_once(sizes: tuple[int, int, int]) -> None:
    ranks, batch_size, more = sizes
    shares = positions(ranks + more, batch_size, ranks, training=False)
    assert [position for share in shares for batch in share for position in batch] == list(range(ranks + more))
    assert len({len(share) for share in shares}) == 1
    assert all(1 <= len(batch) <= batch_size + 1 for share in shares for batch in share)


@given(sizes=SIZES)
def test_training_has_full_batches_and_loses_less_than_one_of_each_process(sizes: tuple[int, int, int]) -> None:
    ranks, batch_size, more = sizes
    shares = positions(ranks + more, batch_size, ranks, training=True)
    assert len({len(share) for share in shares}) == 1
    taken = [position for share in shares for batch in share for position in batch]
    assert len({len(batch) for share in shares for batch in share}) == 1
    assert len(set(taken)) == len(taken) > ranks + more - ranks * batch_size
    assert set(taken) <= set(range(ranks + more))


def test_fewer_samples_than_processes_are_refused() -> None:
    with pytest.raises(DataError, match="3 frames cannot be shared by 4 processes: take fewer devices"):
        Turns(3, 8, training=False, rank=0, ranks=4)


def test_epochs_count_on_unless_they_are_set() -> None:
    order = BatchOrder(Turns(20, 8, training=True))
    assert len(order) == 2
    assert list(order) == [Turn(0, 0), Turn(0, 1)]
    iter(order)  # loaders make iterators that they never use
    assert list(order) == [Turn(1, 0), Turn(1, 1)]
    order.set_epoch(7)
    assert list(order) == [Turn(7, 0), Turn(7, 1)]
