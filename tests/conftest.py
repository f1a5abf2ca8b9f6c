"""What every test shares."""

import gc
import os
from collections.abc import Iterator

import hypothesis
import pytest

# The suite runs beside RLlib's own processes on few cores: one thread a process is faster than many, and repeatable.
# Set before torch is imported; processes started by tests inherit it.
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"


# How long an example takes is the machine's business: by default Hypothesis fails one of more than 200 ms.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")


@pytest.fixture(scope="module", autouse=True)
def no_garbage_left() -> Iterator[None]:
    """What a file leaves behind ends with it, and not in the middle of another one and in any thread."""
    yield
    gc.collect()
