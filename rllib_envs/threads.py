"""How many threads torch may use while an agent trains."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

THREADS = 1
"""One: products of 256 x 256 are too small to share, and threads that wait for each other take the core from the
simulators. Measured on 2 busy cores: a critic's layer took 0.7 ms on one thread and 9 to 11 ms on two."""


@contextmanager
def torch_threads(count: int = THREADS) -> Iterator[int]:
    """Run the block, which is told the process's own number, with this many torch threads; then that number is back."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield before
    finally:
        torch.set_num_threads(before)
