"""The one off-screen GL context of a process: which backend, loaded in which order, and what to install without one."""

import ctypes
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from threading import RLock
from typing import Any

from datamodules.errors import MissingDependencyError, UnknownNameError

EGL_PLATFORM_DEVICE = 0x313F  # EGL_EXT_platform_device
PACKAGES = {"egl": "libegl1 libgl1 libgl1-mesa-dri", "osmesa": "libosmesa6"}
NO_BACKEND = "disabled"
KNOWN_TO_MUJOCO = ("egl", "osmesa", "glfw", NO_BACKEND, "disable", "off", "false", "0")
"""what MUJOCO_GL may be; of these, egl and osmesa draw without a display"""


class GlContext:
    """The GL context of this process; `with context.current():` directs this thread's GL calls to it.

    Any thread may draw, one at a time.
    """

    def __init__(self, backend: str) -> None:
        # Taken from mujoco's own modules and not from `mujoco.GLContext`, which was chosen when mujoco was imported.
        module = import_module(f"mujoco.{backend}")
        self._context: Any = module.GLContext(1, 1)
        self._egl: Any = module.EGL if backend == "egl" else None
        self._lock = RLock()
        self._is_current = False
        self._discarded: deque[Any] = deque()
        with self.current():
            pass  # a context that cannot be used fails here
        # Never destroyed by Python: mujoco and dm_control each close the display in an exit handler of their own, and a
        # context that is destroyed after them complains on stderr. The end of the process frees it.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._context))

    @contextmanager
    def current(self) -> Iterator[None]:
        """Be current within the block, and hand back to the context that was current before, or to none.

        A context is current in one thread at most, and where that thread keeps it, no other can draw. dm_control
        remembers that its own context is current and never looks again: after a change behind its back
        `physics.render` would draw into ours.
        """
        with self._lock:
            if self._is_current:  # in a block around this one
                yield
                return
            hand_back = self._make_current()
            self._is_current = True
            try:
                while self._discarded:
                    self._discarded.popleft().free()
                yield
            finally:
                self._is_current = False
                hand_back()

    def discard(self, resource: Any) -> None:
        """Call `resource.free()` when this context is current for the next time.

        It makes no GL call, so finalizers may use it: garbage is collected in any thread, in the middle of anything.
        """
        self._discarded.append(resource)

    def _make_current(self) -> Callable[[], object]:
        """Returns what makes the context of before current."""
        if not self._egl:
            self._context.make_current()
            return lambda: None
        egl = self._egl
        egl.eglBindAPI(egl.EGL_OPENGL_API)  # each thread has to say which API's current context it means
        before, display = egl.eglGetCurrentContext(), egl.eglGetCurrentDisplay()
        self._context.make_current()
        return lambda: egl.eglMakeCurrent(
            display if before else egl.eglGetCurrentDisplay(),
            egl.EGL_NO_SURFACE,
            egl.EGL_NO_SURFACE,
            before or egl.EGL_NO_CONTEXT,
        )


def prepare_gl() -> None:
    """Settle everything that must be settled before MuJoCo, dm_control or a GL context is loaded; cheap when repeated.

    dm_control opens an EGL display when it is imported, so simulators call this before they import it.
    """
    # Mesa's software GL and Triton each bring an LLVM. If Mesa's is loaded first, importing Triton (torch._dynamo does
    # so, and with it torch.compile and most optimisers) ends in a segmentation fault; the other order works.
    if find_spec("triton"):  # it exists for Linux only
        import_module("triton")
    gl_backend()


@cache
def gl_backend() -> str:
    """The GL backend of this process: `MUJOCO_GL` where it is set, else egl if it works, else osmesa, else 'disabled'.

    The choice is written to `MUJOCO_GL`, because dm_control would otherwise look for a display first.

    Raises UnknownNameError for a value that MuJoCo does not know, and MissingDependencyError where a backend that is
    asked for does not work: with such a setting MuJoCo cannot even be imported.
    """
    asked = os.environ.get("MUJOCO_GL", "").lower().strip()
    if asked and asked not in KNOWN_TO_MUJOCO:
        raise UnknownNameError("MUJOCO_GL", asked, KNOWN_TO_MUJOCO, "or leave it unset")
    if asked and asked not in WORKS:
        return asked
    chosen = next((backend for backend, works in WORKS.items() if asked in ("", backend) and works()), None)
    if asked and not chosen:
        raise missing_gl(f"MUJOCO_GL is {asked!r}, and that does not work here")
    os.environ["MUJOCO_GL"] = chosen or NO_BACKEND
    return chosen or NO_BACKEND


def require_gl() -> None:
    """Make sure that frames can be drawn in this process.

    Raises MissingDependencyError, naming the packages to install, where they cannot.
    """
    gl_context()


@cache
def gl_context() -> GlContext:
    """The GL context of this process, made at the first call.

    Raises MissingDependencyError where no off-screen GL can be opened.
    """
    prepare_gl()
    backend = gl_backend()
    if backend not in WORKS:
        raise missing_gl(f"the GL backend is {backend!r}")
    try:
        return GlContext(backend)
    except Exception as failure:  # PyOpenGL raises a different type for each library and call that is missing
        raise missing_gl(f"{backend} failed with {failure!r}") from failure


def missing_gl(reason: str) -> MissingDependencyError:
    """The error that tells what to install."""
    return MissingDependencyError(
        f"frames cannot be drawn without a display ({reason}): install software GL with "
        f"`apt-get install {PACKAGES['egl']}` or `apt-get install {PACKAGES['osmesa']}`, "
        "and leave MUJOCO_GL unset so that the one that works is chosen"
    )


def _egl_works() -> bool:
    """Whether EGL finds a device; asked through ctypes, as PyOpenGL ties a process to the first backend it loads."""
    try:
        egl = ctypes.CDLL("libEGL.so.1")
        egl.eglGetProcAddress.restype = ctypes.c_void_p
        addresses = [egl.eglGetProcAddress(name) for name in (b"eglQueryDevicesEXT", b"eglGetPlatformDisplayEXT")]
    except (OSError, AttributeError):
        return False
    if not all(addresses):
        return False
    query_devices = ctypes.CFUNCTYPE(ctypes.c_uint, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(addresses[0])
    get_display = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p)(addresses[1])
    devices, found = (ctypes.c_void_p * 16)(), ctypes.c_int(0)
    if not query_devices(len(devices), devices, ctypes.byref(found)):
        return False
    egl.eglInitialize.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
    displays = (get_display(EGL_PLATFORM_DEVICE, device, None) for device in devices[: found.value])
    return any(display and egl.eglInitialize(display, None, None) for display in displays)


def _osmesa_works() -> bool:
    for library in ("libOSMesa.so.8", "libOSMesa.so.6"):
        try:
            ctypes.CDLL(library)
        except OSError:
            continue
        return True
    return False


WORKS: Mapping[str, Callable[[], bool]] = {"egl": _egl_works, "osmesa": _osmesa_works}
"""backends without a display, the preferred one first, and whether they work here"""
