"""Splits by whole episode: exact, stable, and shares that lie inside each other."""

import os
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.splits import share_of, split_of

EPISODES = st.sets(st.integers(0, 999_999), min_size=1, max_size=60)
FRACTIONS = st.floats(0.01, 1.0)


@given(block=st.integers(0, 99_999), seed=st.integers(0, 100))
def test_ten_consecutive_episodes_hold_eight_one_and_one(block: int, seed: int) -> None:
    splits = Counter(split_of(episode, seed) for episode in range(10 * block, 10 * block + 10))
    assert splits == {"train": 8, "validation": 1, "test": 1}


def test_every_place_in_a_block_is_held_out_about_equally_often() -> None:
    places = Counter(episode % 10 for episode in range(20_000) if split_of(episode) != "train")
    assert all(300 < places[place] < 500 for place in range(10))  # 400 expected, standard deviation 18


@pytest.mark.parametrize("hash_seed", ["0", "1"])
def test_splits_do_not_depend_on_the_process(hash_seed: str) -> None:
    code = (
        "from datamodules.splits import split_of, share_of\n"
        "print([split_of(n) for n in range(50)], sorted(share_of(range(50), 0.5)))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    printed = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == f"{[split_of(n) for n in range(50)]} {sorted(share_of(range(50), 0.5))}"


@given(episodes=EPISODES, fractions=st.tuples(FRACTIONS, FRACTIONS), seed=st.integers(0, 100))
def test_a_smaller_share_lies_inside_a_larger_one(
    episodes: set[int], fractions: tuple[float, float], seed: int
) -> None:
    small, large = (share_of(episodes, fraction, seed) for fraction in sorted(fractions))
    assert set() < small <= large <= episodes


@pytest.mark.parametrize(("fraction", "count"), [(0.1, 3), (0.25, 8), (0.5, 15), (0.75, 23), (1.0, 30), (0.001, 1)])
def test_a_share_has_the_size_asked_for(fraction: float, count: int) -> None:
    assert len(share_of(range(30), fraction)) == count


def test_other_seeds_choose_other_episodes() -> None:
    assert share_of(range(100), 0.5, seed=0) != share_of(range(100), 0.5, seed=1)
