"""The command: what it prints and how it ends."""

from pathlib import Path

import pytest

from scripts.command import run
from scripts.verify_data import verify_data
from tests.data_sets import write_labels


def test_whole_and_damaged_data_end_as_a_shell_expects(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = write_labels(tmp_path / "labels")
    arguments = ["--data", str(labels), "--out", str(tmp_path / "out")]
    result = run(verify_data, arguments)
    assert capsys.readouterr().out.splitlines() == ["all 7 shards whole, 50 samples decoded", str(result)]
    (labels / "shard-000003.tar").unlink()
    with pytest.raises(SystemExit) as ended:
        run(verify_data, arguments)
    assert ended.value.code == 2
    captured = capsys.readouterr()
    assert "shard-000003.tar" in captured.out
    assert "error: 1 of 7 shards damaged" in captured.err
    assert "scripts.label_frames again" in captured.err


def test_a_folder_without_a_data_set_is_a_plain_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(verify_data, ["--data", str(tmp_path), "--out", str(tmp_path / "out")])
    assert ended.value.code == 2
    assert "manifest.json is missing" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
