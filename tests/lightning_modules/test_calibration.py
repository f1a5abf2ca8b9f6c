"""Calibration by hand and against sampled ensembles whose answer is known."""

import numpy as np
import pytest

from lightning_modules.calibration import calibrate


def test_figures_by_hand() -> None:
    spread, error = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 1.0, 6.0, 2.0])
    found = calibrate(spread, error, np.zeros(4), bins=2)
    assert found is not None
    # bins of two: RMV sqrt(2.5), sqrt(12.5); RMSE 1, sqrt(20)
    low, high = np.sqrt(2.5), np.sqrt(12.5)
    assert [each.spread for each in found.bins] == pytest.approx([low, high])
    assert [each.error for each in found.bins] == pytest.approx([1.0, np.sqrt(20)])
    assert found.ence == pytest.approx(((low - 1) / low + (np.sqrt(20) - high) / high) / 2)
    # of a mean error of 2.5; put aside by spread 4, 3, 2 and by error 6, 2, 1
    by_spread, by_error = np.array([2.5, 8 / 3, 1, 1]) / 2.5, np.array([2.5, 4 / 3, 1, 1]) / 2.5
    assert found.ause == pytest.approx(np.mean(by_spread - by_error))
    assert found.ause_by_chance == pytest.approx(np.mean(1 - by_error))
    assert found.sparsification.fraction == (0.0, 0.25, 0.5, 0.75)
    assert found.sparsification.by_spread == pytest.approx(by_spread)
    assert found.sparsification.by_error == pytest.approx(by_error)
    # ranks 1 2 3 4 and 1.5 1.5 4 3
    assert found.rank_correlation == pytest.approx(np.corrcoef([1, 2, 3, 4], [1.5, 1.5, 4, 3])[0, 1])
    assert found.scale == pytest.approx(np.sqrt(42 / 30))


def test_errors_drawn_with_the_spread_as_their_deviation_are_calibrated() -> None:
    generator = np.random.default_rng(0)
    spread = generator.uniform(0.2, 2.0, 20_000)
    error = spread * generator.normal(size=spread.size)
    honest, sure = calibrate(spread, error, np.zeros_like(error)), calibrate(spread / 2, error, np.zeros_like(error))
    assert honest is not None
    assert sure is not None
    assert honest.ence < 0.03
    assert honest.scale == pytest.approx(1.0, abs=0.02)
    assert sure.ence == pytest.approx(1.0, abs=0.05)  # errors twice the spread: |s - 2 s| / s
    assert sure.scale == pytest.approx(2 * honest.scale)
    assert sure.ause == pytest.approx(honest.ause)  # the order is the same


def test_a_spread_without_knowledge_has_the_area_of_chance() -> None:
    generator = np.random.default_rng(1)
    error = generator.normal(size=20_000)
    knowing_nothing = calibrate(generator.uniform(1, 2, error.size), error, np.zeros_like(error))
    knowing_all = calibrate(np.abs(error) + 1e-9, error, np.zeros_like(error))
    assert knowing_nothing is not None
    assert knowing_all is not None
    assert knowing_nothing.ause == pytest.approx(knowing_nothing.ause_by_chance, abs=0.02)
    assert knowing_all.ause == pytest.approx(0.0, abs=1e-9)
    assert knowing_all.ence < 1e-6


@pytest.mark.parametrize(("spread", "student"), [(np.zeros(30), np.ones(30)), (np.ones(30), np.zeros(30))])
def test_without_spread_or_error_there_is_nothing_to_calibrate(spread: np.ndarray, student: np.ndarray) -> None:
    assert calibrate(spread, student, np.zeros(30)) is None
