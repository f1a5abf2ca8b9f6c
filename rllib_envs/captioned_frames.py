"""Frames of widely sampled states with their grades, kept on disk: what the bundled teacher learns from."""

from pathlib import Path

import numpy as np

from datamodules.progress import Report
from datamodules.tasks import Task
from lightning_modules.captioned_clip import CaptionedFrames
from rllib_envs.captions import family_of, goal_measure, grade
from rllib_envs.poses import sample_state
from rllib_envs.simulators import make_simulator


def sample_frames(task: Task, count: int, seed: int, cache: Path, report: Report) -> CaptionedFrames:
    """Draw `count` states widely and render them at the teacher's size; what is in the cache is not drawn again."""
    path = cache / f"{task.simulator}-{count}-{seed}.npz"
    family = family_of(task).name
    if path.is_file():
        with np.load(path, allow_pickle=False) as kept:
            return CaptionedFrames(task.name, family, kept["frames"], kept["grades"], kept["goal_measures"])
    simulator = make_simulator(task)
    generator = np.random.default_rng(seed)
    pixels = task.render.teacher_pixels
    frames = np.empty((count, pixels, pixels, 3), np.uint8)
    grades, goal_measures = np.empty(count, np.float32), np.empty(count, np.float32)
    for n in range(count):
        sample_state(simulator, generator)
        simulator.render(pixels, frames[n])
        grades[n], goal_measures[n] = grade(simulator), goal_measure(simulator)
        report(n + 1, count, task.name)
    simulator.close()
    cache.mkdir(parents=True, exist_ok=True)
    np.savez(path, frames=frames, grades=grades, goal_measures=goal_measures)
    return CaptionedFrames(task.name, family, frames, grades, goal_measures)
