"""A cluster that does not answer is a message, at once."""

import pytest

from datamodules.errors import MissingDependencyError
from lightning_modules.ray_session import ray_session


def enter() -> None:
    with ray_session():
        pass


def test_an_address_where_nobody_listens_is_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(MissingDependencyError, match=r"RAY_ADDRESS=127\.0\.0\.1:1 .*refused.*or unset RAY_ADDRESS"):
        enter()
