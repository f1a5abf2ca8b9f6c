"""Latencies against numpy's quantiles of the same calls; sums over processes; memory as the system reports it."""

import json
import resource

import numpy as np
import pytest

from rllib_envs.costs import EDGES, QUANTILES, Costs, Latencies, PeakMemory, shares_of


def latencies(seconds: np.ndarray) -> Latencies:
    counted = Latencies()
    for each in seconds:
        counted = counted.with_call(float(each))
    return counted


def test_quantiles_are_numpys_but_for_the_width_of_a_bin() -> None:
    seconds = np.random.default_rng(0).lognormal(np.log(0.003), 0.7, 5000)
    counted = latencies(seconds)
    assert counted.calls == 5000
    for share in QUANTILES.values():
        # inside a bin the true place is unknown: at most the bin's width, a factor of 10 ** (1 / 10), away
        assert counted.quantile(share) == pytest.approx(np.quantile(seconds, share), rel=0.05)


def test_histograms_of_processes_add_up_and_what_was_before_is_taken_off() -> None:
    first, second = np.random.default_rng(1).uniform(0.0001, 2.0, (2, 300))
    both = latencies(np.concatenate([first, second]))
    assert latencies(first) + latencies(second) == both
    assert both - latencies(first) == latencies(second)


def test_calls_beyond_the_bins_are_counted_and_json_can_hold_them() -> None:
    counted = latencies(np.array([1e-9, 0.02, 5e4]))
    summary = json.loads(json.dumps(counted.summary(), allow_nan=False))
    assert [calls for _, _, calls in summary["histogram"]] == [1, 1, 1]
    assert summary["histogram"][0][:2] == [EDGES[0], EDGES[0]]
    low, high, _ = summary["histogram"][1]
    assert low <= 0.02 < high
    assert summary["p99"] == pytest.approx(EDGES[-1])  # no more than that is known
    assert np.isnan(Latencies().quantile(0.5))


def test_only_calls_of_the_reward_are_counted_and_costs_add_up() -> None:
    costs = Costs()
    for phase in ("simulate", "render", "reward", "reward"):
        with costs.measure(phase):
            pass
    assert costs.reward_calls.calls == 2
    twice = costs + costs
    assert (twice.render, twice.reward_calls.calls) == (2 * costs.render, 4)
    assert twice - costs == costs


def test_shares_are_of_the_sum() -> None:
    assert shares_of({"simulate": 1.0, "render": 3.0}) == {"simulate": 0.25, "render": 0.75}
    assert shares_of({"simulate": 0.0}) == {"simulate": 0.0}


def test_peak_memory_is_the_systems_and_never_falls() -> None:
    block = np.ones(2**24)  # 128 MiB
    before = PeakMemory.of_this_process()
    assert before.cpu >= block.nbytes / 2**30
    assert before.cpu <= resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    del block
    assert PeakMemory.of_this_process().cpu >= before.cpu
    assert PeakMemory(1.0, 0.5).or_more(PeakMemory(0.5, 2.0)) == PeakMemory(1.0, 2.0)
    assert PeakMemory(1.0, 0.5) + PeakMemory(0.5, 2.0) == PeakMemory(1.5, 2.5)
