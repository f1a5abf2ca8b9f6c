"""A real web server on loopback over a folder, which can be told to fail as real ones do."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any


class Loopback(ThreadingHTTPServer):
    """Serves `folder`; `requests` counts what was asked for, by file name."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.requests: Counter[str] = Counter()
        self.shortened: dict[str, int] = {}
        """files that are served with so many bytes, as if they were whole"""
        self.broken_off: dict[str, int] = {}
        """files whose connection is closed halfway, so many times"""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Quiet: clients hang up when they have seen enough."""


class Handler(SimpleHTTPRequestHandler):
    """Answers as the server was told to."""

    server: Loopback

    def do_GET(self) -> None:
        name = Path(self.path).name
        self.server.requests[name] += 1
        path = Path(self.translate_path(self.path))
        if path.is_dir() or not path.exists():
            super().do_GET()
            return
        content = path.read_bytes()[: self.server.shortened.get(name)]
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.server.broken_off.get(name, 0) > 0:
            self.server.broken_off[name] -= 1
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
        else:
            self.wfile.write(content)

    def log_message(self, *arguments: Any) -> None:
        """Quiet."""


@contextmanager
def loopback(folder: Path) -> Iterator[Loopback]:
    """The server while the block runs."""
    server = Loopback(folder)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
