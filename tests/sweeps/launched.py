"""Small sweeps in a process of their own, to be watched, interrupted and killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
SECONDS = 600
"""after which nothing will come of it"""
SMALL = """
name: small
question: Does it matter?
base:
  task: {root}/conf/tasks/cartpole_swingup.yaml
  teacher: {root}/conf/teacher/bundled.yaml
  student: {root}/conf/student/quick.yaml
  out: unused
  evaluation_episodes: 2
  reward: "true"
  sac: {{total_steps: {steps}, num_envs: 4, learning_starts: 100, batch_size: 32, hidden: [32],
        evaluation_every_steps: 128, evaluation_episodes: 2, replay_capacity: 1000}}
  tracking: {{uri: "sqlite:///{folder}/mlflow.db"}}
grid: {{task.episode_frames: [200]{grid}}}
out: {folder}/sweep
"""


def write_small(folder: Path, *, steps: int, grid: str = "", more: str = "") -> Path:
    """The file of a sweep in `folder`/sweep over `grid`, with `more` settings of the sweep."""
    path = folder / "small.yaml"
    path.write_text(SMALL.format(root=ROOT, folder=folder, steps=steps, grid=grid and f", {grid}") + more)
    return path


def command(config: Path, *more: str) -> list[str]:
    """Launches it."""
    return [sys.executable, "-m", "scripts.launch_sweep", "--config", str(config), *more]


def start(config: Path, environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """Launch it in a session of its own."""
    return subprocess.Popen(
        command(config),
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run(config: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """Launch it and wait for its end."""
    return subprocess.run(
        command(config, *more), cwd=ROOT, capture_output=True, text=True, check=False, timeout=SECONDS
    )


def wait_for(ready: Callable[[], object], process: subprocess.Popen[str] | None = None) -> None:
    """Until it is so. Fails where the process ends before."""
    deadline = time.monotonic() + SECONDS
    while not ready():
        assert process is None or process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < deadline, "nothing came of it"
        time.sleep(0.1)


def learning(out: Path) -> set[str]:
    """Trials whose agents have been evaluated, and that are not at their end."""
    return {
        path.parents[1].name
        for path in out.glob("trials/*/agent/evaluations.jsonl")
        if path.stat().st_size and not (path.parents[1] / "result.json").exists()
    }


def holders(path: Path) -> set[int]:
    """Processes that have the file open."""
    found = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if link.resolve() == path:
                found.add(int(link.parts[2]))
        except OSError:  # it ended in the meantime
            continue
    return found


def kill_with_trials(process: subprocess.Popen[str], out: Path) -> None:
    """SIGKILL, and then its orphans: they would end soon, but not before the next driver could look at them."""
    os.killpg(process.pid, signal.SIGKILL)
    for orphan in [pid for log in out.glob("trials/*/log.txt") for pid in holders(log)]:
        os.kill(orphan, signal.SIGKILL)
