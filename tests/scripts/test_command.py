"""Commands as a user meets them: real processes, their output and their exit codes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from datamodules.tasks import Prompts, Task
from scripts.command import files_first, run

ROOT = Path(__file__).parents[2]

TASK = """
name: pole
family: dm_control
simulator: cartpole-swingup
prompts:
  goal: [pole vertically upright on top of the cart]
"""

COMMAND = '''
import sys
import time
from pathlib import Path

from datamodules.tasks import Task
from lightning_modules.settings import TeacherSettings
from scripts.command import run


def roll(task: Task, out: Path, seed: int = 0, teacher: TeacherSettings | None = None, loud: bool = False) -> Path:
    """Roll something.

    The exact command:

        python -m rolling --task tasks/pole.yaml

    Args:
        task: what to learn
        out: the folder to write
        seed: where chance starts
        loud: shout
    """
    name = task.name.upper() if loud else task.name
    print(f"rolling {name} with seed {seed}")
    if seed == 1:
        raise ZeroDivisionError("a bug, not a mistake")
    while seed == 2:
        print("waiting", flush=True)
        time.sleep(0.05)
    return out / "result.json"


if __name__ == "__main__":
    run(roll)
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a command, `python -m rolling`, and the conf files of two tasks and a teacher."""
    folder = tmp_path_factory.mktemp("command")
    (folder / "rolling.py").write_text(COMMAND)
    (folder / "conf" / "tasks").mkdir(parents=True)
    for name in ("cartpole_swingup", "humanoid_stand"):
        (folder / "conf" / "tasks" / f"{name}.yaml").write_text(TASK)
    (folder / "no_batch.yaml").write_text("{model: ViT-B-32, weights: openai, batch_size: 0}")
    return folder


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120"}
    command = [sys.executable, "-m", "rolling", *arguments]
    return subprocess.Popen(
        command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def outcome(folder: Path, *arguments: str) -> tuple[int, str, str]:
    process = start(folder, *arguments)
    stdout, stderr = process.communicate(timeout=60)
    return process.returncode, stdout, stderr


GOOD = ("--task", "conf/tasks/cartpole_swingup.yaml", "--out", "runs/x")


def test_path_of_the_result_is_the_last_line(folder: Path) -> None:
    code, stdout, stderr = outcome(folder, *GOOD, "--seed=7")
    assert (code, stderr) == (0, "")
    assert stdout.splitlines() == ["rolling pole with seed 7", "runs/x/result.json"]


@pytest.mark.parametrize(
    ("flag", "name"), [(("--loud",), "POLE"), (("--loud", "true"), "POLE"), (("--loud=false",), "pole"), ((), "pole")]
)
def test_bare_flag_means_true(folder: Path, flag: tuple[str, ...], name: str) -> None:
    code, stdout, _ = outcome(folder, *flag, *GOOD)
    assert (code, stdout.splitlines()[0]) == (0, f"rolling {name} with seed 0")


def test_help_teaches_the_command_and_every_field(folder: Path) -> None:
    code, stdout, _ = outcome(folder, "--help")
    assert code == 0
    assert "usage: python -m rolling [options]" in stdout
    assert "\n    python -m rolling --task tasks/pole.yaml\n" in stdout
    assert "where chance starts" in stdout
    assert "simulator frames for one agent decision (the action repeat)" in " ".join(stdout.split())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ("--task", "conf/tasks/cartpol.yaml", "--out", "x"),
            "there is no file 'conf/tasks/cartpol.yaml': did you mean 'conf/tasks/cartpole_swingup.yaml'?",
        ),
        (("--task=humanoid_stnd.yaml",), "did you mean 'conf/tasks/humanoid_stand.yaml'?"),
        ((*GOOD, "--task.episode_frames", "7"), "episode_frames (7) must be a multiple of frames_per_step (2)"),
        ((*GOOD, "--task.prompts.goal", "[' ']"), "prompts.goal holds an empty sentence"),
        ((*GOOD, "--teacher", "no_batch.yaml"), "teacher.batch_size is 0: it must lie between 1 and 4096"),
        ((*GOOD, "--task.family", "gymnasum"), "did you mean 'gymnasium'?"),
        ((*GOOD, "--sed", "3"), "did you mean '--seed'?"),
        ((*GOOD, "--seed", "one"), "Parser key \"seed\":\n  Expected a <class 'int'>. Got value: one"),
        (GOOD[:2], "the following arguments are required: out"),
    ],
)
def test_mistakes_end_with_code_2_and_one_plain_message(
    folder: Path, arguments: tuple[str, ...], expected: str
) -> None:
    code, stdout, stderr = outcome(folder, *arguments)
    assert (code, stdout) == (2, "")
    assert stderr.startswith("error: ")
    assert expected in stderr
    assert "Traceback" not in stderr
    assert len(stderr.splitlines()) < 6


TRIAL = """
task:
  name: cart
  family: dm_control
  simulator: cartpole-balance
  prompts: {goal: [an upright pole], baseline: [a pole], alpha: 0.5}
  camera: {distance: 5.0}
seed: 4
"""


def read(folder: Path, *arguments: str) -> tuple[Task, int]:
    """What a command is called with."""
    seen = []

    def roll(task: Task, seed: int = 0) -> Path:
        seen.append((task, seed))
        return folder

    (folder / "trial.yaml").write_text(TRIAL)
    (folder / "pole.yaml").write_text(TASK)
    run(roll, [argument.format(folder=folder) for argument in arguments])
    return seen[0]


def test_a_file_for_a_group_of_settings_replaces_all_that_the_config_says_of_it(tmp_path: Path) -> None:
    task, seed = read(tmp_path, "--config", "{folder}/trial.yaml", "--task", "{folder}/pole.yaml")
    pole = Prompts(goal=("pole vertically upright on top of the cart",))
    assert (task, seed) == (Task("pole", "dm_control", "cartpole-swingup", pole), 4)


def test_flags_win_over_files_wherever_they_stand(tmp_path: Path) -> None:
    flags = ("--seed", "3", "--task.name", "mine")
    task, seed = read(tmp_path, *flags, "--task={folder}/pole.yaml", "--config", "{folder}/trial.yaml")
    assert (task.name, task.simulator, seed) == ("mine", "cartpole-swingup", 3)
    task, seed = read(tmp_path, *flags, "--config={folder}/trial.yaml")
    assert (task.name, task.simulator, seed) == ("mine", "cartpole-balance", 3)


def test_what_is_no_file_of_settings_keeps_its_place() -> None:
    several = ["--students", "a.yaml", "b.yaml", "--loud", "--config", "c.yaml"]
    assert files_first(several) == ["--config", "c.yaml", "--students", "a.yaml", "b.yaml", "--loud"]


def test_bugs_keep_their_traceback(folder: Path) -> None:
    code, _, stderr = outcome(folder, *GOOD, "--seed", "1")
    assert code == 1
    assert "Traceback" in stderr
    assert "ZeroDivisionError: a bug, not a mistake" in stderr


def test_interruption_says_how_to_go_on(folder: Path) -> None:
    process = start(folder, *GOOD, "--seed", "2")
    assert process.stdout is not None
    while process.stdout.readline() != "waiting\n":
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr.strip() == f"stopped; to go on, repeat: python -m rolling {' '.join(GOOD)} --seed 2"
