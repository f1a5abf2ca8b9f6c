"""`runtime: auto`: the candidates are timed once on this machine, and the outcome is remembered.

What is remembered depends on the processor, the number of threads, the network's layers and the libraries' versions,
not on its weights: a hundred students of one backbone are timed once. It lies in the user's cache folder, one JSON file
each; removing them is safe.
"""

import json
import os
import platform
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from math import prod
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from datamodules.errors import SuiteError
from datamodules.results import read_json, versions, write_json
from lightning_modules.frame_network import FrameNetwork
from lightning_modules.runtimes import RUNTIMES, Onnx, Runtime, available_runtimes, open_runtime

BATCH_SIZES = (1, 16)
"""what is timed: an environment by itself, and a vector of them"""
WARM_UP_ROUNDS, ROUNDS, FEWEST_ROUNDS = 2, 11, 4
ENOUGH_SECONDS = 2.0
"""large networks get fewer rounds, but at least FEWEST_ROUNDS"""
FORMAT = 2
"""part of the key: another number wherever the runtimes change"""

Milliseconds = dict[str, list[float]]


def open_fastest(network: FrameNetwork, onnx: Onnx) -> Runtime:
    """The fastest runtime here that gives torch's numbers within its tolerance (`runtimes.TOLERANCE`).

    Fastest is the smallest product of the times at BATCH_SIZES. Torch itself is always a candidate.
    """
    names = available_runtimes()
    if len(names) == 1:
        return open_runtime("torch", network, onnx)
    key = machine_and_network(network)
    path = cache_folder() / f"{sha256(json.dumps(key).encode()).hexdigest()[:32]}.json"
    times = _remembered(path)
    opened: dict[str, Runtime] = {}
    if times is None:
        opened = _open_all(names, network, onnx)
        times = time_runtimes(opened, network.pixels)
        with suppress(OSError):  # a machine without a cache folder times them again
            write_json(path, {"milliseconds": times, "batch_sizes": BATCH_SIZES, **key})
    for name in sorted(times, key=lambda name: prod(times[name])):
        # agreement depends on the weights, so it is checked each time a runtime is opened
        with suppress(SuiteError):
            return opened.get(name) or open_runtime(name, network, onnx)
    return open_runtime("torch", network, onnx)


def time_runtimes(runtimes: Mapping[str, Runtime], pixels: int) -> Milliseconds:
    """Median milliseconds of one call at each of BATCH_SIZES; the runtimes take turns."""
    generator = np.random.default_rng(0)
    batches = [generator.integers(0, 256, (size, pixels, pixels, 3), dtype=np.uint8) for size in BATCH_SIZES]
    taken: dict[str, list[list[float]]] = {name: [] for name in runtimes}
    start = time.monotonic()
    for number in range(WARM_UP_ROUNDS + ROUNDS):
        for name, runtime in runtimes.items():
            taken[name].append([_milliseconds(runtime, batch) for batch in batches])
        if number + 1 >= WARM_UP_ROUNDS + FEWEST_ROUNDS and time.monotonic() - start > ENOUGH_SECONDS:
            break
    counted = {name: zip(*rows[WARM_UP_ROUNDS:], strict=True) for name, rows in taken.items()}
    return {name: [median(column) for column in by_size] for name, by_size in counted.items()}


def cache_folder() -> Path:
    """Where choices are remembered: below `XDG_CACHE_HOME`, or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vlm-reward-rl" / "runtimes"


def machine_and_network(network: FrameNetwork) -> dict[str, Any]:
    """All that a choice depends on."""
    return {
        "format": FORMAT,
        "processor": _processor(),
        "vector_instructions": torch.backends.cpu.get_cpu_capability(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "threads": torch.get_num_threads(),
        "pixels": network.pixels,
        "layers": sha256(str(network).encode()).hexdigest(),
        "versions": versions(),
    }


def _remembered(path: Path) -> Milliseconds | None:
    """The times in a file; None where there is none, or one that somebody else wrote."""
    try:
        times = read_json(path)["milliseconds"]
    except (OSError, ValueError, KeyError):
        return None
    usable = isinstance(times, dict) and "torch" in times and times.keys() <= set(RUNTIMES)
    return times if usable and all(map(_are_times, times.values())) else None


def _are_times(row: Any) -> bool:
    return isinstance(row, list) and len(row) == len(BATCH_SIZES) and all(type(ms) is float and ms > 0 for ms in row)


def _open_all(names: Sequence[str], network: FrameNetwork, onnx: Onnx) -> dict[str, Runtime]:
    """Those runtimes that can run this network and agree with torch."""
    opened: dict[str, Runtime] = {}
    for name in names:
        with suppress(SuiteError):
            opened[name] = open_runtime(name, network, onnx)
    return opened


def _milliseconds(runtime: Runtime, frames: NDArray[np.uint8]) -> float:
    start = time.perf_counter()
    runtime(frames)
    return (time.perf_counter() - start) * 1000


def _processor() -> str:
    with suppress(OSError):  # /proc exists on Linux alone, where `platform` does not know the model
        names = re.findall(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        if names:
            return str(names[0])
    return platform.processor() or platform.machine()
