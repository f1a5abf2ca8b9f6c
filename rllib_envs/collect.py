"""Roll policies that know nothing, keep frames.

The student must know the states that a trained agent will visit later, and random actions from a task's own starts
never show them. So most episodes start anywhere (poses of all kinds, those near the goal included), and most are driven
by smooth noise, whose strength and duration differ from one to the next: still, trembling, swinging, thrown about.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces

from datamodules.manifest import finished_collection, read_manifest
from datamodules.progress import Report, progress_bar, silent
from datamodules.records import Sample
from datamodules.results import write_result
from datamodules.shards import ShardWriter
from datamodules.tasks import Task
from rllib_envs.gl import require_gl
from rllib_envs.settings import CollectSettings
from rllib_envs.simulators import Simulator, make_simulator

Policy = Callable[[], Any]
"""Gives the next action; collection policies see nothing."""

MEAN_SCENE_STEPS = 8  # agent decisions between two jumps
LONGEST_MEMORY = 0.98  # of smooth noise: the share of the last decision's value that stays
STRONGEST_NOISE = 1.5  # beyond 1 the action is pressed against its limits for much of the time


@dataclass(frozen=True)
class CollectResult:
    """What one call of `collect_frames` did."""

    samples: int
    """frames in the folder"""
    episodes: int
    """episodes in the folder"""
    collected_before: bool
    """the folder was finished before, by the same task, settings and seed; nothing was done"""
    digest: str
    """digest of the manifest"""
    seconds: float
    """duration of this call"""


def collect_frames(
    task: Task, settings: CollectSettings, out: Path, seed: int, report: Report = silent
) -> CollectResult:
    """Write unlabelled shards: the frame at student size, at teacher size, and the state, after each agent decision.

    Args:
        task: what to simulate and how to draw it.
        settings: how many frames, from which policies.
        out: folder for the shards. One that was finished with the same settings is left as it is; an unfinished one is
            gone on with after its last shard, and ends as if it had never been stopped.
        seed: the same seed gives the same frames.
        report: called with the frames done and to do.

    Raises:
        DataError: `out` belongs to another task, other settings or another seed, or another process collects into it.
        NoRoomError: the disk is full.
        UnknownNameError, SettingsError, MissingDependencyError: as `make_simulator` and `require_gl`.
    """
    start = time.monotonic()
    collection = {**asdict(settings), "seed": seed}
    before = finished_collection(out, task, collection)
    if before is None:
        require_gl()
        simulator = make_simulator(task)
        with ShardWriter(out, task, collection) as writer:
            for number, sample in _samples(simulator, settings, seed, start=writer.kept):
                writer.add(sample)
                report(number + 1, settings.frames, sample.policy)
        simulator.close()
    manifest = read_manifest(out)
    return CollectResult(
        samples=manifest.samples,
        episodes=-(-manifest.samples // settings.episode_steps),
        collected_before=before is not None,
        digest=manifest.digest,
        seconds=time.monotonic() - start,
    )


def collect_folder(task: Task, settings: CollectSettings, out: Path, seed: int) -> Path:
    """What scripts.collect_frames does: collect with a progress bar, write `result.json`. Returns its path."""
    with progress_bar("collect", "frames") as report:
        result = collect_frames(task, settings, out, seed, report)
    return write_result(out, asdict(result), {"task": task, "collect": settings, "seed": seed})


def _samples(simulator: Simulator, settings: CollectSettings, seed: int, start: int) -> Iterator[tuple[int, Sample]]:
    """The samples from number `start` on, with their numbers.

    Episodes have their own generators, so those before are not even begun. The one that `start` lies in is drawn from
    its first frame: some of Gymnasium's true rewards depend on whether the frame before was drawn.
    """
    task, steps = simulator.task, settings.episode_steps
    for first in range(start // steps * steps, settings.frames, steps):
        generator = np.random.default_rng([seed, first // steps])
        roll = roll_episode(simulator, settings, generator)
        for step, (policy, true_reward) in zip(range(min(steps, settings.frames - first)), roll, strict=False):
            sample = Sample(
                episode=first // steps,
                step=step,
                state=simulator.state(),
                true_reward=true_reward,
                policy=policy,
                seed=seed,
                task=task.name,
                frame=simulator.render(task.render.frame_pixels),
                teacher_frame=simulator.render(task.render.teacher_pixels),
            )
            if first + step >= start:
                yield first + step, sample


def roll_episode(
    simulator: Simulator, settings: CollectSettings, generator: np.random.Generator
) -> Iterator[tuple[str, float]]:
    """Step the simulator without end; yields the policy's name and the true reward after each agent decision.

    An episode that starts anywhere jumps on every now and then: goals are often unstable (a pole falls within a
    second), and without jumps most of their frames would show the fall. One that starts from a reset is joined at a
    random moment, mostly an early one: where policies that know nothing end up is what an agent sees first.
    """
    anywhere = generator.random() < settings.anywhere_share
    jump_probability = 1 / MEAN_SCENE_STEPS if anywhere else 0.0
    while True:
        policy, act = draw_policy(simulator.action_space, settings, generator)
        if anywhere:
            policy += " from anywhere"
            simulator.random_state(generator)
        else:
            policy += " from reset"
            simulator.reset(int(generator.integers(2**31)))
            for _ in range(int(simulator.task.episode_steps * generator.random() ** 2)):
                simulator.step(act())
        over = False
        while not over:
            yield policy, simulator.step(act()).true_reward
            over = generator.random() < jump_probability


def draw_policy(
    space: spaces.Box | spaces.Discrete[Any], settings: CollectSettings, generator: np.random.Generator
) -> tuple[str, Policy]:
    """A policy, with its name."""
    if generator.random() < settings.noise_share:
        memory = generator.uniform(0.0, LONGEST_MEMORY)
        if isinstance(space, spaces.Discrete):
            return "noise", _sticky_choice(int(space.n), memory, generator)
        return "noise", _smooth_noise(space.shape, memory, generator)
    if isinstance(space, spaces.Discrete):
        count = int(space.n)
        return "random", lambda: int(generator.integers(count))
    return "random", lambda: generator.uniform(-1.0, 1.0, space.shape)


def _smooth_noise(shape: tuple[int, ...], memory: float, generator: np.random.Generator) -> Policy:
    """An autoregressive process of order 1 with its own strength and its own centre, clipped to -1 to 1."""
    strength = STRONGEST_NOISE * generator.random() ** 2
    centre = generator.normal(size=shape) * strength / 2
    value = generator.normal(size=shape)

    def act() -> Any:
        nonlocal value
        value = memory * value + np.sqrt(1 - memory**2) * generator.normal(size=shape)
        return np.clip(centre + strength * value, -1.0, 1.0)

    return act


def _sticky_choice(count: int, memory: float, generator: np.random.Generator) -> Policy:
    """Holds a discrete action for a while; each episode prefers some of the actions."""
    preferences = generator.dirichlet(np.ones(count))
    action = int(generator.choice(count, p=preferences))

    def act() -> Any:
        nonlocal action
        if generator.random() > memory:
            action = int(generator.choice(count, p=preferences))
        return action

    return act
