"""Drawings: well-formed, adaptive to dark pages, readable text, bounded size, the same bytes for the same data."""

import re
from collections.abc import Callable
from xml.etree import ElementTree

import numpy as np
import pytest

from sweeps import plots
from sweeps.statistics import Interval

REWARDS = np.linspace(0.7, 0.9, 200)
CURVE = plots.Curve([0, 1000, 2000], [Interval(30, 20, 40), Interval(200, 150, 260), Interval(480, 450, 500)])

POINTS = [plots.Point(name, *place) for name, place in {"a": (1, 0.8), "b": (4, 0.7), "c": (9, 0.95)}.items()]

DRAWINGS: dict[str, Callable[[], plots.Drawing]] = {
    "learning_curve": lambda: plots.learning_curve(CURVE, CURVE, Interval(25, 20, 30), Interval(500, 480, 515)),
    "over_optimised": lambda: plots.learning_curve(
        CURVE, CURVE, Interval(25, 20, 30), None, overoptimised=(1000, 2000)
    ),
    "refined": lambda: plots.learning_curve(CURVE, None, None, None, asked=[500, 1500]),
    "learning_curve_alone": lambda: plots.learning_curve(CURVE, None, None, None),
    "student_against_teacher": lambda: plots.student_against_teacher(REWARDS, REWARDS**2),
    "episode_traces": lambda: plots.episode_traces([plots.Trace("episode 3", np.arange(200), REWARDS, REWARDS**2)]),
    "clouds": lambda: plots.clouds(*np.random.default_rng(0).normal(size=(3, 40, 2))),
    "reward_histogram": lambda: plots.reward_histogram(REWARDS, REWARDS**2),
    "panels": lambda: plots.panels(
        [
            plots.Panel("Loss", "epoch", [plots.Line("training", [1, 2], [0.5, 0.2], plots.SOFT, "dashed")]),
            plots.Panel(
                "Order", "margin", [plots.Line("pairs", [0, 1], [0.6, 0.9])], ["small", "large"], ("guess", 0.5)
            ),
            plots.Panel("Error", "spread", [plots.Line("a tenth", [0.1, 0.2], [0.1, 0.3])], diagonal="error = spread"),
        ]
    ),
    "front": lambda: plots.front(POINTS, "milliseconds", "Fidelity"),
    "time_bars": lambda: plots.time_bars({"simulate": 30.0, "update": 90.0}),
}


def texts(svg: bytes) -> list[str]:
    """Everything that a reader can read in a drawing."""
    return [element.text or "" for element in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize("name", DRAWINGS)
def test_svg_is_well_formed_and_fetches_nothing(name: str) -> None:
    svg = DRAWINGS[name]().svg()

    root = ElementTree.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    names_of_standards = re.sub(rb'xmlns(:\w+)?="[^"]*"', b"", svg)
    assert b"http" not in names_of_standards
    assert b"<script" not in svg


@pytest.mark.parametrize("name", DRAWINGS)
def test_every_colour_of_a_drawing_has_a_dark_form(name: str) -> None:
    svg = DRAWINGS[name]().svg().decode()

    style, drawn = re.findall(r"<style>(.*?)</style>", svg)[0], re.sub(r"<style>.*?</style>", "", svg, flags=re.DOTALL)
    used = set(re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", drawn))
    assert used
    assert "prefers-color-scheme:dark" in style
    assert all(f'[style*="fill: {colour}"]' in style and f'[style*="stroke: {colour}"]' in style for colour in used)


@pytest.mark.parametrize("name", DRAWINGS)
def test_text_uses_the_readers_font(name: str) -> None:
    svg = DRAWINGS[name]().svg()

    assert b"system-ui" in svg
    assert b"DejaVu Sans'" not in svg


def test_same_data_give_the_same_bytes() -> None:
    assert DRAWINGS["learning_curve"]().svg() == DRAWINGS["learning_curve"]().svg()


def test_png_has_its_signature() -> None:
    assert DRAWINGS["time_bars"]().png().startswith(b"\x89PNG\r\n\x1a\n")


def test_learning_curve_starts_at_step_zero_and_names_its_axes_and_lines() -> None:
    shown = texts(DRAWINGS["learning_curve"]().svg())

    assert {"0", "agent steps", "random policy", "agent in training", "final agent"} <= set(shown)
    assert any(text.startswith("True return") for text in shown)
    assert any(text.startswith("Learned return") for text in shown)


def test_learning_curve_without_learned_return_has_one_panel() -> None:
    shown = texts(DRAWINGS["learning_curve_alone"]().svg())

    assert not any(text.startswith("Learned return") for text in shown)
    assert "random policy" not in shown


def test_time_bars_show_seconds_and_shares() -> None:
    assert {"simulate", "update", "30.0 s, 25%", "90.0 s, 75%", "seconds"} <= set(texts(DRAWINGS["time_bars"]().svg()))


def test_time_bars_of_nothing_but_zeros_can_be_drawn() -> None:
    assert "0.0 s" in " ".join(texts(plots.time_bars({"simulate": 0.0}).svg()))


def test_scatter_of_many_frames_stays_small() -> None:
    many = np.random.default_rng(0).normal(size=100_000)

    assert len(plots.student_against_teacher(many, many).svg()) < 400_000


def test_panels_name_their_lines_levels_and_ticks() -> None:
    shown = set(texts(DRAWINGS["panels"]().svg()))

    assert {"Loss", "epoch", "pairs", "guess", "small", "large", "a tenth", "error = spread"} <= shown
    assert "training" not in shown  # a single line needs no legend


def test_front_names_every_point_and_joins_those_that_no_other_beats() -> None:
    assert {"a", "b", "c", "milliseconds", "Fidelity"} <= set(texts(DRAWINGS["front"]().svg()))
    assert [point.label for point in plots.pareto(POINTS)] == ["a", "c"]
    same = [plots.Point("slow", 2, 0.9), plots.Point("fast", 1, 0.9), plots.Point("worse", 1, 0.8)]
    assert [point.label for point in plots.pareto(same)] == ["fast"]
