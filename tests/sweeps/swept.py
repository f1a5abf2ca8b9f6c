"""Folders of sweeps whose figures are known beforehand, made of copies of a trial's files."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from datamodules.results import read_json, write_json

STEPS = (0, 1000, 2000, 3000, 4000)
SECONDS = {
    "student": {"collect": 10.0, "label": 20.0, "fit": 30.0, "train": 40.0, "evaluate": 5.0},
    "teacher": {"train": 1200.0, "evaluate": 5.0},
}
QUERIES = {"student": 6000, "teacher": 9000}


def build_sweep(folder: Path, trial: Path, returns: Mapping[str, Mapping[str, Sequence[float]]]) -> Path:
    """A sweep over rewards: final true return of each seed, by reward and task, of at most 1,000.

    Learning curves rise on a straight line from 30, the random policy's return, to the final one. A negative return
    stands for a trial that failed.
    """
    entries, status = [], {}
    for reward, tasks in returns.items():
        for task, finals in tasks.items():
            for seed, final in enumerate(finals):
                name = f"task_{task}-reward_{reward}-seed_{seed}"
                values = {"task": task, "reward": reward, "seed": str(seed)}
                entries.append({"name": name, "values": values, "task": task, "seed": seed})
                if final < 0:
                    status[name] = {"status": "failed", "error": "RuntimeError: out of memory"}
                    continue
                write_trial(folder / "trials" / name, trial, task=task, reward=reward, seed=seed, final=final)
    content = {"name": "rewards", "question": "Which reward is best?", "varied": ["task", "reward", "seed"]}
    write_json(folder / "sweep.json", {**content, "trials": entries, "command": "python -m scripts.launch_sweep"})
    tracking = {"tracking_uri": "sqlite:///x.db", "experiment": "rewards", "experiment_id": "7", "run_id": "1"}
    write_json(folder / "result.json", {"status": status, "seconds": 100.0, "mlflow": tracking})
    return folder


def write_trial(folder: Path, trial: Path, *, task: str, reward: str, seed: int, final: float) -> None:
    """A copy of `trial` with another task's name, reward, seed and returns."""
    shutil.copytree(trial, folder)
    result = read_json(folder / "result.json")
    entry = {"mean": final, "low": final, "high": final, "episodes": [final, final]}
    result |= {"task": task, "seed": seed, "reward": reward, "true_return": entry, "shared": {}}
    result |= {"random_return": {**entry, "mean": 30.0}, "score": {**entry, "mean": final / 1000}}
    result |= {"area_under_curve": (30 + final) / 2, "seconds": {**SECONDS.get(reward, {"train": 50.0}), "total": 0.0}}
    result |= {"teacher_queries": QUERIES.get(reward, 0)}
    if reward == "student":
        result |= {"shared": {"label": f"labels-{task}"}, "labelling_queries": 6000}
    elif reward in ("true", "teacher", "random"):
        del result["student"]
    result["settings"] |= {"reward": reward, "seed": seed}
    write_json(folder / "result.json", result)
    heights = np.linspace(30.0, final, len(STEPS))
    lines = [
        json.dumps({"steps": steps, "true_returns": [height, height], "learned_returns": [0.0, 0.0]}) + "\n"
        for steps, height in zip(STEPS, heights, strict=True)
    ]
    (folder / "agent" / "evaluations.jsonl").write_text("".join(lines))
    training = read_json(folder / "agent" / "result.json")
    write_json(folder / "agent" / "result.json", {**training, "seconds": result["seconds"]["train"]})
    write_json(folder / "agent" / "agent.json", {**read_json(folder / "agent" / "agent.json"), "reward": reward})
