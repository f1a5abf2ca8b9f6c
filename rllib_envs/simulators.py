"""One face over every simulator: a task in; step, state, set_state and render out.

A simulator knows nothing of time limits and learned rewards; those are the environment's business (reward_env.py).
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from datamodules.tasks import Task
from rllib_envs.gl import prepare_gl


@dataclass(frozen=True)
class Outcome:
    """What one agent decision led to."""

    observation: NDArray[np.float32]
    """float32 (O,), after the last frame of the step"""
    true_reward: float
    """the simulator's own reward, summed over the step's frames (up to the frame that ended the simulator's episode)"""
    terminated: bool
    """whether the simulator ended its episode within this step; it can be stepped on"""
    broken: bool = False
    """whether its physics diverged: then it was started again, and `observation` is of that"""


class Simulator(Protocol):
    """A simulator with a task's camera and action repeat applied."""

    @property
    def task(self) -> Task:
        """What it simulates."""

    @property
    def observation_space(self) -> spaces.Box:
        """Flat float32 (O,)."""

    @property
    def action_space(self) -> spaces.Box | spaces.Discrete[Any]:
        """Box of -1 to 1, float32 (A,), or Discrete."""

    def reset(self, seed: int | None = None) -> NDArray[np.float32]:
        """Start an episode; the same seed starts the same one. Returns the observation, float32 (O,)."""

    def step(self, action: Any) -> Outcome:
        """Apply one action for `task.frames_per_step` simulator frames.

        Box actions lie in -1 to 1 whatever the simulator's own range is.
        """

    def state(self) -> NDArray[np.float64]:
        """All that physics and render need, float64 (S,), with the model's values that resets draw anew."""

    def set_state(self, state: NDArray[np.float64]) -> None:
        """Go to a state of `state()`; a render gives the same pixels again. DataError for another simulator's state."""

    def random_state(self, generator: np.random.Generator) -> None:
        """Go to a state drawn widely from what the simulator's model allows, not only from where episodes start."""

    def render(self, pixels: int, out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        """Draw the present state as uint8 RGB (pixels, pixels, 3), into `out` where it is given."""

    def close(self) -> None:
        """Give back what the simulator holds."""


def make_simulator(task: Task) -> Simulator:
    """The simulator of a task.

    Raises UnknownNameError for a simulator or camera that does not exist, SettingsError for one that does not fit.
    """
    prepare_gl()
    # Imported here because dm_control opens a display when it is imported, and Gymnasium users need not wait for it.
    if task.family == "dm_control":
        from rllib_envs.dm_control_simulator import DmControlSimulator

        return DmControlSimulator(task)
    from rllib_envs.gymnasium_simulators import make_gymnasium_simulator

    return make_gymnasium_simulator(task)


class ActionScale:
    """Maps Box actions of -1 to 1 on a simulator's own range; unlimited ranges are passed on as they are."""

    UNLIMITED = 1e9  # dm_control states 1e10 for actuators without a control range

    def __init__(self, low: NDArray[Any], high: NDArray[Any]) -> None:
        limited = (
            np.isfinite(low) & np.isfinite(high) & (np.abs(low) < self.UNLIMITED) & (np.abs(high) < self.UNLIMITED)
        )
        self._centre = np.where(limited, low / 2 + high / 2, 0.0)
        self._half_width = np.where(limited, high / 2 - low / 2, 1.0)
        self.space = spaces.Box(-1.0, 1.0, shape=low.shape, dtype=np.float32)

    def __call__(self, action: NDArray[Any]) -> NDArray[np.float64]:
        """Clip to -1 to 1 and map, float64 in the simulator's units."""
        unit = np.clip(np.asarray(action, dtype=np.float64), -1.0, 1.0)
        return self._centre + unit * self._half_width


def unbounded_box(size: int) -> spaces.Box:
    """The space of a flat observation, float32 (size,)."""
    return spaces.Box(-np.inf, np.inf, shape=(size,), dtype=np.float32)


def draw_strength(generator: np.random.Generator) -> float:
    """How far `random_state` moves from where it starts: often all the way (1), else mostly a little (towards 0)."""
    return 1.0 if generator.random() < 0.3 else float(generator.random() ** 2)
