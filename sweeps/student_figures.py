"""A fitted student's files -> its drawings by name; a drawing whose data are missing is left out."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lightning_modules.calibration import Calibration
from lightning_modules.fidelity import OrderAtMargin, order_accuracy_by_margin
from lightning_modules.residuals import Residuals, residuals_by_quantile, residuals_by_time
from sweeps import plots
from sweeps.figures import chosen_traces
from sweeps.student_folder import FittedStudent

SCATTER, TRACES, HISTOGRAM, CURVES = "student_against_teacher", "episode_traces", "rewards", "fit_curves"
ORDER, BY_REWARD, BY_TIME = "order_by_margin", "residuals_by_reward", "residuals_by_time"
SPREAD, SPARSIFICATION = "spread_and_error", "sparsification"
NAMES = (SCATTER, TRACES, HISTOGRAM, CURVES, ORDER, BY_REWARD, BY_TIME, SPREAD, SPARSIFICATION)
RESIDUAL_TITLE = "Student less teacher, in standard deviations"


def draw_student(student: FittedStudent, calibration: Calibration | None) -> dict[str, plots.Drawing]:
    """Every drawing that this student has data for."""
    held_out = student.held_out
    said, asked = held_out.student.astype(np.float64), held_out.teacher.astype(np.float64)
    drawings = {
        SCATTER: plots.student_against_teacher(said, asked),
        HISTOGRAM: plots.reward_histogram(said, asked),
        ORDER: _order(order_accuracy_by_margin(said, asked)),
        BY_REWARD: _by_reward(residuals_by_quantile(said, asked)),
        BY_TIME: _by_time(residuals_by_time(said, asked, held_out.step)),
    }
    if traces := chosen_traces(held_out, student.episode_name):
        drawings[TRACES] = plots.episode_traces(traces)
    if curves := student.result.get("curves"):
        drawings[CURVES] = _fit_curves(curves)
    if calibration is not None:
        drawings |= _calibration(calibration)
    return drawings


def _fit_curves(curves: Sequence[Mapping[str, Any]]) -> plots.Drawing:
    def line(label: str, key: str, colour: str, style: Any = "solid") -> plots.Line:
        known = [epoch for epoch in curves if epoch.get(key) is not None]
        return plots.Line(label, [epoch["epoch"] for epoch in known], [epoch[key] for epoch in known], colour, style)

    loss = [line("training", "train_loss", plots.SOFT, "dashed"), line("validation", "validation_loss", plots.STUDENT)]
    order = [
        line("all frames", "validation_spearman_pooled", plots.AGENT, "dashed"),
        line("inside an episode", "validation_spearman_within_episode", plots.STUDENT),
    ]
    return plots.panels(
        [plots.Panel("Loss", "epoch", loss), plots.Panel("Spearman on the validation episodes", "epoch", order)]
    )


def _order(bins: Sequence[OrderAtMargin]) -> plots.Drawing:
    known = [(number, each.accuracy) for number, each in enumerate(bins) if each.accuracy is not None]
    line = plots.Line("pairs in the teacher's order", [number for number, _ in known], [share for _, share in known])
    ticks = [f"> {each.low:g}" if each.high is None else f"\N{LESS-THAN OR EQUAL TO} {each.high:g}" for each in bins]
    panel = plots.Panel(
        "Share of pairs in the teacher's order",
        "difference in the teacher's reward, in standard deviations",
        [line],
        ticks,
        reference=("guessing", 0.5),
    )
    return plots.panels([panel])


def _by_reward(parts: Sequence[Residuals]) -> plots.Drawing:
    places = list(range(len(parts)))
    panel = plots.Panel(
        RESIDUAL_TITLE,
        "tenths of the frames, by the teacher's reward",
        _residual_lines(places, parts),
        [str(place + 1) for place in places],
        reference=("no error", 0.0),
    )
    return plots.panels([panel])


def _by_time(parts: Sequence[Residuals]) -> plots.Drawing:
    middles = [(part.low + part.high) / 2 for part in parts]
    panel = plots.Panel(
        RESIDUAL_TITLE, "agent steps in the episode", _residual_lines(middles, parts), reference=("no error", 0.0)
    )
    return plots.panels([panel])


def _residual_lines(places: Sequence[float], parts: Sequence[Residuals]) -> list[plots.Line]:
    return [
        plots.Line("mean size", places, [part.mae for part in parts], plots.AGENT, "dashed"),
        plots.Line("mean", places, [part.bias for part in parts], plots.STUDENT),
    ]


def _calibration(found: Calibration) -> dict[str, plots.Drawing]:
    line = plots.Line(
        "a tenth of the frames", [each.spread for each in found.bins], [each.error for each in found.bins]
    )
    spread = plots.Panel(
        "Error (root mean square)", "spread of the members (root mean square)", [line], diagonal="error = spread"
    )
    curves = found.sparsification
    percent = [100 * fraction for fraction in curves.fraction]
    aside = plots.Panel(
        "Error of the rest, over that of all frames",
        "% of the frames put aside",
        [
            plots.Line("spread first", percent, curves.by_spread),
            plots.Line("error first, the best", percent, curves.by_error, plots.SOFT, "dotted"),
        ],
        reference=("any order", 1.0),
    )
    return {SPREAD: plots.panels([spread]), SPARSIFICATION: plots.panels([aside])}
