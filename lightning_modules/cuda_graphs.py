"""A network on an NVIDIA GPU: one recorded CUDA graph a batch size, in bfloat16.

Small networks are launch-bound there: replaying a graph costs one launch instead of hundreds. Written from torch's
documentation of `torch.cuda.CUDAGraph`; no figures are quoted, as none were measured.
"""

from copy import deepcopy

import numpy as np
import torch
from numpy.typing import NDArray

from datamodules.errors import MissingDependencyError
from datamodules.pixels import as_tensor
from lightning_modules.batch_sizes import FixedBatches, Program
from lightning_modules.frame_network import FrameNetwork

WARM_UP_CALLS = 3  # libraries choose their algorithms in the first ones, which must not be recorded


def cuda_graphs(network: FrameNetwork) -> FixedBatches:
    """Run a copy of the network on the GPU. Raises MissingDependencyError where torch sees none."""
    if not torch.cuda.is_available():
        raise MissingDependencyError(
            "runtime 'cuda' needs an NVIDIA GPU and a torch built for it, and torch sees none: use runtime 'auto'"
        )
    on_gpu = deepcopy(network).cuda()
    return FixedBatches(lambda batch_size: _record(on_gpu, batch_size))


def _record(network: FrameNetwork, batch_size: int) -> Program:
    """Record one pass over `batch_size` frames; the program replays it on the same memory each time."""
    inputs = torch.zeros((batch_size, network.pixels, network.pixels, 3), dtype=torch.uint8, device="cuda")
    graph, side = torch.cuda.CUDAGraph(), torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    # autocast's cache of cast weights would hand memory of one recording to the next
    with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16, cache_enabled=False):
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP_CALLS):
                network(inputs)
        torch.cuda.current_stream().wait_stream(side)
        with torch.cuda.graph(graph):
            outputs = network(inputs)

    def program(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        inputs.copy_(as_tensor(frames))
        graph.replay()
        scores: NDArray[np.float32] = outputs.float().cpu().numpy()
        return scores

    return program
