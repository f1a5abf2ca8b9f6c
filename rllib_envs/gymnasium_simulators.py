"""Gymnasium's MuJoCo and classic control environments, and others built like them, behind the Simulator face."""

import importlib
import os
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from datamodules.errors import DataError, SettingsError, UnknownNameError
from datamodules.tasks import Camera, Task
from rllib_envs.mujoco_scene import MujocoScene, MujocoSimulator
from rllib_envs.rendering import check_frame_buffer
from rllib_envs.simulators import ActionScale, Outcome, Simulator, draw_strength, unbounded_box
from rllib_envs.square_frame import square_frame

KINDS = ("gymnasium.envs.mujoco", "gymnasium.envs.classic_control")
CANVAS_PIXELS = 336
"""Side of the square canvas that classic control draws on; frames of every size are averaged down from it."""


def make_gymnasium_simulator(task: Task) -> Simulator:
    """The simulator of a Gymnasium task, without Gymnasium's wrappers; see simulators.make_simulator."""
    module, _, name = task.simulator.rpartition(":")
    if module:  # as in gymnasium.make: the module registers the environment
        try:
            importlib.import_module(module)
        except ImportError as failure:
            raise SettingsError(
                f"simulator {task.simulator!r} names the module {module!r}, which cannot be imported ({failure}): "
                "install it, or put its folder into PYTHONPATH"
            ) from failure
    try:
        spec = gymnasium.spec(name)
    except gymnasium.error.Error as failure:
        known = [name for name, spec in gymnasium.registry.items() if str(spec.entry_point).startswith(KINDS)]
        raise UnknownNameError("Gymnasium environment", task.simulator, known) from failure
    # Drawing is asked for only where it goes through Gymnasium's own code; no pygame window may open.
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    os.environ.setdefault("SDL_AUDIODRIVER", "dummy")
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    try:
        environment = gymnasium.make(spec, render_mode="rgb_array").unwrapped
    except (gymnasium.error.Error, ImportError, TypeError) as failure:
        raise SettingsError(f"simulator {task.simulator!r} cannot be made: {failure}") from failure
    if hasattr(environment, "mujoco_renderer"):
        return GymnasiumMujocoSimulator(task, environment)
    environment.reset(seed=0)  # some have no state before
    if isinstance(getattr(environment, "state", None), np.ndarray):
        return ClassicControlSimulator(task, environment)
    raise SettingsError(
        f"simulator {task.simulator!r} is neither a MuJoCo nor a classic control environment: only those can be "
        "put into a state and drawn again"
    )


class _GymnasiumSimulator:
    """Reset and step, the same for both kinds."""

    def __init__(self, task: Task, environment: Any) -> None:
        self.task = task
        self._environment = environment
        self._scale: ActionScale | None = None
        self.action_space: spaces.Box | spaces.Discrete[Any]
        if isinstance(environment.action_space, spaces.Discrete):
            self.action_space = environment.action_space
        else:
            self._scale = ActionScale(environment.action_space.low, environment.action_space.high)
            self.action_space = self._scale.space
        self.observation_space = unbounded_box(self.reset(0).size)

    def reset(self, seed: int | None = None) -> NDArray[np.float32]:
        """Start an episode; see Simulator."""
        observation, _ = self._environment.reset(seed=seed)
        return np.asarray(observation, dtype=np.float32).ravel()

    def step(self, action: Any) -> Outcome:
        """Apply one action for the task's frames; see Simulator."""
        signal = int(action) if self._scale is None else self._scale(action)
        reward, terminated, observation = 0.0, False, np.empty(0)
        for _ in range(self.task.frames_per_step):
            observation, frame_reward, frame_terminated = self._frame(signal)
            if not terminated:
                reward += frame_reward
                terminated = frame_terminated
        return Outcome(np.asarray(observation, dtype=np.float32).ravel(), reward, terminated)

    def _frame(self, signal: Any) -> tuple[NDArray[Any], float, bool]:
        observation, reward, terminated, _, _ = self._environment.step(signal)
        return observation, float(reward), bool(terminated)


class GymnasiumMujocoSimulator(MujocoSimulator, _GymnasiumSimulator):
    """A MuJoCo environment of Gymnasium; a simulator frame is one of its steps (several physics steps)."""

    def __init__(self, task: Task, environment: Any) -> None:
        super().__init__(task, environment)
        camera = task.camera
        if camera == Camera() and environment.mujoco_renderer.camera_id >= 0:
            camera = Camera(name=environment.mujoco_renderer.camera_id)  # most of these models have one that follows
        self._scene = MujocoScene(task, camera, environment.model, environment.data, self.reset)


class ClassicControlSimulator(_GymnasiumSimulator):
    """A classic control environment: its state is one small vector, its picture is drawn by pygame in memory."""

    def __init__(self, task: Task, environment: Any) -> None:
        if task.camera != Camera():
            raise SettingsError(f"task {task.name!r} sets a camera, but {task.simulator} has none: take the camera out")
        # A square canvas keeps the proportions; drawn at its own 3:2 the picture would have to be squashed or padded.
        for side in ("screen_width", "screen_height"):
            if hasattr(environment, side):
                setattr(environment, side, CANVAS_PIXELS)
        super().__init__(task, environment)

    def reset(self, seed: int | None = None) -> NDArray[np.float32]:
        """Start an episode; see Simulator."""
        observation = super().reset(seed)
        self._settle()
        return observation

    def state(self) -> NDArray[np.float64]:
        """See Simulator."""
        return np.array(self._environment.state, dtype=np.float64)

    def set_state(self, state: NDArray[np.float64]) -> None:
        """See Simulator."""
        if state.shape != (expected := np.shape(self._environment.state)):
            raise DataError(
                f"a state of shape {state.shape} does not belong to task {self.task.name!r}: "
                f"its states have shape {expected}"
            )
        self._environment.state = state
        self._settle()

    def random_state(self, generator: np.random.Generator) -> None:
        """Part of the way from a reset to a random state.

        That is uniform within the bounds of the observation where those bound the state, else within -pi to pi;
        unbounded entries (velocities) are normal.
        """
        self.reset(int(generator.integers(2**31)))
        start = self._environment.state
        size = start.size
        space = self._environment.observation_space
        low, high = (space.low, space.high) if space.shape == (size,) else (np.full(size, -np.pi), np.full(size, np.pi))
        bounded = np.isfinite(low) & np.isfinite(high)
        inside = generator.uniform(np.where(bounded, low, 0), np.where(bounded, high, 1))
        target = np.where(bounded, inside, generator.normal(size=size))
        self.set_state(start + draw_strength(generator) * (target - start))

    def render(self, pixels: int, out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        """See Simulator."""
        if out is None:
            out = np.empty((pixels, pixels, 3), dtype=np.uint8)
        check_frame_buffer(out, pixels)
        out[:] = square_frame(self._environment.render(), pixels)
        return out

    def close(self) -> None:
        """Nothing to give back: the surfaces are plain memory, and pygame.quit would end those of others too."""

    def _frame(self, signal: Any) -> tuple[NDArray[Any], float, bool]:
        frame = super()._frame(signal)
        self._settle()
        return frame

    def _settle(self) -> None:
        """Make `state` all there is: one dtype, so that set_state continues bit for bit, and no memory but of it."""
        environment = self._environment
        environment.state = np.array(environment.state, dtype=np.float64)
        if hasattr(environment, "last_u"):
            environment.last_u = None  # pendulum draws its last torque
        if hasattr(environment, "steps_beyond_terminated"):  # cartpole pays nothing once the pole has fallen
            position, _, angle, _ = environment.state
            fallen = abs(position) > environment.x_threshold or abs(angle) > environment.theta_threshold_radians
            environment.steps_beyond_terminated = 1 if fallen else None  # 0 would be warned of
