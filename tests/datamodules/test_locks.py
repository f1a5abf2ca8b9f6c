"""Locks between processes: one holder, gone with the process."""

import signal
from multiprocessing import get_context
from pathlib import Path

import pytest

from datamodules.locks import is_locked, try_lock, wait_for_lock

CONTEXT = get_context("fork")


def test_one_holder_at_a_time_and_no_file_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    assert not is_locked(path)
    lock = try_lock(path)
    assert lock is not None
    with lock:
        assert is_locked(path)
        assert try_lock(path) is None
        assert wait_for_lock(path, patience=0.05) is None
    assert not list(tmp_path.iterdir())
    assert not is_locked(path)


def test_a_killed_holder_lets_go(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    taken = CONTEXT.Event()

    def hold() -> None:
        lock = try_lock(path)
        assert lock is not None
        taken.set()
        signal.pause()

    process = CONTEXT.Process(target=hold)
    process.start()
    assert taken.wait(30)
    assert is_locked(path)
    process.kill()
    process.join(30)
    assert path.exists()  # left over, and no obstacle
    with wait_for_lock(path) or pytest.fail("not free"):
        assert is_locked(path)
    assert not path.exists()


def test_a_lock_protects_what_it_guards(tmp_path: Path) -> None:
    """Four processes add 1 to a number in a file, 50 times each; the lock file appears and vanishes all the time."""
    number = tmp_path / "number"
    number.write_text("0")

    def add() -> None:
        for _ in range(50):
            with wait_for_lock(tmp_path / "a.lock") or pytest.fail("not free"):
                number.write_text(str(int(number.read_text()) + 1))

    processes = [CONTEXT.Process(target=add) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert number.read_text() == "200"


def test_a_missing_folder_is_an_error_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        try_lock(tmp_path / "gone/a.lock")
