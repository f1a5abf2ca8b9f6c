"""A real headless browser, asked over its DevTools protocol."""

import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from websockets.sync.client import ClientConnection, connect

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1600,1000")
SECONDS = 120.0


def installed() -> str | None:
    """The first browser found, if any."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    """One tab."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket, self._calls = socket, 0

    def open(self, address: str) -> None:
        """Go there, from an empty page, so that nothing of the page before can be taken for this one."""
        for place in ("about:blank", address):
            self._call("Page.navigate", url=place)

    def value_of(self, expression: str) -> Any:
        """What the page's JavaScript makes of an expression."""
        return self._call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def wait_for(self, expression: str) -> Any:
        """The expression's value, once it is true in JavaScript's sense."""
        deadline = time.monotonic() + SECONDS
        while not (value := self.value_of(expression)):
            text = self.value_of("document.body && document.body.innerText")
            assert time.monotonic() < deadline, f"{expression} stays {value!r}; the page says: {text}"
            time.sleep(0.2)
        return value

    def _call(self, method: str, **parameters: Any) -> Any:
        self._calls += 1
        self._socket.send(json.dumps({"id": self._calls, "method": method, "params": parameters}))
        while (answer := json.loads(self._socket.recv(SECONDS))).get("id") != self._calls:
            pass
        assert "error" not in answer, answer
        return answer["result"]


@contextmanager
def browser(program: str) -> Iterator[Page]:
    """An open tab of a browser that has never been anywhere."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [program, *FLAGS, "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                with connect(_tab(Path(profile) / "DevToolsActivePort", process), max_size=None) as socket:
                    yield Page(socket)
            finally:
                process.kill()


def _tab(place: Path, process: subprocess.Popen[bytes]) -> str:
    """Address of the tab, once the browser has written down its port."""
    deadline = time.monotonic() + SECONDS
    while not place.exists() or len(place.read_text().splitlines()) < 2:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    with urlopen(f"http://127.0.0.1:{place.read_text().splitlines()[0]}/json/list", timeout=SECONDS) as reply:
        tabs = json.load(reply)
    address: str = next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page")
    return address
