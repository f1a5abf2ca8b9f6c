"""What all MuJoCo simulators share: state, set_state, wide random states and render of a model and its data."""

from collections.abc import Callable
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from datamodules.errors import DataError
from datamodules.tasks import Camera, Task
from rllib_envs.rendering import SceneRenderer, check_frame_buffer, model_digest, resolve_camera, shared_renderer
from rllib_envs.simulators import draw_strength

STATE_PARTS = (
    mujoco.mjtState.mjSTATE_FULLPHYSICS
    | mujoco.mjtState.mjSTATE_WARMSTART
    | mujoco.mjtState.mjSTATE_CTRL
    | mujoco.mjtState.mjSTATE_EQ_ACTIVE
    | mujoco.mjtState.mjSTATE_MOCAP_POS
    | mujoco.mjtState.mjSTATE_MOCAP_QUAT
    | mujoco.mjtState.mjSTATE_USERDATA
)
PROBE_SEEDS = (0, 1, 2)
DEEPEST_CONTACT = -0.01  # metres; a random pose that sinks deeper into the ground is drawn again
POSE_DRAWS = 20
FASTEST_SLIDE = 1.0  # metres a second, one standard deviation of the fastest random states
FASTEST_TURN = 5.0  # radians a second


class MujocoScene:
    """Reads, writes and draws one MuJoCo model with its data.

    Some tasks draw a part of the *model* anew at every reset (reacher's target is a geom of the model). Which arrays
    those are is found once, by comparing the model as it was compiled with the model after a few resets.
    """

    def __init__(
        self, task: Task, camera: Camera, model: Any, data: Any, reset: Callable[[int | None], object]
    ) -> None:
        self._task = task
        self._model = model
        self._data = data
        self._reset = reset
        self._camera = resolve_camera(model, camera)
        self._digest = model_digest(model)
        self._renderer: SceneRenderer | None = None
        self._physics_size = mujoco.mj_stateSize(model, STATE_PARTS)
        self._drawn_anew = self._find_arrays_drawn_anew()
        self._velocity_scale = _velocity_scale(model)

    def state(self) -> NDArray[np.float64]:
        """Physics state and the model arrays that resets draw anew, float64 (S,)."""
        physics = np.empty(self._physics_size)
        mujoco.mj_getState(self._model, self._data, physics, STATE_PARTS)
        return np.concatenate([physics, *(getattr(self._model, name).ravel() for name in self._drawn_anew)])

    def set_state(self, state: NDArray[np.float64]) -> None:
        """Go to a state of `state()`; DataError for a state of another size."""
        arrays = [getattr(self._model, name) for name in self._drawn_anew]
        size = self._physics_size + sum(array.size for array in arrays)
        if state.shape != (size,):
            raise DataError(
                f"a state of shape {state.shape} does not belong to task {self._task.name!r}: "
                f"its states have shape {(size,)}"
            )
        start = self._physics_size
        for array in arrays:
            array[...] = state[start : start + array.size].reshape(array.shape)
            start += array.size
        mujoco.mj_setState(self._model, self._data, np.ascontiguousarray(state[: self._physics_size]), STATE_PARTS)
        mujoco.mj_forward(self._model, self._data)

    def random_state(self, generator: np.random.Generator) -> None:
        """Reset, then move part of the way to a random pose within the joints' ranges, with random velocities.

        The way starts at the reset's own pose or at the model's reference pose, where most bodies stand upright: those
        are the goal states that a random policy never reaches. Poses that sink into the ground are drawn again.
        """
        model, data = self._model, self._data
        self._reset(int(generator.integers(2**31)))
        start = data.qpos.copy() if generator.random() < 0.5 else model.qpos0.copy()
        strength = draw_strength(generator)
        for _ in range(POSE_DRAWS):
            data.qpos[:] = start
            self._mix_in_random_pose(strength, generator)
            mujoco.mj_forward(model, data)
            if data.ncon == 0 or data.contact.dist[: data.ncon].min() > DEEPEST_CONTACT:
                break
        data.qvel[:] = generator.normal(size=model.nv) * generator.random() ** 3 * self._velocity_scale
        mujoco.mj_forward(model, data)

    def render(self, pixels: int, out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        """Draw the state as uint8 RGB (pixels, pixels, 3)."""
        if out is None:
            out = np.empty((pixels, pixels, 3), dtype=np.uint8)
        check_frame_buffer(out, pixels)
        if self._renderer is None:
            self._renderer = shared_renderer(self._digest, self._model, self._task.render)
        # After mj_step the positions of bodies still belong to the state before it (Gymnasium leaves them so); a frame
        # must show the state that state() returns.
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_comPos(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)
        mujoco.mj_tendon(self._model, self._data)
        self._renderer.draw(self._model, self._data, self._camera, out)
        return out

    def close(self) -> None:
        """Let go of the renderer; the last scene that lets go frees it."""
        self._renderer = None

    def _find_arrays_drawn_anew(self) -> list[str]:
        compiled = {
            name: value.copy()
            for name in dir(self._model)
            if not name.startswith("_")
            and isinstance(value := getattr(self._model, name), np.ndarray)
            and value.dtype.kind == "f"
        }
        changed: set[str] = set()
        for seed in PROBE_SEEDS:
            self._reset(seed)
            changed |= {
                name for name, before in compiled.items() if not np.array_equal(getattr(self._model, name), before)
            }
        return sorted(changed)

    def _mix_in_random_pose(self, strength: float, generator: np.random.Generator) -> None:
        """Move `strength` (0 to 1) of the way from the present pose to a random one, joint by joint."""
        model, qpos = self._model, self._data.qpos
        for joint in range(model.njnt):
            kind, at, limited = model.jnt_type[joint], model.jnt_qposadr[joint], model.jnt_limited[joint]
            if kind in (mujoco.mjtJoint.mjJNT_FREE, mujoco.mjtJoint.mjJNT_BALL):
                if kind == mujoco.mjtJoint.mjJNT_FREE:
                    qpos[at : at + 3] += strength * generator.uniform(-0.5, 0.5, size=3)
                    at += 3
                turned = (1 - strength) * qpos[at : at + 4] + strength * generator.normal(size=4)
                qpos[at : at + 4] = turned / np.linalg.norm(turned)
            elif limited:
                target = generator.uniform(*model.jnt_range[joint])
                # a cart on its rail may be anywhere while the pole on it stands
                qpos[at] += (1.0 if kind == mujoco.mjtJoint.mjJNT_SLIDE else strength) * (target - qpos[at])
            elif kind == mujoco.mjtJoint.mjJNT_HINGE:
                qpos[at] += strength * generator.uniform(-np.pi, np.pi)
            else:
                qpos[at] += strength * generator.uniform(-0.5, 0.5)


def _velocity_scale(model: Any) -> NDArray[np.float64]:
    """Speed of each degree of freedom, float64 (nv,), in metres or radians a second."""
    scale = np.full(model.nv, FASTEST_TURN)
    for kind, first in zip(model.jnt_type, model.jnt_dofadr, strict=True):
        if kind == mujoco.mjtJoint.mjJNT_SLIDE:
            scale[first] = FASTEST_SLIDE
        elif kind == mujoco.mjtJoint.mjJNT_FREE:
            scale[first : first + 3] = FASTEST_SLIDE
    return scale


class MujocoSimulator:
    """State and render of a simulator, which its `_scene` knows all about."""

    _scene: MujocoScene

    def state(self) -> NDArray[np.float64]:
        """See Simulator."""
        return self._scene.state()

    def set_state(self, state: NDArray[np.float64]) -> None:
        """See Simulator."""
        self._scene.set_state(state)

    def random_state(self, generator: np.random.Generator) -> None:
        """See Simulator."""
        self._scene.random_state(generator)

    def render(self, pixels: int, out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        """See Simulator."""
        return self._scene.render(pixels, out)

    def close(self) -> None:
        """See Simulator."""
        self._scene.close()
