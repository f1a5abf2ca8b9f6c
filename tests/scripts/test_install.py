"""scripts/install.sh where it leans on the rest of the project."""

import re
import subprocess
import sys
from pathlib import Path

from rllib_envs.gl import PACKAGES

ROOT = Path(__file__).parents[2]
SCRIPT = (ROOT / "scripts/install.sh").read_text()


def test_gl_probe_is_silent_where_frames_can_be_drawn() -> None:
    probe = re.search(r'python -c "(from rllib_envs.+?)"', SCRIPT)
    assert probe is not None
    done = subprocess.run([sys.executable, "-c", probe[1]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_it_installs_the_packages_that_the_error_message_names() -> None:
    listed = re.search(r"GL_PACKAGES=\((.+?)\)", SCRIPT)
    assert listed is not None
    assert set(PACKAGES["egl"].split()) <= set(listed[1].split())
