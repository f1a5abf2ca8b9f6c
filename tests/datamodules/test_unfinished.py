"""What is remembered of a data set in the making."""

from pathlib import Path

import pytest

from datamodules.manifest import Manifest, ShardEntry
from datamodules.unfinished import FinishedShard, Unfinished
from tests.data_sets import COLLECTION, TASK

DATA_SET = Manifest(TASK, COLLECTION, shards=())
DONE = FinishedShard(ShardEntry("shard-000001.tar", 8, 1024, "0" * 64), source="1" * 64, teacher_queries=16)


def test_what_is_recorded_is_found_again(tmp_path: Path) -> None:
    progress = Unfinished(tmp_path)
    assert not progress.begun
    progress.begin(DATA_SET)
    progress.record(DONE)
    again = Unfinished(tmp_path)
    assert again.begun
    assert (again.data_set(), again.names(), again.find(DONE.entry.name)) == (DATA_SET, [DONE.entry.name], DONE)
    assert again.find("shard-000002.tar") is None
    again.forget(DONE.entry.name)
    assert progress.names() == []


def test_a_beginning_that_was_killed_does_not_count(tmp_path: Path) -> None:
    progress = Unfinished(tmp_path)
    progress.record(DONE)  # recorded first; the data set would have come last
    assert not progress.begun
    progress.begin(DATA_SET)
    assert progress.names() == []


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"entry": {"name": "x"}}'])
def test_a_note_that_cannot_be_read_is_no_note(tmp_path: Path, content: str) -> None:
    progress = Unfinished(tmp_path)
    progress.begin(DATA_SET, [DONE])
    (tmp_path / "unfinished" / f"{DONE.entry.name}.json").write_text(content)
    assert progress.find(DONE.entry.name) is None


def test_a_claim_is_exclusive_and_clears_what_a_killed_holder_left(tmp_path: Path) -> None:
    progress, name = Unfinished(tmp_path), DONE.entry.name
    progress.begin(DATA_SET)
    (tmp_path / f".{name}.1.part").touch()
    claim = progress.claim(name)
    assert claim is not None
    with claim:
        assert Unfinished(tmp_path).claim(name) is None
        assert [path.name for path in tmp_path.iterdir()] == ["unfinished"]


def test_after_its_end_nothing_is_left_and_nothing_can_be_claimed(tmp_path: Path) -> None:
    progress = Unfinished(tmp_path)
    progress.begin(DATA_SET, [DONE])
    (tmp_path / ".unfinished.1.part").mkdir()  # an end that was killed
    progress.remove()
    assert not list(tmp_path.iterdir())
    with pytest.raises(FileNotFoundError):
        progress.claim("shard-000002.tar")
