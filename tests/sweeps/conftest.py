"""A small real trial folder: cartpole frames from the simulator, a real video, figures that are known beforehand."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import numpy as np
import pytest

from datamodules.results import versions, write_json
from datamodules.tasks import Prompts, Task
from lightning_modules.held_out import HeldOut
from rllib_envs.simulators import make_simulator
from tests.lightning_modules.students import write_labels
from tests.sweeps.fits import OTHER_TASK, fit

TASK = Task(
    name="cartpole_swingup",
    family="dm_control",
    simulator="cartpole-swingup",
    prompts=Prompts(("pole vertically upright on top of the cart",), ("pole and cart",), 0.5),
    frames_per_step=8,
    success_reward=0.8,
)
AGENT_RETURNS = [512.25, 480.5, 530.0, 445.0, 498.0, 505.0, 471.0, 520.0, 515.0, 490.0]
RANDOM_RETURNS = [31.0, 12.5, 44.0, 8.0, 60.0, 27.0, 22.0, 35.0, 18.0, 41.0]

LATENCY: dict[str, Any] = {"calls": 1_500, "p50": 0.0021, "p95": 0.0048, "p99": 0.0152}
LATENCY |= {"histogram": [[0.00158, 0.002, 700], [0.002, 0.00251, 700], [0.01, 0.0126, 100]]}


@pytest.fixture(scope="session")
def built_trial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished trial of a student's reward; tests take `trial` and change that copy."""
    return build_trial(tmp_path_factory.mktemp("built") / "trial", episodes=6, steps=50)


@pytest.fixture
def trial(built_trial: Path, tmp_path: Path) -> Path:
    """A trial folder of one's own."""
    return Path(shutil.copytree(built_trial, tmp_path / "trial"))


@pytest.fixture(scope="session")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labels of squares, the task cartpole_swingup by name."""
    return write_labels(tmp_path_factory.mktemp("squares") / "squares")


@pytest.fixture(scope="session")
def walkers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fewer squares under the name of another task."""
    return write_labels(tmp_path_factory.mktemp("walkers") / "walkers", episodes=10, task=OTHER_TASK)


@pytest.fixture(scope="session")
def pair(squares: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student of two members with embedding heads, fitted to the squares."""
    return fit(tmp_path_factory.mktemp("fits") / "pair", squares, head="embedding", members=2)


@pytest.fixture(scope="session")
def single(squares: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student with a reward head, fitted to the squares for one epoch."""
    return fit(tmp_path_factory.mktemp("fits") / "single", squares, epochs=1)


@pytest.fixture(scope="session")
def both(squares: Path, walkers: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student with a reward head, fitted to both tasks."""
    return fit(tmp_path_factory.mktemp("fits") / "both", squares, walkers)


def build_trial(folder: Path, episodes: int, steps: int) -> Path:
    """Write every file of a trial that its page reads."""
    generator = np.random.default_rng(0)
    frames, cosines, episode, step = _roll(episodes, steps, generator)
    teacher = 0.82 + 0.05 * cosines + 0.004 * generator.normal(size=cosines.size)
    student = teacher.mean() + 0.9 * (teacher - teacher.mean()) + 0.008 * generator.normal(size=cosines.size)
    order = np.argsort(teacher)
    top, bottom, worst = order[::-1][:8], order[:8], np.argsort(-np.abs(student - teacher))[:8]
    (folder / "student").mkdir(parents=True)
    HeldOut(
        **{"student": student, "spread": np.zeros_like(student), "teacher": teacher, "true_reward": (1 + cosines) / 2},
        **{"target": np.zeros_like(episode), "episode": episode, "step": step},
        **{f"{name}_frames": frames[chosen] for name, chosen in (("top", top), ("bottom", bottom), ("worst", worst))},
        **{"top": top, "bottom": bottom, "worst": worst},
    ).write(folder / "student")
    prompts = asdict(TASK.prompts)
    fidelity = {
        "pearson": 0.961,
        "spearman_pooled": 0.948,
        "spearman_within_episode": 0.913,
        "pairwise_order_accuracy": 0.887,
        "epic": 0.14,
        "mse": 0.077,
        "samples": int(teacher.size),
    }
    write_json(
        folder / "student" / "student.json",
        {"backbone": "mobilenetv4_conv_small_035", "pixels": 84, "fidelity": fidelity},
    )
    costs = {"simulate": 31.5, "render": 42.0, "reward": 18.25, "update": 120.0, "other": 6.5}
    training = {"steps": 12_000, "updates": 6_000, "seconds": 218.25, "costs": costs, "steps_per_second": 55.0}
    training |= {"cost_shares": {phase: seconds / 218.25 for phase, seconds in costs.items()}}
    training |= {"reward_latency": LATENCY, "peak_memory_gib": 1.234, "peak_gpu_memory_gib": None}
    agent = {"task": asdict(TASK), "reward": "student", "seed": 0, "sac": {"num_envs": 8}}
    write_json(folder / "agent" / "agent.json", agent)
    write_json(folder / "agent" / "result.json", {**training, "teacher_queries": 0})
    (folder / "agent" / "evaluations.jsonl").write_text("".join(_evaluation_lines(generator)))
    (folder / "evaluation").mkdir()
    imageio.mimwrite(folder / "evaluation" / "agent.mp4", list(frames[:steps].repeat(2, 1).repeat(2, 2)), fps=25)
    write_json(folder / "result.json", _result(prompts, fidelity, training))
    return folder


def _roll(episodes: int, steps: int, generator: np.random.Generator) -> tuple[np.ndarray, ...]:
    simulator = make_simulator(TASK)
    frames, cosines = [], []
    for number in range(episodes):
        simulator.reset(number)
        simulator.random_state(generator)
        action = generator.uniform(-1, 1, size=1)
        for _ in range(steps):
            action = np.clip(0.9 * action + 0.4 * generator.normal(size=1), -1, 1)
            cosines.append(simulator.step(action).observation[1])
            frames.append(simulator.render(TASK.render.frame_pixels).copy())
    simulator.close()
    episode = np.repeat(np.arange(episodes) * 7 + 3, steps)
    return np.stack(frames), np.array(cosines), episode, np.tile(np.arange(steps), episodes)


def _evaluation_lines(generator: np.random.Generator) -> list[str]:
    lines = []
    for index, steps in enumerate(range(0, 12_001, 1_500)):
        middle = 30 + 470 / (1 + np.exp(-1.4 * (index - 4)))
        returns = np.clip(middle + (0.12 * middle + 8) * generator.normal(size=5), 0, None)
        line: dict[str, Any] = {"steps": steps, "updates": steps // 2, "seconds": steps / 55}
        line |= {"true_returns": returns.tolist(), "learned_returns": (returns / 4 - 60).tolist()}
        lines.append(json.dumps(line) + "\n")
    return lines


def _result(prompts: dict[str, Any], fidelity: dict[str, Any], training: dict[str, Any]) -> dict[str, Any]:
    seconds = {"collect": 24.0, "label": 61.5, "fit": 96.0, "train": 218.25, "evaluate": 19.0, "report": 2.5}
    return {
        "task": TASK.name,
        "seed": 0,
        "prompts": prompts,
        "teacher": {"name": "bundled", "digest": "3f5a" * 16},
        "true_return": {"mean": 496.675, "low": 481.5, "high": 510.9, "episodes": AGENT_RETURNS},
        "random_return": {"mean": 29.85, "low": 21.1, "high": 39.4, "episodes": RANDOM_RETURNS},
        "learned_return": {
            "mean": 64.5,
            "low": 60.25,
            "high": 68.0,
            "episodes": [value / 4 - 60 for value in AGENT_RETURNS],
        },
        "score": {"mean": 0.4967, "low": 0.4815, "high": 0.5109, "episodes": [value / 1000 for value in AGENT_RETURNS]},
        "successes": [True] * 7 + [False] * 3,
        "overoptimisation": {"true": None},
        "area_under_curve": 262.5,
        "teacher_queries": 8_000,
        "seconds": {**seconds, "total": 421.25},
        "student": {**fidelity, "backbone": "mobilenetv4_conv_small_035", "parameters": 1_210_000},
        "agent": training,
        "command": "python -m scripts.run_trial --config conf/trials/demo.yaml --seed 0",
        "mlflow": {"tracking_uri": "sqlite:///runs/mlflow.db", "run_id": "0123456789abcdef"},
        "settings": {"seed": 0, "task": asdict(TASK), "sac": {"batch_size": 256, "gamma": 0.99}},
        "versions": versions(),
    }
