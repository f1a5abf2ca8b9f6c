"""Drawing MuJoCo scenes fast on machines without a display: one GL context a process, one renderer a model.

What makes it fast (84 x 84, software GL): no shadows, no reflections, no multisampling, an off-screen buffer no larger
than the frame, and a scene that is updated in place instead of the camera that `physics.render` builds for every frame.
"""

import hashlib
from typing import Any
from weakref import WeakValueDictionary, finalize

import mujoco
import numpy as np
from numpy.typing import NDArray

from datamodules.errors import SettingsError, UnknownNameError
from datamodules.tasks import Camera, RenderSettings
from rllib_envs.gl import gl_context

MAX_GEOMS = 5000


def resolve_camera(model: Any, camera: Camera) -> Any:
    """The `mujoco.MjvCamera` of a task's camera settings in this model.

    Raises UnknownNameError for a camera that the model does not have.
    """
    view = mujoco.MjvCamera()
    mujoco.mjv_defaultFreeCamera(model, view)
    if camera.distance is not None:
        view.distance = camera.distance
        view.azimuth = camera.azimuth
        view.elevation = camera.elevation
        view.lookat[:] = camera.lookat
    if camera.name is None:
        return view

    names = [model.camera(number).name for number in range(model.ncam)]
    number = camera.name if isinstance(camera.name, int) else names.index(camera.name) if camera.name in names else -1
    if not 0 <= number < model.ncam:
        numbered = [name or str(number) for number, name in enumerate(names)]
        raise UnknownNameError("camera", str(camera.name), numbered, "or leave camera.name empty for the free camera")
    view.type = mujoco.mjtCamera.mjCAMERA_FIXED
    view.fixedcamid = number
    return view


class SceneRenderer:
    """Draws scenes of one compiled model, and of every model equal to it when it was compiled."""

    def __init__(self, model: Any, settings: RenderSettings) -> None:
        self._gl = gl_context()
        self._side = max(settings.frame_pixels, settings.teacher_pixels)
        self._scene = mujoco.MjvScene(model, MAX_GEOMS)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = settings.shadows
        self._scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = settings.reflections
        self._options = mujoco.MjvOption()
        with self._gl.current():
            self._context = _upload(model, settings, self._side)
        self._heights = model.hfield_data.copy()
        # The same numbers name other objects in other GL contexts, so they are freed when this one is current.
        self._release = finalize(self, self._gl.discard, self._context)
        self._release.atexit = False  # the end of the process frees what is left

    def draw(self, model: Any, data: Any, camera: Any, out: NDArray[np.uint8]) -> None:
        """Draw into `out`, uint8 RGB (pixels, pixels, 3), first row on top; kinematics must be up to date."""
        pixels = out.shape[0]
        everything = mujoco.mjtCatBit.mjCAT_ALL.value
        viewport = mujoco.MjrRect(0, 0, pixels, pixels)
        bottom_up = np.empty((pixels, pixels, 3), dtype=np.uint8)
        with self._gl.current():  # other threads may be drawing with this renderer, too
            mujoco.mjv_updateScene(model, data, self._options, None, camera, everything, self._scene)
            if pixels > self._side:
                self._side = pixels
                mujoco.mjr_resizeOffscreen(pixels, pixels, self._context)
            if model.nhfield:
                self._refresh_terrains(model)
            # Renderers share one GL context, in which the last one's buffer is still bound.
            mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)
            mujoco.mjr_render(viewport, self._scene, self._context)
            mujoco.mjr_readPixels(bottom_up, None, viewport, self._context)
        out[:] = bottom_up[::-1]

    def _refresh_terrains(self, model: Any) -> None:
        """Upload terrains that a reset has drawn anew (quadruped-escape): they live on the GL side."""
        if not np.array_equal(model.hfield_data, self._heights):
            self._heights[:] = model.hfield_data
            for field in range(model.nhfield):
                mujoco.mjr_uploadHField(model, self._context, field)


_RENDERERS: WeakValueDictionary[tuple[str, RenderSettings], SceneRenderer] = WeakValueDictionary()


def model_digest(model: Any) -> str:
    """Digest of a compiled model; taken before the first reset, it is the same for all simulators of a task."""
    content = np.empty(mujoco.mj_sizeModel(model), dtype=np.uint8)
    mujoco.mj_saveModel(model, None, content)
    return hashlib.sha256(content.tobytes()).hexdigest()


def shared_renderer(digest: str, model: Any, settings: RenderSettings) -> SceneRenderer:
    """The renderer of all simulators in this process whose model and render settings are equal."""
    key = (digest, settings)
    renderer = _RENDERERS.get(key)
    if renderer is None:
        renderer = _RENDERERS[key] = SceneRenderer(model, settings)
    return renderer


def check_frame_buffer(out: NDArray[np.uint8], pixels: int) -> None:
    """Raise SettingsError unless `out` is uint8 (pixels, pixels, 3)."""
    if out.shape != (pixels, pixels, 3) or out.dtype != np.uint8:
        raise SettingsError(
            f"a frame was asked for in an array of {out.dtype} {out.shape}: it must be uint8 {(pixels, pixels, 3)}"
        )


def _upload(model: Any, settings: RenderSettings, side: int) -> Any:
    """Upload the model's meshes and textures; buffer size and samples are read from the model at that moment only."""
    quality, buffer = model.vis.quality, model.vis.global_
    before = quality.offsamples, quality.shadowsize, buffer.offwidth, buffer.offheight
    quality.offsamples = settings.multisamples
    quality.shadowsize = quality.shadowsize if settings.shadows else 0
    buffer.offwidth = buffer.offheight = side
    try:
        return mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
    finally:
        quality.offsamples, quality.shadowsize, buffer.offwidth, buffer.offheight = before
