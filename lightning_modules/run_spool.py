"""Records that a lost MLflow store did not take, a line each in a file, until it takes them."""

import json
import logging
import time
from collections.abc import Callable
from os import SEEK_END
from pathlib import Path
from threading import RLock
from typing import IO, Any

from datamodules.whole_files import plain_when_full

SPOOL = "mlflow.spool"
"""the usual name of that file"""
SECONDS_BETWEEN_TRIES = 60.0
"""so that a store that is down costs a training a few seconds a minute at most"""
log = logging.getLogger(__name__)

Deliver = Callable[[str, dict[str, Any]], None]
"""Called with what to do and its arguments; raises what `is_lost` knows where the store cannot be reached."""


class Spool:
    """Delivers records, or keeps those that cannot be delivered and all that come after them, in order.

    Any thread may send.
    """

    def __init__(self, path: Path | None, deliver: Deliver, is_lost: Callable[[Exception], bool]) -> None:
        """Args: path: where to keep them; what is there is delivered first. None: a record that is lost is an error."""
        self._path, self._deliver, self._is_lost = path, deliver, is_lost
        self._tried = -SECONDS_BETWEEN_TRIES
        self._noted = False
        self._lock = RLock()

    @property
    def keeps(self) -> bool:
        """Whether there is a place for records that cannot be delivered."""
        return self._path is not None

    def send(self, call: str, **arguments: Any) -> None:
        """Deliver a record now, or keep it."""
        with self._lock:
            self._send(call, arguments)

    def _send(self, call: str, arguments: dict[str, Any]) -> None:
        if self._path is None:
            self._deliver(call, arguments)
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with plain_when_full(self._path), self._path.open("a+b") as stream:
            _drop_torn_line(stream)
            stream.write((json.dumps({"call": call, **arguments}) + "\n").encode())
        if time.monotonic() - self._tried >= SECONDS_BETWEEN_TRIES:
            self.flush()

    def flush(self) -> Path | None:
        """Deliver what was kept; returns its file if something is left.

        A record that the store refuses is an error, once.
        """
        with self._lock:
            return self._flush()

    def _flush(self) -> Path | None:
        if self._path is None or not self._path.exists():
            return None
        with self._path.open("r+b") as stream:
            _drop_torn_line(stream)
            stream.seek(0)
            lines = stream.read().decode().splitlines(keepends=True)
        while lines:
            record = json.loads(lines[0])
            try:
                self._deliver(record.pop("call"), record)
            except Exception as error:
                lost = self._is_lost(error)
                self._path.write_text("".join(lines if lost else lines[1:]))
                if not lost:
                    raise
                self._note(error)
                return self._path
            del lines[0]
        self._path.unlink()
        self._tried, self._noted = -SECONDS_BETWEEN_TRIES, False
        return None

    def _note(self, error: Exception) -> None:
        """Warn, once an outage."""
        self._tried = time.monotonic()
        if self._noted:
            return
        self._noted = True
        reason = (str(error) or type(error).__name__).splitlines()[0]
        log.warning(f"MLflow does not answer ({reason}): its records wait in {self._path}, and the work goes on")


def _drop_torn_line(stream: IO[bytes]) -> None:
    """Leave out what a full disk or a kill left of a record in the middle of its writing."""
    if stream.seek(0, SEEK_END) == 0:
        return
    stream.seek(-1, SEEK_END)  # of a long outage's records only the last byte is read each time
    if stream.read(1) != b"\n":
        stream.seek(0)
        stream.truncate(stream.read().rfind(b"\n") + 1)
        stream.seek(0, SEEK_END)
