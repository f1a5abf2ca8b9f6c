"""What the page says of refinements: every figure is that of a record."""

from dataclasses import asdict
from pathlib import Path

import numpy as np

from datamodules.results import read_json, write_json
from lightning_modules.drift import Clouds
from rllib_envs.refinement_records import RECORD, EpisodeRecord, RefinementRecord, refinement_folder
from rllib_envs.refinement_settings import RefinementSettings
from sweeps.figures import draw_figures
from sweeps.report import write_report
from sweeps.trial_files import read_trial
from tests.sweeps.page_reader import Page

ACCEPTED = RefinementRecord(
    *(1, 2560, True, "accepted", 1.24, 0.95, 16, 32, 0.0659, 0.0471, 0.1, 0.0194, 0.0142, 2.1, 0.8, 12.3),
    episodes=(EpisodeRecord(60, 1.1, 0, None), EpisodeRecord(68, 1.3, 16, 0.0659)),
)
REJECTED = RefinementRecord(
    2,
    5120,
    False,
    "the squared error on held-out labels grew",
    3.5,
    None,
    0,
    8,
    None,
    None,
    None,
    0.01,
    0.31,
    2.0,
    0.5,
    9.0,
)


def refined(trial: Path) -> Path:
    """The trial as if its student had been refined once and once more in vain."""
    agent = trial / "agent"
    for number, record in enumerate((ACCEPTED, REJECTED), start=1):
        folder = refinement_folder(agent, number)
        points = np.random.default_rng(number).normal(size=(30, 2))
        Clouds(points[:20], points[20:], points[20:23]).write(folder)
        write_json(folder / RECORD, asdict(record))
    card = read_json(agent / "agent.json")
    write_json(agent / "agent.json", {**card, "refinement": asdict(RefinementSettings())})
    figures = {"teacher_queries": 56, "query_budget": 240, "made": 2, "accepted": 1, "exploited": False}
    training = read_json(agent / "result.json")
    write_json(
        agent / "result.json", {**training, "refinement": {**figures, "seconds": {"refine": 26.5, "relabel": 4.25}}}
    )
    return trial


def test_every_refinement_is_a_row_with_its_errors_before_and_after(trial: Path) -> None:
    page = Page(write_report(refined(trial)))
    assert "The teacher, asked again" in page.headings
    assert "56 of at most 240 teacher queries" in page.text
    assert "1 of 2 refinements were accepted, in 26.5 seconds" in page.text
    assert "2,560 1.2 32 + 16 0.066 → 0.047 0.019 → 0.014 accepted" in page.text
    assert "5,120 3.5 8 + 0 \N{EN DASH} 0.010 → 0.310 the squared error on held-out labels grew" in page.text


def test_the_picture_is_of_the_farthest_drift_and_queries_are_marked_on_the_curve(trial: Path) -> None:
    before = draw_figures(read_trial(trial))
    assert "drift" not in before
    assert b"teacher asked" not in before["learning_curve"].svg()
    files = read_trial(refined(trial))
    after = draw_figures(files)
    assert b"teacher asked" in after["learning_curve"].svg()
    assert b"asked about" in after["drift"].svg()
    assert "after 5,120 steps: the farthest it was away" in Page(write_report(trial)).text
    assert b"episode, in the order of training" in after["drift_by_episode"].svg()
    assert "Episode by episode" in Page(write_report(trial)).text


def test_a_trial_without_refinements_says_nothing_of_them(trial: Path) -> None:
    assert "asked again" not in Page(write_report(trial)).text
