"""Which drawings a student has."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from lightning_modules.calibration import calibrate
from sweeps.student_figures import NAMES, draw_student
from sweeps.student_folder import read_student
from tests.sweeps.test_plots import texts


def test_an_ensemble_has_every_drawing(pair: Path) -> None:
    student = read_student(pair)
    held_out = student.held_out
    arrays = (held_out.spread, held_out.student, held_out.teacher)
    drawings = draw_student(student, calibrate(*(each.astype(np.float64) for each in arrays)))
    assert set(drawings) == set(NAMES)
    assert {"training", "validation", "inside an episode"} <= set(texts(drawings["fit_curves"].svg()))
    assert {"mean", "mean size", "10"} <= set(texts(drawings["residuals_by_reward"].svg()))


def test_a_student_alone_has_none_of_its_spread_and_without_curves_none_of_them(single: Path) -> None:
    student = replace(read_student(single), result={})
    assert set(draw_student(student, None)) == set(NAMES) - {"spread_and_error", "sparsification", "fit_curves"}
