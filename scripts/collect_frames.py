"""Collect frames of a task for the teacher to label."""

from pathlib import Path

from datamodules.tasks import Task
from rllib_envs.settings import CollectSettings
from scripts.command import run

DEFAULTS = CollectSettings()


def collect_frames(task: Task, out: Path, collect: CollectSettings = DEFAULTS, seed: int = 0) -> Path:
    """Roll random and noisy policies, many of them from states drawn widely, and keep every frame with its state.

    python -m scripts.collect_frames --task conf/tasks/cartpole_swingup.yaml --out runs/x/frames

    6000 frames take about half a minute for a cart-pole on one core. A finished folder is left as it is,
    a stopped one is gone on with. `scripts.label_frames --follow` labels shards while this command runs.

    Args:
        task: a file of conf/tasks, or single settings
        out: folder for the shards
        collect: how many frames, from which policies
        seed: the same seed gives the same frames (0 or above)
    """
    from rllib_envs.collect import collect_folder  # simulators load only after the arguments proved right

    return collect_folder(task, collect, out, seed)


if __name__ == "__main__":
    run(collect_frames)
