"""What every test shares."""

import os

# The suite runs beside RLlib's own processes on few cores: one thread a process is faster than many, and repeatable.
# Set before torch is imported; processes started by tests inherit it.
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"
