"""The GL context of a process. What happens once a process is tested in processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TASK = (
    "from datamodules.tasks import Prompts, Task\n"
    "from rllib_envs.simulators import make_simulator\n"
    "task = Task('pole', 'dm_control', 'cartpole-balance', Prompts(goal=('anything',)))\n"
)


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh process whose GL backend is not chosen yet."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("MUJOCO_GL", "PYOPENGL_PLATFORM")}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_triton_can_be_loaded_after_a_frame_was_drawn() -> None:
    """Loading it after Mesa, with nothing done about the order, ends in a segmentation fault."""
    result = run(
        TASK + "simulator = make_simulator(task)\n"
        "simulator.reset(seed=0)\n"
        "simulator.render(84)\n"
        "import triton\n"
        "print('alive')"
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "alive"


def test_processes_end_without_complaints_however_the_context_was_opened() -> None:
    result = run(
        "from rllib_envs.gl import require_gl\n"
        "require_gl()\n" + TASK + "simulator = make_simulator(task)\n"  # dm_control's exit handlers come after ours
        "simulator.reset(seed=0)\n"
        "simulator.render(84)"
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize("backend", ["disabled", "glfw", ""])
def test_without_gl_the_message_names_the_packages(backend: str, tmp_path: Path) -> None:
    result = run(
        "from datamodules.errors import MissingDependencyError\n"
        "from rllib_envs.gl import require_gl\n"
        "try:\n"
        "    require_gl()\n"
        "except MissingDependencyError as error:\n"
        "    print(error)\n",
        MUJOCO_GL=backend,
        __EGL_VENDOR_LIBRARY_DIRS=str(tmp_path),  # libEGL is installed, but no driver for it
        LD_LIBRARY_PATH="",
    )
    assert "apt-get install libegl1 libgl1 libgl1-mesa-dri" in result.stdout, result.stderr
    assert "apt-get install libosmesa6" in result.stdout


def test_asking_for_a_backend_that_is_not_installed_names_the_packages(tmp_path: Path) -> None:
    result = run(TASK + "make_simulator(task)", MUJOCO_GL="egl", __EGL_VENDOR_LIBRARY_DIRS=str(tmp_path))
    assert "MissingDependencyError" in result.stderr
    assert "MUJOCO_GL is 'egl', and that does not work here" in result.stderr


def test_unknown_backend_offers_the_closest_name() -> None:
    result = run(TASK + "make_simulator(task)", MUJOCO_GL="osmosa")
    assert "unknown MUJOCO_GL 'osmosa': did you mean 'osmesa'?" in result.stderr


def test_without_gl_simulators_still_step() -> None:
    result = run(
        TASK
        + "simulator = make_simulator(task)\nsimulator.reset(seed=0)\nprint(simulator.step([0.0]).true_reward > 0)",
        MUJOCO_GL="disabled",
    )
    assert result.stdout.strip() == "True", result.stderr
