"""Runs as a person sees them: MLflow's own page, from a real server, in a real headless browser."""

import io
from collections.abc import Iterator
from pathlib import Path

import imageio.v2 as imageio
import pytest

from lightning_modules.runs import Run
from sweeps.sweep_report import address_of
from tests.lightning_modules.servers import free_port, server
from tests.lightning_modules.students import PIXELS, frame_of
from tests.sweeps.browser import Page, browser, installed

CHROME = installed()
BACKBONES = ("resnet18", "efficientnet_b0")
SEEDS = (0, 1)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(CHROME is None, reason="no Chromium or Chrome is installed, and MLflow's page needs a browser"),
]


class Sweep:
    """Where the runs of a small sweep can be looked at."""

    def __init__(self, folder: Path) -> None:
        """Record the sweep's own run and four trials, as launch_sweep and run_trial record them."""
        self.folder = folder
        store = f"sqlite:///{folder}/mlflow.db"
        self.runs: dict[str, str] = {}
        with Run(store, "backbones", "backbones") as parent:
            parent.share_view(["fit.model.backbone"])
            self.experiment_id = str(parent.experiment_id)
            for backbone in BACKBONES:
                for seed in SEEDS:
                    self._record(store, str(parent.run_id), backbone, seed)

    def _record(self, store: str, parent: str, backbone: str, seed: int) -> None:
        picture = io.BytesIO()
        imageio.imwrite(picture, frame_of(0, seed), format="png")
        with Run(store, "backbones", f"backbone={backbone} seed={seed}", parent=parent) as run:
            run.log_settings({"fit": {"model": {"backbone": backbone}}, "seed": seed})
            run.log_metrics({"final/score": 0.25 + 0.5 * seed, "cost/total_seconds": 100.0})
            run.log_image("learning_curve", picture.getvalue())
            for step in (0, 1000):
                run.log_image("evaluation", picture.getvalue(), step)
        self.runs[f"backbone={backbone} seed={seed}"] = str(run.run_id)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    return Sweep(tmp_path_factory.mktemp("ui"))


@pytest.fixture(scope="module")
def address(sweep: Sweep) -> Iterator[str]:
    with server(sweep.folder, free_port()) as served:
        yield served


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    assert CHROME is not None
    with browser(CHROME) as opened:
        yield opened


def shown(text: str) -> str:
    return f"document.body.innerText.includes({text!r})"


def test_the_table_holds_the_sweeps_own_run_with_its_trials_folded_below(
    sweep: Sweep, address: str, page: Page
) -> None:
    page.open(f"{address}/#/experiments/{sweep.experiment_id}/runs")
    text = page.wait_for(f"{shown('5 matching runs')} && document.body.innerText")
    assert "backbones" in text
    assert "seed=0" not in text


def test_the_address_of_a_sweep_shows_its_arms_as_groups_with_their_mean_score(
    sweep: Sweep, address: str, page: Page
) -> None:
    page.open(address_of(address, sweep.experiment_id))
    for backbone in BACKBONES:
        page.wait_for(shown(f"Group: {backbone}"))
    for name in sweep.runs:
        page.wait_for(shown(name))
    text = page.wait_for(f"{shown('final/score')} && document.body.innerText")
    assert text.count("0.5 (average)") == len(BACKBONES)  # of 0.25 and 0.75


def test_a_runs_picture_is_drawn(sweep: Sweep, address: str, page: Page) -> None:
    run_id = next(iter(sweep.runs.values()))
    page.open(f"{address}/#/experiments/{sweep.experiment_id}/runs/{run_id}/artifacts/figures/learning_curve.png")
    pictures = "[...document.images].filter(each => each.src.startsWith('blob:')).map(each => each.naturalWidth)"
    assert PIXELS in page.wait_for(f"({pictures}).some(width => width > 0) && {pictures}")


def test_a_run_shows_its_pictures_by_step_and_its_machines_load(sweep: Sweep, address: str, page: Page) -> None:
    run = f"{address}/#/experiments/{sweep.experiment_id}/runs/{next(iter(sweep.runs.values()))}"
    page.open(f"{run}/model-metrics")
    at_the_start = "[...document.images].filter(each => each.src.includes('evaluation%2Bstep%2B0%2B'))"
    down = (
        "[...document.querySelectorAll('*')].forEach(each => each.scrollTop = each.scrollHeight)"  # drawn when in sight
    )
    page.wait_for(f"{down}, {at_the_start}.some(each => each.naturalWidth > 0)")
    page.open(f"{run}/system-metrics")
    page.wait_for(shown("cpu_utilization_percentage"))
