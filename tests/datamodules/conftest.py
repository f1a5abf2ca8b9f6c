"""What tests of addresses share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from datamodules import storage
from tests.loopback import Loopback, loopback


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    """A web server over `tmp_path / "served"`; pauses between attempts are short."""
    monkeypatch.setattr(storage, "FIRST_PAUSE_SECONDS", 0.01)
    (tmp_path / "served").mkdir()
    with loopback(tmp_path / "served") as running:
        yield running
