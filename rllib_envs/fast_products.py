"""Float32 matrix products by the faster of torch's two libraries.

Off Intel's own processors MKL leaves AVX-512 unused, and oneDNN takes half the time for the products of networks this
small. torch asks oneDNN for float32 products only where it may round inputs to bfloat16, which it does where the
processor has units for that (AMX); there a probe sees it, and everything stays as it was.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch

PROBE_SIZE, PROBE_ROUNDS = 256, 20
FLOAT32_ERROR = 1e-4
"""largest error of a probed product, standard normal numbers in sums of PROBE_SIZE: float32 makes one of 5e-5 at most,
bfloat16 inputs one of 0.1"""


@contextmanager
def fast_products() -> Iterator[None]:
    """Run the block with the faster library; float32's accuracy is kept, and so is what is set outside the block."""
    products = _onednn_products()
    before = products.fp32_precision
    if _onednn_is_exact_and_faster():
        products.fp32_precision = "bf16"
    try:
        yield
    finally:
        products.fp32_precision = before


def _onednn_products() -> Any:
    backend: Any = torch.backends.mkldnn  # torch's types do not know of its settings
    return backend.matmul


@cache
def _onednn_is_exact_and_faster() -> bool:
    """Asked once in a process; takes some 10 ms."""
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(PROBE_SIZE, PROBE_SIZE, generator=generator) for _ in range(2))
    products = _onednn_products()
    before = products.fp32_precision
    seconds: dict[str, float] = {}
    try:
        for precision in ("ieee", "bf16"):
            products.fp32_precision = precision
            seconds[precision] = min(_seconds_of_product(left, right) for _ in range(PROBE_ROUNDS))
        error = (left @ right - left.double() @ right.double()).abs().max()
    finally:
        products.fp32_precision = before
    return bool(error < FLOAT32_ERROR) and seconds["bf16"] < seconds["ieee"]


def _seconds_of_product(left: torch.Tensor, right: torch.Tensor) -> float:
    start = time.perf_counter()
    left @ right
    return time.perf_counter() - start
