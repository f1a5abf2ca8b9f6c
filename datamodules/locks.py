"""Locks between processes that die with their holder, so that a killed process never blocks the next one.

They are flock(2) on a lock file: kept by the kernel, released when the process ends in whatever way. On NFS, Linux
hands them to the server, which needs NFS 4 or a running lock daemon, and a mount without `nolock` or `local_lock`.
"""

import fcntl
import os
import time
from pathlib import Path

RETRY_SECONDS = 0.02


class Lock:
    """A lock that this process holds. `with` releases it; the lock file goes with it."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor: int | None = descriptor

    def release(self) -> None:
        """Let go, once; only the holder of a lock file removes it."""
        if self._descriptor is None:
            return
        descriptor, self._descriptor = self._descriptor, None
        if _is_still(self._path, descriptor):  # its folder may have been removed and made again
            self._path.unlink(missing_ok=True)
        os.close(descriptor)

    def __enter__(self) -> "Lock":
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()


def try_lock(path: Path) -> Lock | None:
    """Take the lock, or None if someone else holds it. FileNotFoundError: its folder does not exist."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still(path, descriptor):
                return Lock(path, descriptor)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its last holder removed that file after we opened it


def wait_for_lock(path: Path, patience: float = float("inf")) -> Lock | None:
    """Take the lock as soon as it is free; None if it is not within `patience` seconds."""
    start = time.monotonic()
    while (lock := try_lock(path)) is None:
        if time.monotonic() - start > patience:
            return None
        time.sleep(RETRY_SECONDS)
    return lock


def is_locked(path: Path) -> bool:
    """Whether a living process holds the lock. Looking takes the lock for a moment."""
    if not path.exists():
        return False
    try:
        lock = try_lock(path)
    except FileNotFoundError:
        return False
    if lock is not None:
        lock.release()
    return lock is None


def _is_still(path: Path, descriptor: int) -> bool:
    """Whether the open file is the one that lies under this name now."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
