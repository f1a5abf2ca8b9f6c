"""Stable-Baselines3 trains on a student in a process that has neither Ray nor Lightning."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_sac_of_stable_baselines_trains_on_the_bundled_student() -> None:
    code = (
        "import sys\n"
        "from examples.sb3_sac import main\n"
        "main(300)\n"
        "assert not {'ray', 'pytorch_lightning', 'open_clip', 'mlflow'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    shown = re.fullmatch(
        r"after 300 steps: learned return (-?[\d.]+), true return ([\d.]+) of at most 1000\n", done.stdout
    )
    assert shown is not None
    assert -300 < float(shown[1]) < 300  # 125 decisions of a reward with deviation 1
    assert 0 <= float(shown[2]) <= 1000
