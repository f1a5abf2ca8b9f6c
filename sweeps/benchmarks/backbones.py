"""What the backbones of the ablation cost at 84 x 84: fitting and scoring, all of them taking turns on one thread.

A fit's seconds are `fit_ms_per_frame` times its training frames and epochs: steps of AdamW on batches of 32, as
conf/student/default.yaml takes them. Scoring is in the fastest runtime of those installed. Weights are random: they
change no time. How faithful each one becomes is for `scripts.evaluate_students` to say, after whole fits.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from datamodules.pixels import to_model_input
from datamodules.progress import progress_bar
from lightning_modules.student_network import StudentNetwork
from rllib_envs.threads import torch_threads
from sweeps.benchmarks import interleaved_medians
from sweeps.benchmarks.rewards import Measured, Peer

BACKBONES = (
    "test_efficientnet",
    "mobilenetv4_conv_small",
    "mobilenetv3_small_100",
    "mobilenetv3_large_100",
    "resnet18",
    "efficientnet_b0",
    "vit_tiny_patch16_224",
)
PIXELS, FIT_BATCH = 84, 32
RUNTIMES = ("torch", "onnx", "openvino", "openvino_bf16")


def measure() -> dict[str, Any]:
    """Milliseconds of a frame in a fit and of calls with 1 and 16 frames, weights and operations of each backbone."""
    medians: dict[str, float] = {}
    parameters: dict[str, int] = {}
    megaflop: dict[str, float] = {}
    fastest: dict[str, str] = {}
    with torch_threads(1), progress_bar("backbones", "networks") as report:
        steps: dict[str, Callable[[], object]] = {name: fit_step(name) for name in BACKBONES}
        for name, ms in interleaved_medians(steps, rounds=7, warm_up_rounds=2).items():
            medians[f"{name}_fit_ms_per_frame"] = ms / FIT_BATCH
        for number, name in enumerate(BACKBONES):
            peer = Peer(partial(StudentNetwork, name, PIXELS), PIXELS, RUNTIMES, 15, 3, (16, 1))
            measured = Measured(peer, RUNTIMES)
            for count, by_runtime in measured.milliseconds.items():
                medians[f"{name}_batch{count}_ms"] = min(by_runtime.values())
            parameters[name] = sum(weights.numel() for weights in StudentNetwork(name, PIXELS).parameters())
            megaflop[name], fastest[name] = measured.megaflop, measured.fastest
            report(number + 1, len(BACKBONES), name)
    first = BACKBONES[0]
    ratios = {
        f"{name}_over_{first}_fit": medians[f"{name}_fit_ms_per_frame"] / medians[f"{first}_fit_ms_per_frame"]
        for name in BACKBONES[1:]
    }
    return {
        "medians": medians,
        "ratios": ratios,
        "parameters": parameters,
        "megaflop_per_frame": megaflop,
        "fastest": fastest,
        "threads": 1,
    }


def fit_step(backbone: str) -> Callable[[], None]:
    """A call takes one step of a fit on made-up frames."""
    torch.manual_seed(0)
    network = StudentNetwork(backbone, PIXELS).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    generator = np.random.default_rng(0)
    frames = torch.from_numpy(generator.integers(0, 256, (FIT_BATCH, PIXELS, PIXELS, 3), dtype=np.uint8))
    rewards = torch.from_numpy(generator.normal(size=(FIT_BATCH, 1)).astype(np.float32))

    def step() -> None:
        optimizer.zero_grad()
        loss = F.huber_loss(network(to_model_input(frames)), rewards)
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own stub
        optimizer.step()

    return step
