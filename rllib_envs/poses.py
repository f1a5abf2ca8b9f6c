"""States sampled widely for the bundled teacher: goal states, their opposites and everything between, and what a random
policy makes of them. Bodies lie or stand on the floor as they would in an episode.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.random import Generator
from numpy.typing import NDArray

from rllib_envs.captions import family_of, physics_of
from rllib_envs.simulators import Simulator

RESET_SHARE = 0.25  # of the states follow from an episode's own start instead of from a sampled pose
LONGEST_ROLL = 30  # random actions after a reset
LONGEST_NUDGE = 6  # random actions after a sampled pose


def sample_state(simulator: Simulator, generator: Generator) -> None:
    """Go to a widely sampled state of a captioned simulator. Raises UnknownNameError for other simulators."""
    family_of(simulator.task)
    if generator.random() < RESET_SHARE:
        simulator.reset(seed=int(generator.integers(2**31)))
        act_randomly(simulator, int(generator.integers(LONGEST_ROLL)), generator)
        return
    key = simulator.task.simulator.split("-")[0] if simulator.task.family == "dm_control" else simulator.task.simulator
    simulator.reset(seed=int(generator.integers(2**31)))
    POSES[key](simulator, generator)
    if generator.random() < 0.5:
        act_randomly(simulator, int(generator.integers(LONGEST_NUDGE)), generator)


def act_randomly(simulator: Simulator, steps: int, generator: Generator) -> None:
    """Take uniformly random actions."""
    space = simulator.action_space
    for _ in range(steps):
        if isinstance(space, spaces.Discrete):
            simulator.step(int(generator.integers(int(space.n))))
        else:
            simulator.step(generator.uniform(-1.0, 1.0, space.shape))


def _angle(generator: Generator) -> float:
    """A tilt in radians: uniform over the circle, more often near 0 and near pi."""
    centre, width = [(0.0, np.pi), (0.0, 0.3), (np.pi, 0.3)][generator.choice(3, p=(0.65, 0.25, 0.1))]
    return float(centre + generator.uniform(-width, width))


def _cartpole(simulator: Simulator, generator: Generator) -> None:
    physics = physics_of(simulator)
    with physics.reset_context():
        physics.data.qpos[:] = generator.uniform(-1.8, 1.8), _angle(generator)


def _gym_cartpole(simulator: Simulator, generator: Generator) -> None:
    simulator.set_state(np.array([generator.uniform(-2.4, 2.4), 0.0, _angle(generator), 0.0]))


def _mountain_car(simulator: Simulator, generator: Generator) -> None:
    simulator.set_state(np.array([generator.uniform(-1.2, 0.6), 0.0]))


def _reacher(simulator: Simulator, generator: Generator) -> None:
    physics = physics_of(simulator)
    with physics.reset_context():
        physics.data.qpos[:] = generator.uniform(-np.pi, np.pi), np.deg2rad(generator.uniform(-160, 160))
    if generator.random() < 0.5:  # by chance the finger is seldom near the target
        direction = generator.uniform(-np.pi, np.pi)
        offset = generator.uniform(0.0, 0.15) * np.array([np.cos(direction), np.sin(direction)])
        place = physics.named.data.geom_xpos["finger", :2] + offset
        place *= min(1.0, 0.2 / float(np.linalg.norm(place)))  # the task's targets lie within .2 m
        physics.named.model.geom_pos["target", :2] = place
        physics.forward()


def _walker(simulator: Simulator, generator: Generator) -> None:
    _planar_pose(simulator, generator, pitch_joint="rooty", height_joint="rootz")


def _cheetah(simulator: Simulator, generator: Generator) -> None:
    _planar_pose(simulator, generator, pitch_joint="rooty", height_joint="rootz")


def _planar_pose(simulator: Simulator, generator: Generator, pitch_joint: str, height_joint: str) -> None:
    physics = physics_of(simulator)
    _random_joints(physics, generator)
    qpos = physics.named.data.qpos
    qpos[pitch_joint] = _angle(generator) * generator.choice((0.3, 1.0))
    qpos[height_joint] += _floor_gap(physics)
    physics.forward()


def _humanoid(simulator: Simulator, generator: Generator) -> None:
    physics = physics_of(simulator)
    _random_joints(physics, generator)
    tilt = abs(_angle(generator)) * generator.choice((0.3, 1.0))
    axis = generator.normal(size=3) * (1.0, 1.0, 0.0)
    heading = generator.uniform(-np.pi, np.pi)
    physics.data.qpos[3:7] = _turned(tilt, axis / np.linalg.norm(axis), heading)
    physics.data.qpos[2] += _floor_gap(physics)
    physics.forward()


def _turned(tilt: float, axis: NDArray[np.float64], heading: float) -> NDArray[np.float64]:
    """Quaternion (w, x, y, z) of a turn about the vertical by `heading`, then about a level `axis` by `tilt`."""
    (x, y, _), lean, upright = axis, np.sin(tilt / 2), np.cos(tilt / 2)
    c, s = np.cos(heading / 2), np.sin(heading / 2)
    return np.array([upright * c, lean * (x * c + y * s), lean * (y * c - x * s), upright * s])


def _random_joints(physics: Any, generator: Generator) -> None:
    """Move the limited joints part of the way from the model's own pose to a random one within their ranges."""
    model = physics.model
    physics.data.qpos[:] = model.qpos0
    share = generator.random() ** 2 if generator.random() < 0.7 else 1.0
    for joint in np.flatnonzero(model.jnt_limited):
        low, high = model.jnt_range[joint]
        physics.data.qpos[model.jnt_qposadr[joint]] *= 1.0 - share
        physics.data.qpos[model.jnt_qposadr[joint]] += share * generator.uniform(low, high)


def _floor_gap(physics: Any) -> float:
    """How far the body must be moved up for its lowest point to touch the floor, in metres."""
    import mujoco  # here, because GL must be settled before it is loaded (rendering.py)

    physics.data.qvel[:] = 0.0
    physics.forward()
    model, data = physics.model, physics.data
    half_length = np.where(model.geom_type == mujoco.mjtGeom.mjGEOM_CAPSULE, model.geom_size[:, 1], 0.0)
    lowest = data.geom_xpos[:, 2] - np.abs(data.geom_xmat[:, 8]) * half_length - model.geom_size[:, 0]
    return -float(lowest[model.geom_bodyid > 0].min())


POSES: Mapping[str, Callable[[Simulator, Generator], None]] = {
    "cartpole": _cartpole,
    "CartPole-v1": _gym_cartpole,
    "reacher": _reacher,
    "walker": _walker,
    "cheetah": _cheetah,
    "humanoid": _humanoid,
    "MountainCarContinuous-v0": _mountain_car,
}
