"""What a training costs: seconds by what they were spent on, how long calls of the reward take, memory."""

import resource
import sys
import time
from bisect import bisect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

BINS_A_DECADE = 10
EDGES: tuple[float, ...] = tuple(float(edge) for edge in np.logspace(-5, 3, 8 * BINS_A_DECADE + 1))
"""seconds between which calls are counted, the same in every process and version, so that counts add up; two more
bins hold what is shorter than the first or longer than the last"""
ENDS = (EDGES[0], *EDGES, EDGES[-1])
"""of all bins; the outer two have no width, as nothing is known of the calls in them but on which side they lie"""
QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True)
class Latencies:
    """How many calls took how long."""

    counts: tuple[int, ...] = (0,) * (len(EDGES) + 1)
    """calls in each bin: below EDGES[0], between neighbouring edges, from EDGES[-1] on"""

    @property
    def calls(self) -> int:
        """All calls."""
        return sum(self.counts)

    def with_call(self, seconds: float) -> "Latencies":
        """One more call."""
        counts = list(self.counts)
        counts[bisect(EDGES, seconds)] += 1
        return Latencies(tuple(counts))

    def quantile(self, share: float) -> float:
        """Seconds that this share of the calls (0 to 1) stays below; inside a bin calls lie evenly on a log scale.

        NaN without a call.
        """
        if not self.calls:
            return float("nan")
        below = np.cumsum((0, *self.counts))
        return float(np.exp(np.interp(share * self.calls, below, np.log(ENDS))))

    def summary(self) -> dict[str, Any]:
        """For result.json: calls, quantiles in seconds, and [low, high, calls] of every bin that is not empty."""
        bins = zip(ENDS, ENDS[1:], self.counts, strict=False)
        return {
            "calls": self.calls,
            **{name: self.quantile(share) for name, share in QUANTILES.items()},
            "histogram": [[low, high, count] for low, high, count in bins if count],
        }

    def __add__(self, other: "Latencies") -> "Latencies":
        return Latencies(tuple(a + b for a, b in zip(self.counts, other.counts, strict=True)))

    def __sub__(self, other: "Latencies") -> "Latencies":
        return Latencies(tuple(a - b for a, b in zip(self.counts, other.counts, strict=True)))


@dataclass
class Costs:
    """Seconds spent since the start, by what they were spent on."""

    simulate: float = 0.0
    """stepping and resetting simulators"""
    render: float = 0.0
    """drawing frames"""
    reward: float = 0.0
    """scoring frames"""
    reward_calls: Latencies = Latencies()
    """how long each call of the reward function took"""

    @contextmanager
    def measure(self, phase: str) -> Iterator[None]:
        """Add the block's seconds to `phase`; a block of `reward` is one call of the reward function."""
        start = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - start
            setattr(self, phase, getattr(self, phase) + seconds)
            if phase == "reward":
                self.reward_calls = self.reward_calls.with_call(seconds)

    def __add__(self, other: "Costs") -> "Costs":
        return Costs(
            self.simulate + other.simulate,
            self.render + other.render,
            self.reward + other.reward,
            self.reward_calls + other.reward_calls,
        )

    def __sub__(self, other: "Costs") -> "Costs":
        return Costs(
            self.simulate - other.simulate,
            self.render - other.render,
            self.reward - other.reward,
            self.reward_calls - other.reward_calls,
        )


@dataclass(frozen=True)
class PeakMemory:
    """The most memory that processes held at any time since they were started."""

    cpu: float = 0.0
    """resident in main memory, GiB"""
    gpu: float = 0.0
    """allocated by torch on the GPU, GiB; 0 where none is used"""

    @classmethod
    def of_this_process(cls) -> "PeakMemory":
        """So far."""
        import torch  # only trainings ask, and they have it loaded

        unit = 2**30 if sys.platform == "darwin" else 2**20  # ru_maxrss is in bytes there, in KiB on Linux
        used = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]  # torch states no type
        gpu = torch.cuda.max_memory_allocated() if used else 0
        return cls(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, gpu / 2**30)

    def or_more(self, other: "PeakMemory") -> "PeakMemory":
        """The higher of two peaks, of each kind of memory."""
        return PeakMemory(max(self.cpu, other.cpu), max(self.gpu, other.gpu))

    def __add__(self, other: "PeakMemory") -> "PeakMemory":
        return PeakMemory(self.cpu + other.cpu, self.gpu + other.gpu)


def shares_of(seconds: Mapping[str, float]) -> dict[str, float]:
    """Seconds as shares of their sum, 0 to 1."""
    whole = sum(seconds.values())
    return {phase: round(spent / whole, 4) if whole else 0.0 for phase, spent in seconds.items()}
