"""Pictures of a comparison, in the style of all others; nothing here computes a figure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from sweeps.plots import (
    AGENT,
    BROWN,
    GRID,
    INK,
    MUSTARD,
    OLIVE,
    PLUM,
    ROSE,
    SOFT,
    STUDENT,
    STYLE,
    TEACHER,
    TEAL,
    WIDTH,
    Drawing,
)
from sweeps.run_statistics import Estimate, Profile

OWN_COLOURS = {"student": STUDENT, "teacher": TEACHER, "true": AGENT, "random": SOFT}
"""things that have a colour on every page"""
COLOURS = (STUDENT, TEACHER, AGENT, PLUM, MUSTARD, ROSE, TEAL, OLIVE, BROWN, SOFT)
STYLES: Sequence[Any] = ("solid", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1.2, 1.5)))
"""lines differ in more than their colour"""
MARKERS = "osD^vPX*"


@dataclass(frozen=True)
class ArmCurve:
    """One arm's curve over agent steps or teacher queries: a mean over seeds with its interval at each point."""

    label: str
    steps: Sequence[float]
    heights: Sequence[Estimate]


Trend = Sequence[tuple[float, Estimate]]
"""a figure at each value of a setting, in its order"""


@dataclass(frozen=True)
class ArmDots:
    """One arm's finals: each seed's, their mean and its interval."""

    label: str
    values: Sequence[float]
    mean: Estimate


class Look:
    """Colour, line and marker of each arm, the same in every picture of a page."""

    def __init__(self, arms: Sequence[str]) -> None:
        free = [colour for colour in COLOURS if colour not in {OWN_COLOURS.get(arm) for arm in arms}]
        self._colour = {
            arm: OWN_COLOURS.get(arm, (free or COLOURS)[number % len(free or COLOURS)])
            for number, arm in enumerate(arms)
        }
        self._number = {arm: number for number, arm in enumerate(arms)}

    def line(self, arm: str) -> dict[str, Any]:
        """How its lines are drawn."""
        number = self._number[arm]
        return {"color": self._colour[arm], "linestyle": STYLES[number % len(STYLES)]}

    def colour(self, arm: str) -> str:
        """What its areas and dots are filled with."""
        return self._colour[arm]

    def marker(self, arm: str) -> str:
        """The shape of its dots."""
        return MARKERS[self._number[arm] % len(MARKERS)]


def arm_curves(
    title: str, curves: Sequence[ArmCurve], look: Look, random_policy: float | None, threshold: float | None
) -> Drawing:
    """True return over agent steps, a line an arm, its interval shaded."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.5))
        axes: Axes = figure.subplots()
        for name, level in (("random policy", random_policy), ("threshold", threshold)):
            if level is not None:
                style = (0, (1, 2)) if name == "threshold" else (0, (4, 2))
                axes.axhline(level, color=SOFT, linewidth=1.1, linestyle=style, label=name)
        for curve in curves:
            _band(axes, curve, look)
            _line(axes, curve, look)
        axes.set_title(title)
        axes.set_xlabel("agent steps")
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        _legend(figure, axes)
        return Drawing(figure)


def arm_dots(title: str, arms: Sequence[ArmDots], look: Look) -> Drawing:
    """Every seed as a dot, the mean as a bar through its interval, an arm a row."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.9 + 0.42 * len(arms)))
        axes: Axes = figure.subplots()
        for row, arm in enumerate(arms):
            colour = look.colour(arm.label)
            axes.plot([arm.mean.low, arm.mean.high], [row, row], color=colour, linewidth=6, alpha=0.28)
            axes.plot([arm.mean.value], [row], color=colour, marker="|", markersize=15, markeredgewidth=2.5)
            axes.plot(arm.values, [row] * len(arm.values), color=colour, marker="o", markersize=4.5, linestyle="none")
        axes.set_yticks(range(len(arms)), [arm.label for arm in arms])
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.set_ylim(len(arms) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        _title(figure, title)
        return Drawing(figure)


def query_curves(title: str, curves: Sequence[ArmCurve], baseline: str, look: Look) -> Drawing:
    """Error over teacher queries, a line an arm, that of the baseline with its interval."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.5))
        axes: Axes = figure.subplots()
        for curve in curves:
            if curve.label == baseline:
                _band(axes, curve, look)
            _line(axes, curve, look)
        axes.set_title(title)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("teacher queries in the training so far")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        _legend(figure, axes)
        return Drawing(figure)


def trends(shown: Mapping[str, Trend], setting: str) -> Drawing:
    """Figures over the value of one setting, one below the other."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.6 + 2.1 * len(shown)))
        rows = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (title, points), colour in zip(rows, shown.items(), COLOURS, strict=False):
            x = [value for value, _ in points]
            low, high = [each.low for _, each in points], [each.high for _, each in points]
            axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
            axes.plot(x, [each.value for _, each in points], color=colour, marker="o", markersize=4.5)
            axes.set_title(title)
            axes.yaxis.set_major_locator(MaxNLocator(4))
        rows[-1].set_xlabel(setting)
        return Drawing(figure)


def profiles(shown: Mapping[str, Profile], look: Look) -> Drawing:
    """The share of an arm's runs that score above each score."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.3))
        axes: Axes = figure.subplots()
        for arm, profile in shown.items():
            axes.fill_between(
                profile.thresholds, profile.low, profile.high, color=look.colour(arm), alpha=0.13, linewidth=0
            )
            axes.plot(profile.thresholds, profile.share, label=arm, **look.line(arm))
        axes.set_title("Share of runs that score above")
        axes.set_xlabel("normalised score")
        axes.set_ylim(-0.03, 1.03)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
        _legend(figure, axes)
        return Drawing(figure)


def improvements(reference: str, shown: Mapping[str, Estimate], look: Look) -> Drawing:
    """How likely a run of each arm scores above one of the reference."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 1.1 + 0.42 * len(shown)))
        axes: Axes = figure.subplots()
        axes.axvline(0.5, color=SOFT, linewidth=1.2, linestyle=(0, (4, 2)))
        for row, (arm, estimate) in enumerate(shown.items()):
            colour = look.colour(arm)
            axes.plot([estimate.low, estimate.high], [row, row], color=colour, linewidth=6, alpha=0.28)
            axes.plot([estimate.value], [row], color=colour, marker="o", markersize=6)
        axes.set_yticks(range(len(shown)), list(shown))
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.set_xlim(-0.03, 1.03)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
        axes.grid(visible=False, axis="y")
        _title(figure, f"Chance that a run beats one of: {reference}")
        return Drawing(figure)


def stacked_seconds(arms: Mapping[str, Mapping[str, float]], xlabel: str) -> Drawing:
    """Seconds of each arm by what they were spent on, an arm a bar."""
    fullest = max(arms.values(), key=len)  # it knows the order of them all
    names = list(dict.fromkeys(name for parts in (fullest, *arms.values()) for name in parts))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 1.35 + 0.36 * len(arms)))
        axes: Axes = figure.subplots()
        left = dict.fromkeys(arms, 0.0)
        for number, name in enumerate(names):
            widths = [parts.get(name, 0.0) for parts in arms.values()]
            axes.barh(
                list(arms),
                widths,
                left=list(left.values()),
                color=COLOURS[number % len(COLOURS)],
                edgecolor=GRID,
                linewidth=0.6,
                height=0.62,
                label=name,
            )
            left = {arm: left[arm] + width for arm, width in zip(arms, widths, strict=True)}
        for arm, whole in left.items():
            axes.annotate(
                f"{whole:,.0f}", (whole, arm), xytext=(4, 0), textcoords="offset points", va="center", fontsize=9
            )
        axes.invert_yaxis()
        axes.margins(x=0.12)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.set_xlabel(xlabel)
        _legend(figure, axes)
        return Drawing(figure)


def _band(axes: Axes, curve: ArmCurve, look: Look) -> None:
    low, high = [each.low for each in curve.heights], [each.high for each in curve.heights]
    axes.fill_between(curve.steps, low, high, color=look.colour(curve.label), alpha=0.16, linewidth=0)


def _line(axes: Axes, curve: ArmCurve, look: Look) -> None:
    axes.plot(
        curve.steps,
        [each.value for each in curve.heights],
        marker=look.marker(curve.label),
        markersize=3.5,
        label=curve.label,
        **look.line(curve.label),
    )


def _title(figure: Figure, title: str) -> None:
    """Above the names of the rows, too, which may take half of the width."""
    figure.suptitle(title, x=0.02, ha="left", fontsize=10)


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    longest = max(map(len, labels), default=0)
    columns = 4 if longest < 10 else 3 if longest < 14 else 2 if longest < 24 else 1
    figure.legend(
        handles, labels, loc="outside upper left", ncols=columns, fontsize=9, columnspacing=1.1, handlelength=2.2
    )
