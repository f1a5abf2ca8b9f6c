"""Strategies on points whose right choice can be seen by hand."""

import numpy as np
import pytest

from datamodules.errors import UnknownNameError
from lightning_modules.query_choice import STRATEGIES, Candidates, choose_queries, nearest_distances

LINE = np.array([[0.0], [1.0], [2.0], [7.0], [10.0]], np.float32)
NOBODY = np.zeros((0, 1), np.float32)


def candidates(
    features: np.ndarray = LINE, reward: list[float] | None = None, spread: list[float] | None = None
) -> Candidates:
    nothing = [0.0] * len(features)
    return Candidates(np.array(reward or nothing, np.float32), np.array(spread or nothing, np.float32), features)


def chosen(strategy: str, among: Candidates, count: int, labelled: np.ndarray = NOBODY, seed: int = 0) -> list[int]:
    return choose_queries(strategy, among, labelled, count, np.random.default_rng(seed)).tolist()


def test_random_takes_every_frame_about_as_often_as_any_other_and_none_twice() -> None:
    draws = [chosen("random", candidates(), 2, seed=seed) for seed in range(500)]
    assert all(len(set(draw)) == 2 for draw in draws)
    counts = np.bincount(np.concatenate(draws), minlength=5)
    # binomial: 500 draws of 2 in 5 have mean 200 and deviation 11
    assert np.abs(counts - 200).max() < 55


def test_median_takes_rewards_in_the_middle() -> None:
    assert sorted(chosen("median", candidates(reward=[9.0, -5.0, 0.1, 0.0, 0.3]), 3)) == [2, 3, 4]


def test_spread_takes_what_the_members_disagree_on_most() -> None:
    assert chosen("spread", candidates(spread=[0.1, 0.5, 0.2, 0.9, 0.0]), 2) == [3, 1]


def test_a_coreset_goes_to_the_farthest_from_labels_and_from_what_it_has_chosen() -> None:
    # from 0 the farthest is 10; then 2 is 2 away from 0 and 7 is 3 away from 10
    assert chosen("coreset", candidates(), 2, labelled=LINE[:1]) == [4, 3]
    assert len(set(chosen("coreset", candidates(), 3))) == 3


def test_a_coreset_of_frames_that_all_look_alike_takes_each_once() -> None:
    same = np.ones((6, 3), np.float32)
    assert len(set(chosen("coreset", candidates(same), 4, labelled=same[:1]))) == 4


def test_mixed_and_suspects_keep_apart_what_they_choose_among() -> None:
    features = np.arange(40, dtype=np.float32)[:, None]
    spread, reward = [0.0] * 40, [0.0] * 40
    for place in range(10, 20):
        spread[place] = 1.0
    for place in (3, 4, 5, 30):
        reward[place] = 2.0
    labelled = features[:1]
    # the quarter of largest spread is 10 to 19: the farthest from 0 is 19, the farthest from both 10
    assert chosen("mixed", candidates(features, spread=spread), 2, labelled) == [19, 10]
    # the tenth of highest reward is 3, 4, 5 and 30
    assert chosen("suspects", candidates(features, reward=reward), 2, labelled) == [30, 5]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_gives_the_number_asked_for_and_all_where_there_are_fewer(strategy: str) -> None:
    generator = np.random.default_rng(3)
    many = Candidates(*generator.random((2, 50)).astype(np.float32), generator.random((50, 4)).astype(np.float32))
    for count in (0, 1, 20):
        places = chosen(strategy, many, count, labelled=many.features[:5])
        assert len(places) == len(set(places)) == count
    assert chosen(strategy, candidates(), 9) == [0, 1, 2, 3, 4]


def test_an_unknown_strategy_is_named_with_what_there_is() -> None:
    with pytest.raises(UnknownNameError, match=r"coreste.*did you mean 'coreset'"):
        chosen("coreste", candidates(), 1)


def test_nearest_distances_are_those_of_all_pairs() -> None:
    generator = np.random.default_rng(0)
    points, others = generator.normal(size=(30, 5)), generator.normal(size=(2100, 5))
    expected = np.linalg.norm(points[:, None] - others, axis=2).min(axis=1)
    found = nearest_distances(points.astype(np.float32), others.astype(np.float32))
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert np.isinf(nearest_distances(LINE, NOBODY)).all()
