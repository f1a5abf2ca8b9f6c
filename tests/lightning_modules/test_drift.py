"""Drift as a number and as a picture, on clouds whose distances are known."""

from pathlib import Path

import numpy as np
import pytest

from datamodules.errors import DataError
from lightning_modules.drift import CLOUDS, clouds_of, drifts, read_clouds


def cloud(count: int, centre: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(centre, 1.0, (count, 3)).astype(np.float32)


def test_drift_is_the_distance_to_the_nearest_label_over_that_of_the_median_held_out_frame() -> None:
    labelled = np.array([[0.0, 0.0], [10.0, 0.0]], np.float32)
    held_out = np.array([[0.0, 1.0], [10.0, 2.0], [0.0, 3.0]], np.float32)  # 1, 2 and 3 away
    visited = np.array([[0.0, 8.0], [10.0, -8.0], [0.0, 0.0]], np.float32)  # 8, 8 and 0 away
    np.testing.assert_allclose(drifts(visited, held_out, labelled), [8 / 2, 8 / 2, 0])


def test_more_of_the_same_has_not_drifted_and_a_cloud_elsewhere_has() -> None:
    labelled, held_out = cloud(400, 0.0, 0), cloud(200, 0.0, 1)
    assert np.median(drifts(cloud(200, 0.0, 2), held_out, labelled)) == pytest.approx(1.0, abs=0.2)
    assert np.median(drifts(cloud(200, 5.0, 2), held_out, labelled)) > 5


def test_copies_of_labels_have_not_drifted() -> None:
    labelled = cloud(20, 0.0, 0)
    assert np.median(drifts(labelled, labelled, labelled)) == 1.0
    assert np.isfinite(drifts(labelled + 1, labelled, labelled)).all()


def test_the_picture_keeps_the_clouds_apart_and_survives_the_disk(tmp_path: Path) -> None:
    labelled, visited = cloud(50, 0.0, 0), cloud(30, 6.0, 1)
    clouds_of(labelled, visited, visited[:4]).write(tmp_path)
    read = read_clouds(tmp_path)
    assert (len(read.labelled), len(read.visited), len(read.asked)) == (50, 30, 4)
    np.testing.assert_allclose(read.asked, read.visited[:4])
    # along the first component, the clouds lie 6 * sqrt(3) apart
    apart = np.linalg.norm(read.labelled.mean(axis=0) - read.visited.mean(axis=0))
    assert apart == pytest.approx(6 * np.sqrt(3), rel=0.1)
    (tmp_path / CLOUDS).write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(DataError, match=r"clouds\.npz cannot be read"):
        read_clouds(tmp_path)
