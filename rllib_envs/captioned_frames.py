"""Frames of simulator states with their grades, kept on disk: what the bundled teacher learns from and is tested on."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.random import Generator

from datamodules.progress import Report
from datamodules.tasks import Task
from lightning_modules.caption_batches import CaptionedFrames
from rllib_envs.captions import family_of, goal_measure, grade, measures
from rllib_envs.poses import act_randomly, sample_state
from rllib_envs.simulators import Simulator, make_simulator

Source = Callable[[Simulator, Generator], Iterator[None]]

FRAMES_PER_EPISODE = 20
STEPS_BETWEEN_FRAMES = 4


def wide(simulator: Simulator, generator: Generator) -> Iterator[None]:
    """States sampled widely, one at each turn."""
    while True:
        sample_state(simulator, generator)
        yield


def random_policy(simulator: Simulator, generator: Generator) -> Iterator[None]:
    """States that a random policy passes through, several of each episode."""
    while True:
        simulator.reset(seed=int(generator.integers(2**31)))
        for _ in range(FRAMES_PER_EPISODE):
            act_randomly(simulator, STEPS_BETWEEN_FRAMES, generator)
            yield


def draw_frames(
    task: Task, count: int, seed: int, cache: Path, report: Report, *, source: Source = wide
) -> CaptionedFrames:
    """Render `count` states at the teacher's size and measure them; what is in the cache is not drawn again.

    Raises UnknownNameError for a simulator without captions.
    """
    family = family_of(task).name
    path = cache / f"{task.simulator}-{source.__name__}-{count}-{seed}.npz"
    if path.is_file():
        with np.load(path, allow_pickle=False) as kept:
            return CaptionedFrames(task.name, family, **kept)
    simulator = make_simulator(task)
    pixels = task.render.teacher_pixels
    frames = np.empty((count, pixels, pixels, 3), np.uint8)
    rows = []
    states = source(simulator, np.random.default_rng(seed))
    for place, _ in zip(range(count), states, strict=False):
        simulator.render(pixels, frames[place])
        rows.append([grade(simulator), goal_measure(simulator), *measures(simulator).values()])
        report(place + 1, count, task.name)
    simulator.close()
    numbers = np.array(rows, np.float32)
    found = CaptionedFrames(task.name, family, frames, numbers[:, 0], numbers[:, 1], numbers[:, 2:])
    cache.mkdir(parents=True, exist_ok=True)
    np.savez(path, frames=frames, grades=found.grades, goal_measures=found.goal_measures, measures=found.measures)
    return found
