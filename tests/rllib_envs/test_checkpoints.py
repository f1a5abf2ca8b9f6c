"""There is always one whole checkpoint."""

from pathlib import Path

import pytest

from rllib_envs.checkpoints import CURRENT, PREVIOUS, latest_checkpoint, replace_checkpoint


def write(folder: Path, content: str) -> None:
    with replace_checkpoint(folder) as checkpoint:
        (checkpoint / "state").write_text(content)


def fail_half_way(folder: Path) -> None:
    with replace_checkpoint(folder) as checkpoint:
        (checkpoint / "state").write_text("half")
        raise OSError("disk full")


def content_of(checkpoint: Path | None) -> str:
    assert checkpoint is not None
    return (checkpoint / "state").read_text()


def test_a_new_checkpoint_takes_the_old_ones_place(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path) is None
    write(tmp_path, "first")
    write(tmp_path, "second")
    assert content_of(latest_checkpoint(tmp_path)) == "second"
    assert [path.name for path in tmp_path.iterdir()] == [CURRENT]


def test_a_checkpoint_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    write(tmp_path, "first")
    with pytest.raises(OSError, match="disk full"):
        fail_half_way(tmp_path)
    assert content_of(latest_checkpoint(tmp_path)) == "first"
    write(tmp_path, "second")
    assert content_of(latest_checkpoint(tmp_path)) == "second"


def test_a_stop_between_the_renames_leaves_the_old_one(tmp_path: Path) -> None:
    write(tmp_path, "first")
    (tmp_path / CURRENT).rename(tmp_path / PREVIOUS)
    assert content_of(latest_checkpoint(tmp_path)) == "first"
    write(tmp_path, "second")
    assert content_of(latest_checkpoint(tmp_path)) == "second"
