"""A video of one episode: the task's camera, and beside it the curves of its rewards."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import imageio.v2 as imageio
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

SIDE = 256
"""pixels of the frame and of the panel beside it; H.264 wants multiples of 16"""
SECONDS = 10.0
"""what the length of an episode is brought near to"""
FRAMES_PER_SECOND = (10, 50)
MARGIN, TITLE, LINE_HEIGHT = 10, 17, 19
"""pixels: around a chart, height of a title's letters, height of a line of text"""

Colour = tuple[int, int, int]
Frame = NDArray[np.uint8]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
# As on the trial's page, with the lighter form for what lies ahead.
TRUE, STUDENT, TEACHER = (0, 120, 95), (0, 103, 177), (194, 80, 10)
INK, MUTED, PAPER = (30, 30, 34), (120, 120, 128), (255, 255, 255)
AHEAD = 0.75
"""how much paler than its colour the part of a curve is that is still to come"""


@dataclass(frozen=True)
class Curve:
    """What one reward said of an episode."""

    name: str
    """a word; it stands beside the present value"""
    colour: Colour
    """RGB, 0 to 255"""
    values: NDArray[np.float64]
    """(T,) an entry a decision"""


@dataclass(frozen=True)
class Chart:
    """Curves on one scale."""

    title: str
    """what they have in common"""
    curves: Sequence[Curve]
    """one or a few, all of one length"""


def write_episode(path: Path, frames: Sequence[Frame], charts: Sequence[Chart]) -> None:
    """Write one episode as H.264: its frames (T of (S, S, 3)), one a decision, with their charts beside them."""
    low, high = FRAMES_PER_SECOND
    rate = min(max(round(len(frames) / SECONDS), low), high)
    write_video(path, (beside_charts(frame, charts, step) for step, frame in enumerate(frames)), rate)


def beside_charts(frame: Frame, charts: Sequence[Chart], step: int) -> Frame:
    """The frame (S, S, 3) of a step with a panel to its right, one chart below the other: (S, 2 S, 3)."""
    side = frame.shape[0]
    panel = Image.new("RGB", (side, side), PAPER)
    height = side // len(charts)
    for number, chart in enumerate(charts):
        panel.paste(_picture(chart, step, (side, height)), (0, number * height))
    return np.concatenate([frame, np.asarray(panel)], axis=1)


def _picture(chart: Chart, step: int, size: tuple[int, int]) -> Image.Image:
    picture = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(picture)
    draw.text((MARGIN, 4), chart.title, fill=INK, font=_font(TITLE - 3))
    x = MARGIN
    for curve in chart.curves:
        words = f"{curve.name} {_number(curve.values[step], 2)}"
        draw.text((x, 4 + LINE_HEIGHT), words, fill=curve.colour, font=_font(TITLE))
        x += round(draw.textlength(f"{words}   ", font=_font(TITLE)))
    low = min(float(curve.values.min()) for curve in chart.curves)
    high = max(float(curve.values.max()) for curve in chart.curves)
    left, right, bottom = MARGIN + 40, size[0] - MARGIN, size[1] - MARGIN
    room = size[1] - 2 * LINE_HEIGHT - 2 * MARGIN - 4
    for value, y in ((high, bottom - room), (low, bottom)):
        draw.text((left - 6, y), _number(value, 1), fill=MUTED, font=_font(TITLE - 4), anchor="rm")
    scale = room / (high - low) if high > low else 0.0
    for curve in chart.curves:
        along = np.linspace(left, right, len(curve.values))
        points = list(zip(along.tolist(), (bottom - (curve.values - low) * scale).tolist(), strict=True))
        if len(points) > 1:
            draw.line(points, fill=_paler(curve.colour), width=1)
        if step > 0:
            draw.line(points[: step + 1], fill=curve.colour, width=2)
        x, y = points[step]
        draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=curve.colour)
    return picture


def _number(value: float, digits: int) -> str:
    return f"{round(float(value), digits) + 0.0:.{digits}f}"  # never -0.00


def _paler(colour: Colour) -> Colour:
    red, green, blue = (round(part + (255 - part) * AHEAD) for part in colour)
    return red, green, blue


@cache
def _font(size: int) -> Font:
    return ImageFont.load_default(size)


def write_video(path: Path, frames: Iterable[Frame], frames_per_second: int) -> None:
    """Write frames as an mp4 that browsers play, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        with imageio.get_writer(temporary, fps=frames_per_second, codec="libx264", pixelformat="yuv420p") as writer:
            for frame in frames:
                writer.append_data(frame)  # type: ignore[attr-defined]  # missing in its annotations
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
