"""Students at 84 x 84 beside the image towers of CLIP at 224 x 224: batches of 16 frames on all cores, single frames.

Every network is measured in every runtime; `ratios` compare the fastest one of each, by turns, in frames a second.
Weights are random: they change no time. `eager` is the network as PyTorch runs it, `torch` the same with batch
normalisation folded away. CLIP's towers get all that students get: their preprocessing in the graph, bfloat16, streams.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
import yaml
from numpy.typing import NDArray
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from datamodules.pixels import as_tensor, to_model_input
from lightning_modules.frame_network import FrameNetwork
from lightning_modules.onnx_export import export_onnx
from lightning_modules.runtimes import Runtime, available_runtimes, open_runtime
from lightning_modules.student_network import StudentNetwork
from rllib_envs.threads import torch_threads
from sweeps.benchmarks import interleaved_medians

DEFAULT_STUDENT = Path("conf/student/default.yaml")
BATCH = 16
COMPARED_ROUNDS = 4
TURN_MILLISECONDS = 100.0
"""how long a network is asked in its turn: a small one would else be timed only right after a large one"""


@dataclass(frozen=True)
class Peer:
    """A network to measure."""

    make: Callable[[], nn.Module]
    """builds it with random weights"""
    pixels: int
    """side of its frames"""
    runtimes: tuple[str, ...] | None
    """what runs it, where that is installed; None is the fastest of the network before it"""
    rounds: int
    """turns that count"""
    warm_up_rounds: int
    """turns before those"""
    batches: tuple[int, ...] = (BATCH,)
    """frames in a call"""


def default_student() -> StudentNetwork:
    """The network of conf/student/default.yaml."""
    model = yaml.safe_load(DEFAULT_STUDENT.read_text())["model"]
    return StudentNetwork(model["backbone"], 84, model["head_width"])


def clip_tower(name: str) -> nn.Module:
    """The image tower of an open_clip model."""
    tower: nn.Module = open_clip.CLIP(**open_clip.get_model_config(name)).visual
    return tower


ALL = ("torch", "compile", "onnx", "openvino", "openvino_bf16")
PEERS: Mapping[str, Peer] = {
    "fast_student": Peer(default_student, 84, ALL, 30, 3, (BATCH, 1)),
    "efficientnet_b0": Peer(lambda: StudentNetwork("efficientnet_b0", 84), 84, ALL, 15, 3),
    # towers have no batch normalisation, so eager is their `torch`, and no overhead that torch.compile could save
    "vit_b32": Peer(lambda: clip_tower("ViT-B-32"), 224, ALL[2:], 4, 1),
    # the same layers as ViT-B/32, but seconds a call and gigabytes a runtime
    "vit_l14": Peer(lambda: clip_tower("ViT-L-14"), 224, None, 1, 0),
}
STUDENTS, TOWERS = ("fast_student", "efficientnet_b0"), ("vit_b32", "vit_l14")


def measure() -> dict[str, Any]:
    """Median milliseconds of a call in each runtime, operations a frame, and the ratios of the fastest runtimes."""
    threads = os.cpu_count() or 1
    with torch_threads(threads):
        measured: dict[str, Measured] = {}
        for name, peer in PEERS.items():
            fastest = [one.fastest for one in measured.values()][-1:]
            measured[name] = Measured(peer, fastest if peer.runtimes is None else peer.runtimes)
        single = measured["fast_student"].milliseconds[1]
        ratios = {
            f"{student}_over_{tower}": ratio
            for tower in TOWERS
            for student, ratio in frame_rates_over(measured[tower], {name: measured[name] for name in STUDENTS}).items()
        }
    return {
        "medians": {
            f"{name}_batch{count}_{runtime}_ms": ms
            for name, one in measured.items()
            for count, by_runtime in one.milliseconds.items()
            for runtime, ms in by_runtime.items()
        },
        "fastest": {name: one.fastest for name, one in measured.items()},
        "frames_per_second": {name: one.frames_per_second for name, one in measured.items()},
        "megaflop_per_frame": {name: one.megaflop for name, one in measured.items()},
        "ratios": {**ratios, "batch1_best_over_eager": single["eager"] / min(single.values())},
        "threads": threads,
        "batch": BATCH,
    }


class Measured:
    """A network timed in its runtimes beside each other; the fastest one at BATCH frames is kept."""

    def __init__(self, peer: Peer, names: Sequence[str]) -> None:
        torch.manual_seed(0)
        torch.compiler.reset()  # programs of the network before count towards torch's limit for this one
        network = peer.make().eval()
        shape = (BATCH, peer.pixels, peer.pixels, 3)
        self.frames: NDArray[np.uint8] = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        self.megaflop = count_megaflop(network, peer.pixels)
        runtimes = {"eager": partial(run_eagerly, deepcopy(network)), **open_runtimes(network, peer, names)}
        self.milliseconds = {
            count: interleaved_medians(
                {name: partial(runtime, self.frames[:count]) for name, runtime in runtimes.items()},
                peer.rounds,
                warm_up_rounds=peer.warm_up_rounds,
            )
            for count in peer.batches
        }
        by_runtime = self.milliseconds[BATCH]
        self.fastest = min(by_runtime, key=lambda name: by_runtime[name])
        self.frames_per_second = BATCH * 1000 / by_runtime[self.fastest]
        self.calls_a_turn = max(1, round(TURN_MILLISECONDS / by_runtime[self.fastest]))
        self._runtime = runtimes[self.fastest]  # the others go: a large network's take gigabytes

    def turn(self) -> None:
        """Score BATCH frames as often as fits into a turn."""
        for _ in range(self.calls_a_turn):
            self._runtime(self.frames)


def frame_rates_over(tower: Measured, students: Mapping[str, Measured]) -> dict[str, float]:
    """How many times the tower's frames a second each student scores, all of them taking turns."""
    turns = {"tower": tower.turn, **{name: student.turn for name, student in students.items()}}
    times = interleaved_medians(turns, COMPARED_ROUNDS, warm_up_rounds=1)
    return {
        name: (times["tower"] / tower.calls_a_turn) / (times[name] / student.calls_a_turn)
        for name, student in students.items()
    }


def open_runtimes(network: nn.Module, peer: Peer, names: Sequence[str]) -> dict[str, Runtime]:
    """Those of the runtimes that are installed; torch.compile always is."""
    with_frames = FrameNetwork(network, peer.pixels)
    onnx = cache(lambda: export_onnx(with_frames))
    here = {"compile", *available_runtimes()}
    return {name: open_runtime(name, with_frames, onnx) for name in names if name in here}


def run_eagerly(network: nn.Module, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The network as it was fitted."""
    with torch.inference_mode():
        outputs: NDArray[np.float32] = network(to_model_input(as_tensor(frames))).numpy()
    return outputs


def count_megaflop(network: nn.Module, pixels: int) -> float:
    """Million floating-point operations for a frame, a multiply-add being two."""
    counter = FlopCounterMode(display=False)
    with counter:  # with gradients: without them attention is one operation that is not counted
        network(torch.zeros(1, 3, pixels, pixels))
    return float(counter.get_total_flops()) / 1e6
