"""Two processes of a real distributed fit: together every sample once, and never one waiting for the other."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from datamodules.splits import split_of
from tests.data_sets import write_labels

ROOT = Path(__file__).parents[2]
EPISODES, STEPS = 23, 5  # 95 samples to train on, 10 to validate with: neither divides evenly


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("cache", ["cache", "stream"])
def test_two_processes_share_every_epoch(tmp_path: Path, cache: str, num_workers: int) -> None:
    labels = write_labels(tmp_path / "labels", EPISODES, STEPS)
    program = [sys.executable, str(Path(__file__).with_name("distributed_fit.py"))]
    subprocess.run([*program, str(labels), str(tmp_path), cache, str(num_workers)], cwd=ROOT, check=True, timeout=240)
    first, second = (json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in (0, 1))
    assert first.keys() == second.keys() == {"train 0", "train 1", "validation 0", "validation 1", "test 2"}
    for epoch in first:
        split = epoch.split()[0]
        expected = {(e, s) for e in range(EPISODES) if split_of(e) == split for s in range(STEPS)}
        together = [tuple(key) for batch in first[epoch] + second[epoch] for key in batch]
        assert len(first[epoch]) == len(second[epoch])
        assert len(together) == len(set(together))
        if split == "train":
            assert {len(batch) for batch in first[epoch] + second[epoch]} == {6}
            assert set(together) <= expected
            assert len(together) == len(expected) // 12 * 12
        else:
            assert set(together) == expected
    assert first["train 0"] != first["train 1"]
