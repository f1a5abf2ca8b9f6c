"""dm_control's suite behind the Simulator face."""

from typing import Any

import numpy as np
from absl import logging
from dm_control import suite
from dm_control.rl import control
from numpy.typing import NDArray

from datamodules.errors import UnknownNameError
from datamodules.tasks import Task
from rllib_envs.mujoco_scene import MujocoScene, MujocoSimulator
from rllib_envs.simulators import ActionScale, Outcome, unbounded_box


class DmControlSimulator(MujocoSimulator):
    """One task of dm_control's suite; a simulator frame is one control step of the suite's own."""

    def __init__(self, task: Task) -> None:
        domain, level = task.simulator.split("-")
        if (domain, level) not in suite.ALL_TASKS:
            raise UnknownNameError(
                "dm_control task", task.simulator, (f"{known}-{its_level}" for known, its_level in suite.ALL_TASKS)
            )
        environment = _load(domain, level)
        self.task = task
        self._environment = environment
        self._rules = environment.task
        self._physics = environment.physics
        self._physics_steps = round(environment.control_timestep() / self._physics.timestep())
        self._scene = MujocoScene(task, task.camera, self._physics.model.ptr, self._physics.data.ptr, self.reset)
        actions = environment.action_spec()
        self._scale = ActionScale(actions.minimum, actions.maximum)
        self.action_space = self._scale.space
        self.observation_space = unbounded_box(self.reset(0).size)

    @property
    def physics(self) -> Any:
        """dm_control's own physics, which knows bodies and joints by name (captions.py asks it)."""
        return self._physics

    def reset(self, seed: int | None = None) -> NDArray[np.float32]:
        """Start an episode; see Simulator."""
        if seed is not None:
            self._rules.random.seed(seed)
        return _flat(self._environment.reset().observation)

    def step(self, action: Any) -> Outcome:
        """Apply one action for the task's frames; see Simulator.

        The suite's own step is taken apart here, because it would reset by itself in the step after a termination and
        computes an observation for frames that nobody looks at.
        """
        control_signal = self._scale(action)
        reward, terminated = 0.0, False
        for _ in range(self.task.frames_per_step):
            try:
                self._rules.before_step(control_signal, self._physics)
                self._physics.step(self._physics_steps)
            except control.PhysicsError:  # the physics diverged: an episode that goes on would be made of nonsense
                return Outcome(self.reset(), reward, terminated=True, broken=True)
            self._rules.after_step(self._physics)
            if not terminated:
                reward += float(self._rules.get_reward(self._physics))
                terminated = self._rules.get_termination(self._physics) is not None
        return Outcome(_flat(self._rules.get_observation(self._physics)), reward, terminated)


def _load(domain: str, level: str) -> Any:
    """The suite's environment, without its time limit: that is not the simulator's business."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)  # dm_control's own models use attributes that MuJoCo calls deprecated
    try:
        return suite.load(domain, level, task_kwargs={"random": 0, "time_limit": float("inf")})
    finally:
        logging.set_verbosity(verbosity)


def _flat(observation: dict[str, Any]) -> NDArray[np.float32]:
    return np.concatenate([np.ravel(part) for part in observation.values()]).astype(np.float32)
