"""A cluster that does not answer is a message, at once; workers get as much of a core as the process that asks them."""

import os

import pytest
import ray

from datamodules.errors import MissingDependencyError
from lightning_modules.ray_session import ray_session


def enter() -> None:
    with ray_session():
        pass


def test_an_address_where_nobody_listens_is_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(MissingDependencyError, match=r"RAY_ADDRESS=127\.0\.0\.1:1 .*refused.*or unset RAY_ADDRESS"):
        enter()


@pytest.mark.slow
def test_workers_are_not_left_to_starve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)

    def niceness() -> int:
        return os.nice(0)

    with ray_session():
        assert ray.get(ray.remote(niceness).remote()) == niceness()
