"""What a simulator state is called, for the shipped families: physics -> measures -> grade -> sentences."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from datamodules.errors import UnknownNameError
from datamodules.tasks import Task
from lightning_modules.sentences import Sentences
from rllib_envs.simulators import Simulator

if TYPE_CHECKING:  # importing it loads dm_control, and with it GL
    from rllib_envs.dm_control_simulator import DmControlSimulator

Measures = dict[str, float]

STANDING_TORSO_METRES = 1.3  # walker's torso when it stands with straight legs
STANDING_HEAD_METRES = 1.6  # humanoid's head when it stands
REACH_METRES = 0.4  # beyond this distance of finger and target the sentences make no difference
GOAL_POSITION = 0.45  # mountain car's flag (MountainCarContinuous-v0)
LEFT_EDGE = -1.2


@dataclass(frozen=True)
class Family:
    """How the states of one kind of simulator are measured and which sentences describe them."""

    name: str
    """the family in the captions file; simulators that look different may share one (both cart-poles do)"""
    measures: Callable[[Simulator], Measures]
    """reads named quantities from the present state"""
    goal_measure: Callable[[Measures], float]
    """what the goal sentence asks for, higher is better, in the simulator's own units"""
    grade: Callable[[Measures], float]
    """0 (farthest from the goal) to 1 (the goal); rises with the goal measure, spaced evenly for the eye"""


def family_of(task: Task) -> Family:
    """The family of a task's simulator.

    Raises UnknownNameError for a simulator that the bundled teacher was not trained on.
    """
    key = task.simulator.split("-")[0] if task.family == "dm_control" else task.simulator
    if key not in FAMILIES:
        raise UnknownNameError("captioned simulator", key, FAMILIES, "(others need a general CLIP as teacher)")
    return FAMILIES[key]


def measures(simulator: Simulator) -> Measures:
    """Named quantities of the present state, in metres, radians and cosines."""
    return family_of(simulator.task).measures(simulator)


def goal_measure(simulator: Simulator) -> float:
    """How well the present state is what the family's goal sentence asks for; see `Family.goal_measure`."""
    family = family_of(simulator.task)
    return family.goal_measure(family.measures(simulator))


def grade(simulator: Simulator) -> float:
    """The present state on the scale of the captions, 0 to 1."""
    family = family_of(simulator.task)
    return float(np.clip(family.grade(family.measures(simulator)), 0.0, 1.0))


def captions_for(simulator: Simulator, sentences: Sentences) -> tuple[str, ...]:
    """The sentences that describe the present state best, then those that fit every state of its family."""
    name = family_of(simulator.task).name
    return sentences.describing(name, grade(simulator)) + sentences.of(name, None)


def physics_of(simulator: Simulator) -> Any:
    """dm_control's own physics of a simulator, with the names that its models give to bodies and joints."""
    return cast("DmControlSimulator", simulator).physics


def _cartpole(simulator: Simulator) -> Measures:
    qpos = physics_of(simulator).data.qpos
    return _pole_measures(float(qpos[0]), float(qpos[1]))


def _gym_cartpole(simulator: Simulator) -> Measures:
    state = simulator.state()
    return _pole_measures(float(state[0]), float(state[2]))


def _pole_measures(position: float, angle: float) -> Measures:
    return {"cart_position": position, "pole_upright": float(np.cos(angle)), "pole_sideways": float(np.sin(angle))}


def _reacher(simulator: Simulator) -> Measures:
    physics = physics_of(simulator)
    places = physics.named.data.geom_xpos
    return {
        "finger_target_distance": float(physics.finger_to_target_dist()),
        **{f"{part}_{axis}": float(places[part, axis]) for part in ("finger", "target", "hand") for axis in "xy"},
    }


def _walker(simulator: Simulator) -> Measures:
    physics = physics_of(simulator)
    return {
        "torso_height": float(physics.torso_height()),
        "torso_upright": float(physics.torso_upright()),
        "torso_sideways": float(physics.named.data.xmat["torso", "xz"]),
    }


def _humanoid(simulator: Simulator) -> Measures:
    physics = physics_of(simulator)
    return {"head_height": float(physics.head_height()), "torso_upright": float(physics.torso_upright())}


def _cheetah(simulator: Simulator) -> Measures:
    physics = physics_of(simulator)
    turned = physics.named.data.xmat
    return {"body_upright": float(turned["torso", "zz"]), "body_sideways": float(turned["torso", "xz"])}


def _mountain_car(simulator: Simulator) -> Measures:
    position = float(simulator.state()[0])
    return {"position": position, "height": float(np.sin(3 * position) * 0.45 + 0.55)}  # MountainCarContinuous-v0


def _uprightness(cosine: float) -> float:
    """Map the cosine of a tilt to 1 (upright) ... 0 (upside down), linear in the angle."""
    return 1.0 - float(np.arccos(np.clip(cosine, -1.0, 1.0))) / np.pi


def _standing(height: str) -> Callable[[Measures], float]:
    return lambda m: m[height] * (1.0 + m["torso_upright"]) / 2.0


def _pole(name: str, read: Callable[[Simulator], Measures]) -> Family:
    return Family(
        name,
        read,
        goal_measure=lambda m: m["pole_upright"],
        grade=lambda m: _uprightness(m["pole_upright"]),
    )


FAMILIES: Mapping[str, Family] = {
    "cartpole": _pole("cartpole", _cartpole),
    "CartPole-v1": _pole("cartpole", _gym_cartpole),
    "reacher": Family(
        "reacher",
        _reacher,
        goal_measure=lambda m: -m["finger_target_distance"],
        grade=lambda m: 1.0 - m["finger_target_distance"] / REACH_METRES,
    ),
    "walker": Family(
        "walker",
        _walker,
        goal_measure=_standing("torso_height"),
        grade=lambda m: _standing("torso_height")(m) / STANDING_TORSO_METRES,
    ),
    "humanoid": Family(
        "humanoid",
        _humanoid,
        goal_measure=_standing("head_height"),
        grade=lambda m: _standing("head_height")(m) / STANDING_HEAD_METRES,
    ),
    "cheetah": Family(
        "cheetah",  # one frame shows no speed: upright is all that a sentence about running can be held against
        _cheetah,
        goal_measure=lambda m: m["body_upright"],
        grade=lambda m: _uprightness(m["body_upright"]),
    ),
    "MountainCarContinuous-v0": Family(
        "mountain_car",
        _mountain_car,
        goal_measure=lambda m: m["position"],
        grade=lambda m: (m["position"] - LEFT_EDGE) / (GOAL_POSITION - LEFT_EDGE),
    ),
}
"""Keyed by dm_control domain or Gymnasium id."""
