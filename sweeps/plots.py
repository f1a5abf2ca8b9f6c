"""Pictures, one consistent style; the only file that imports matplotlib. Nothing here computes a figure.

A drawing is made without pyplot, so there is no global state and no display. Its SVG follows the reader's light or dark
setting and uses the reader's own font; its PNG is for viewers that show nothing else.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator
from numpy.typing import NDArray

from sweeps.statistics import Interval

# Light colour -> the colour that takes its place on a dark page; each pair has a contrast of 3 or more to its page, and
# the three data colours stay apart for the common kinds of colour blindness (after Okabe and Ito).
INK, SOFT, GRID = "#1f2933", "#5f6b7a", "#d9dee4"
STUDENT, TEACHER, AGENT = "#0067b1", "#c2500a", "#00785f"
PLUM, MUSTARD, ROSE, TEAL, OLIVE, BROWN = "#7b4bb7", "#846300", "#b0336e", "#2b7a91", "#4f7a1d", "#8a4b34"
"""for things without a colour of their own, after the three above"""
DARK = {
    PLUM: "#bd9bf0",
    MUSTARD: "#d6b13f",
    ROSE: "#f086b4",
    TEAL: "#6cc4dc",
    OLIVE: "#a5cf6d",
    BROWN: "#d8a48f",
    INK: "#e6e9ed",
    SOFT: "#9aa5b1",
    GRID: "#38424d",
    STUDENT: "#6ab7f5",
    TEACHER: "#f39a5e",
    AGENT: "#45cba4",
}
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: small files, the reader's font
    "svg.hashsalt": "vlm-reward-rl",  # the same drawing gives the same bytes
    "font.size": 10.0,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": SOFT,
    "axes.titlesize": 10.0,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "figure.constrained_layout.use": True,
}
FONT = "system-ui,-apple-system,&quot;Segoe UI&quot;,Roboto,Helvetica,Arial,sans-serif"
WIDTH = 4.4
"""inches; narrow, so that labels stay readable on a telephone"""
MOST_POINTS = 1500
"""more points than this make a scatter heavier, not clearer"""


class Drawing:
    """A finished figure, as bytes."""

    def __init__(self, figure: Figure) -> None:
        self._figure = figure

    def svg(self) -> bytes:
        """SVG without fonts, scripts or addresses to fetch, light or dark as the reader's setting says."""
        stream = BytesIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        with _style():
            self._figure.savefig(stream, format="svg", transparent=True, metadata=nothing)
        text = stream.getvalue().decode()
        start = text.index("<svg")
        body = text.index(">", start) + 1
        text = f"{text[start:body]}<style>{_dark_rules()}</style>{text[body:]}"
        return text.replace("'DejaVu Sans'", FONT).encode()

    def pdf(self) -> bytes:
        """PDF with the text as text, for a paper."""
        stream = BytesIO()
        with _style():
            self._figure.savefig(stream, format="pdf", metadata={"CreationDate": None})
        return stream.getvalue()

    def png(self) -> bytes:
        """PNG on white, 144 dots an inch."""
        stream = BytesIO()
        with _style():
            self._figure.savefig(stream, format="png", dpi=144, facecolor="white")
        return stream.getvalue()


@dataclass(frozen=True)
class Curve:
    """A mean with its interval at each of some moments of training."""

    steps: Sequence[int]
    intervals: Sequence[Interval]


@dataclass(frozen=True)
class Trace:
    """One episode as student and teacher saw it."""

    title: str
    step: NDArray[np.int64]
    student: NDArray[np.floating[Any]]
    teacher: NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Line:
    """One line of a panel."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    colour: str = STUDENT
    style: Literal["solid", "dashed", "dotted"] = "solid"


@dataclass(frozen=True)
class Panel:
    """Lines over a common axis."""

    title: str
    """what the lines show"""
    xlabel: str
    lines: Sequence[Line]
    ticks: Sequence[str] = ()
    """names of x = 0, 1, ...; without them x is a scale"""
    reference: tuple[str, float] | None = None
    """a level to compare with, and what it is"""
    diagonal: str = ""
    """what it means that x and y are the same; empty: no such line"""


@dataclass(frozen=True)
class Point:
    """Something with a price and a worth."""

    label: str
    x: float
    y: float


def learning_curve(
    true_return: Curve,
    learned_return: Curve | None,
    random_policy: Interval | None,
    final: Interval | None,
    *,
    overoptimised: tuple[int, int] | None = None,
    asked: Sequence[int] = (),
) -> Drawing:
    """True return over agent steps beside the random policy's band; below it, the return the agent was trained on.

    The steps between which the agent over-optimised its reward are shaded; those at which the teacher was `asked` to
    refine it are marked.
    """
    with _style():
        figure = Figure(figsize=(WIDTH, 4.3 if learned_return else 3.4))
        rows = figure.subplots(
            2 if learned_return else 1,
            1,
            sharex=True,
            squeeze=False,
            height_ratios=(3, 1.2)[: 2 if learned_return else 1],
        )
        upper: Axes = rows[0, 0]
        last = max(true_return.steps)
        if random_policy is not None:
            upper.axhspan(random_policy.low, random_policy.high, color=SOFT, alpha=0.25, linewidth=0)
            upper.axhline(random_policy.mean, color=SOFT, linestyle=(0, (4, 2)), label="random policy")
        if overoptimised is not None:
            for axes in rows[:, 0]:
                axes.axvspan(*overoptimised, color=TEACHER, alpha=0.18, linewidth=0, label="over-optimised")
        for axes in rows[:, 0]:
            for number, steps in enumerate(asked):
                label = "teacher asked" if number == 0 else None
                axes.axvline(steps, color=TEACHER, linewidth=1.2, linestyle=(0, (1, 1.5)), label=label)
        _curve(upper, true_return, AGENT, "agent in training")
        if final is not None:
            bar = np.array([[final.mean - final.low], [final.high - final.mean]])
            upper.errorbar(
                [last],
                [final.mean],
                yerr=bar,
                color=INK,
                marker="D",
                markersize=5,
                capsize=3,
                linestyle="none",
                label="final agent",
            )
        upper.set_title("True return (the simulator's own reward, an episode)")
        figure.legend(
            *upper.get_legend_handles_labels(), loc="outside upper right", ncols=3, fontsize=9, columnspacing=1.2
        )
        lower: Axes = rows[-1, 0]
        if learned_return:
            _curve(lower, learned_return, STUDENT, "learned return")
            lower.set_title("Learned return (what the agent was trained on)")
            lower.yaxis.set_major_locator(MaxNLocator(3))
        lower.set_xlabel("agent steps")
        lower.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        lower.set_xlim(left=0)
        return Drawing(figure)


def student_against_teacher(student: NDArray[np.floating[Any]], teacher: NDArray[np.floating[Any]]) -> Drawing:
    """Scatter of rewards (N,), student over teacher; evenly chosen frames where there are more than MOST_POINTS."""
    chosen = np.linspace(0, len(teacher) - 1, min(len(teacher), MOST_POINTS)).astype(int)
    with _style():
        figure = Figure(figsize=(WIDTH, 3.9))
        axes = figure.subplots()
        ends = [min(student.min(), teacher.min()), max(student.max(), teacher.max())]
        axes.plot(ends, ends, color=SOFT, linewidth=1.2, linestyle=(0, (4, 2)), label="student = teacher")
        axes.scatter(
            teacher[chosen], student[chosen], s=9, color=STUDENT, alpha=0.35, linewidths=0, label="a held-out frame"
        )
        axes.set_xlabel("teacher's reward")
        axes.set_title("Student's reward")
        axes.legend(loc="upper left", fontsize=9)
        return Drawing(figure)


def episode_traces(traces: Sequence[Trace]) -> Drawing:
    """Student and teacher along a few episodes, one below the other, on one scale."""
    with _style():
        figure = Figure(figsize=(WIDTH, 1.0 + 1.25 * len(traces)))
        rows = figure.subplots(len(traces), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
        for axes, trace in zip(rows, traces, strict=True):
            axes.plot(trace.step, trace.teacher, color=TEACHER, label="teacher")
            axes.plot(trace.step, trace.student, color=STUDENT, linestyle=(0, (3, 1.2)), label="student")
            axes.set_title(trace.title)
            axes.yaxis.set_major_locator(MaxNLocator(3))
        figure.legend(*rows[0].get_legend_handles_labels(), loc="outside upper right", ncols=2, fontsize=9)
        rows[-1].set_xlabel("agent steps in the episode")
        return Drawing(figure)


def panels(shown: Sequence[Panel]) -> Drawing:
    """Panels of lines, one below the other, each with a legend of its own where it has more than one line."""
    with _style():
        figure = Figure(figsize=(WIDTH, 0.2 + 2.9 * len(shown)))
        for axes, panel in zip(figure.subplots(len(shown), 1, squeeze=False)[:, 0], shown, strict=True):
            _panel(axes, panel)
        return Drawing(figure)


def front(points: Sequence[Point], xlabel: str, title: str) -> Drawing:
    """Worth over price, far prices on a logarithmic scale; the line joins the points that no other beats in both."""
    with _style():
        figure = Figure(figsize=(WIDTH * 1.6, 3.9))
        axes = figure.subplots()
        best = pareto(points)
        axes.plot([p.x for p in best], [p.y for p in best], color=SOFT, linewidth=1.2, linestyle=(0, (4, 2)))
        axes.scatter([p.x for p in points], [p.y for p in points], s=34, color=STUDENT, zorder=3)
        low, high = min(p.y for p in points), max(p.y for p in points)
        for number, point in enumerate(sorted(points, key=lambda p: p.y)):
            above = number % 2 or point.y == high
            axes.annotate(
                point.label,
                (point.x, point.y),
                xytext=(0, 7 if above else -14),
                textcoords="offset points",
                ha="center",
                fontsize=9,
                color=INK,
            )
        if max(p.x for p in points) > 4 * min(p.x for p in points):
            axes.set_xscale("log", subs=[])
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.margins(x=0.2)
        margin = 0.18 * max(high - low, 0.01)
        axes.set_ylim(low - margin, high + margin)
        axes.set_xlabel(xlabel)
        axes.set_title(title)
        return Drawing(figure)


def pareto(points: Sequence[Point]) -> list[Point]:
    """The points that no other point beats or equals with a lower x and a higher y, in the order of x."""
    best: list[Point] = []
    for point in sorted(points, key=lambda p: (p.x, -p.y)):
        if not best or point.y > best[-1].y:
            best.append(point)
    return best


def clouds(
    labelled: NDArray[np.floating[Any]], visited: NDArray[np.floating[Any]], asked: NDArray[np.floating[Any]]
) -> Drawing:
    """Frames (N, 2) on a plane: what the labels show, what the agent visits, and what the teacher was asked about."""
    with _style():
        figure = Figure(figsize=(WIDTH, 3.9))
        axes = figure.subplots()
        for points, colour, size, alpha, label in (
            (labelled, SOFT, 7, 0.35, "labelled"),
            (visited, STUDENT, 7, 0.5, "visited"),
            (asked, TEACHER, 22, 1.0, "asked about"),
        ):
            chosen = np.linspace(0, len(points) - 1, min(len(points), MOST_POINTS)).astype(int)
            x, y = points[chosen].T
            axes.scatter(x, y, s=size, color=colour, alpha=alpha, linewidths=0, label=label)
        axes.set_xlabel("first principal component")
        axes.set_title("Second principal component")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper right", ncols=3, fontsize=9)
        return Drawing(figure)


def by_episode(drifts: Sequence[float], errors: Mapping[int, float], looks: Sequence[int]) -> Drawing:
    """Drift of each episode and, where the teacher scored some of its frames, the student's error on them.

    Args:
        drifts: of the episodes, in their order.
        errors: by the number of the episode, from 0.
        looks: numbers of the episodes with which a refinement's visits begin; a line stands before each.
    """
    with _style():
        figure = Figure(figsize=(WIDTH, 3.9))
        above, below = figure.subplots(2, 1, sharex=True)
        for axes in (above, below):
            for look in looks:
                axes.axvline(look - 0.5, color=GRID, linewidth=1.0)
            axes.yaxis.set_major_locator(MaxNLocator(4))
        above.plot(drifts, color=STUDENT, marker="o", markersize=3.5, linewidth=1.0)
        above.set_ylim(bottom=0)
        above.set_title("Drift")
        below.plot(list(errors), list(errors.values()), color=TEACHER, marker="o", markersize=4.5, linestyle="none")
        below.set_ylim(bottom=0)
        below.set_title("Squared error on audited frames")
        below.set_xlabel("episode, in the order of training; a line before those of each look")
        below.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        return Drawing(figure)


def reward_histogram(student: NDArray[np.floating[Any]], teacher: NDArray[np.floating[Any]]) -> Drawing:
    """How the rewards (N,) of student and teacher are distributed over the same frames."""
    edges = np.histogram_bin_edges(np.concatenate([student, teacher]), bins=40).tolist()
    with _style():
        figure = Figure(figsize=(WIDTH, 2.8))
        axes = figure.subplots()
        axes.hist(teacher, bins=edges, histtype="stepfilled", color=TEACHER, alpha=0.3, label="teacher")
        axes.hist(student, bins=edges, histtype="step", color=STUDENT, linewidth=1.8, label="student")
        axes.set_title("Held-out frames")
        axes.set_xlabel("reward")
        axes.legend(loc="best", fontsize=9)
        return Drawing(figure)


def time_bars(seconds: Mapping[str, float]) -> Drawing:
    """Seconds by name, in the order given, each with its share of the whole."""
    whole = sum(seconds.values())
    with _style():
        figure = Figure(figsize=(WIDTH, 0.75 + 0.34 * len(seconds)))
        axes = figure.subplots()
        bars = axes.barh(list(seconds), list(seconds.values()), color=AGENT, height=0.62)
        share = [f"{value:,.1f} s, {value / whole:.0%}" if whole else f"{value:,.1f} s" for value in seconds.values()]
        axes.bar_label(bars, share, padding=4, fontsize=9, color=INK)
        axes.invert_yaxis()
        axes.margins(x=0.28)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.set_xlabel("seconds")
        return Drawing(figure)


def latency_histogram(bins: Sequence[tuple[float, float, int]], quantiles: Sequence[float]) -> Drawing:
    """How many calls took how long: (low, high, calls) in seconds, drawn in milliseconds on a log scale.

    Vertical lines stand at the quantiles (seconds).
    """
    with _style():
        figure = Figure(figsize=(WIDTH, 2.4))
        axes = figure.subplots()
        lows = [1000 * low for low, _, _ in bins]
        widths = [1000 * (high - low) for low, high, _ in bins]
        axes.bar(lows, [calls for _, _, calls in bins], width=widths, align="edge", color=STUDENT)
        for seconds, line in zip(quantiles, ("solid", "dashed", "dotted"), strict=True):
            axes.axvline(1000 * seconds, color=INK, linestyle=line, linewidth=1.2)
        axes.set_xscale("log", subs=[])
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_title("Calls of the reward function")
        axes.set_xlabel("milliseconds a call")
        return Drawing(figure)


def _style() -> AbstractContextManager[None]:
    return mpl.rc_context(STYLE)


def _panel(axes: Axes, panel: Panel) -> None:
    if panel.reference is not None:
        label, level = panel.reference
        axes.axhline(level, color=SOFT, linewidth=1.2, linestyle=(0, (4, 2)), label=label)
    for line in panel.lines:
        axes.plot(line.x, line.y, color=line.colour, linestyle=line.style, marker="o", markersize=3.5, label=line.label)
    if panel.diagonal:
        ends = [value for line in panel.lines for value in (*line.x, *line.y)]
        span = [min(ends), max(ends)]
        axes.plot(span, span, color=SOFT, linewidth=1.2, linestyle=(0, (4, 2)), label=panel.diagonal)
    if panel.ticks:
        axes.set_xticks(range(len(panel.ticks)), panel.ticks)
    elif not panel.diagonal:
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_title(panel.title)
    axes.set_xlabel(panel.xlabel)
    if len(panel.lines) + bool(panel.reference) + bool(panel.diagonal) > 1:
        axes.legend(loc="upper center", bbox_to_anchor=(0.45, -0.24), ncols=3, fontsize=9, columnspacing=1.2)


def _curve(axes: Axes, curve: Curve, colour: str, label: str) -> None:
    low, high = [i.low for i in curve.intervals], [i.high for i in curve.intervals]
    axes.fill_between(curve.steps, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.plot(curve.steps, [i.mean for i in curve.intervals], color=colour, marker="o", markersize=3.5, label=label)


def _dark_rules() -> str:
    rules = [
        f'[style*="{kind}: {light}"]{{{kind}:{dark}!important}}'
        for light, dark in DARK.items()
        for kind in ("fill", "stroke")
    ]
    return "@media (prefers-color-scheme:dark){" + "".join(rules) + "}"
