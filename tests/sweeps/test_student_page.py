"""A fit's page: one file that fetches nothing, with the files' own figures, and nothing dangling."""

import base64
import json
import shutil
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import mlflow
import numpy as np
import pytest
from PIL import Image

from datamodules.manifest import read_manifest
from datamodules.results import read_json, write_json
from lightning_modules.calibration import calibrate
from lightning_modules.held_out import read_held_out
from lightning_modules.student_files import read_card
from sweeps.answer import number
from sweeps.audit_verdict import shown
from sweeps.student_page import write_student_page
from tests.sweeps.page_reader import Page

ROOT = Path(__file__).parents[2]
CALIBRATED = "Does it know when it errs?"
HEADINGS = [
    "How faithful is it?",
    "Where does it err?",
    "What the reward likes",
    CALIBRATED,
    "The fit, and what it cost",
    "Do it again",
]


@pytest.fixture(scope="module")
def path(pair: Path, squares: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(shutil.copytree(pair, tmp_path_factory.mktemp("page") / "student"))
    return write_student_page(folder, [read_manifest(squares)])


def test_page_is_one_file_that_fetches_nothing(path: Path) -> None:
    page = Page(path)
    assert path.name == "student.html"
    assert page.headings == HEADINGS
    assert len(page.alternatives) == 9 + 3 * 8  # drawings, frames
    assert all(page.alternatives)
    assert all(address.startswith("data:") for address in page.addresses)
    assert "<script" not in path.read_text()
    assert "default-src 'none'" in path.read_text()
    assert path.stat().st_size < 1_500_000


def test_figures_are_those_of_the_files(path: Path) -> None:
    text, card, result = Page(path).text, read_card(path.parent), read_json(path.parent / "result.json")
    for name in ("pearson", "spearman_pooled", "spearman_within_episode", "pairwise_order_accuracy", "epic"):
        assert shown(getattr(card.fidelity, name), 3) in text
    for split in ("train", "validation", "test"):
        assert f"{result['mse'][split]:.4f}" in text
    assert f"{result['parameters']:,}" in text
    assert "Labelled frames in all splits together 320" in text
    assert "so it also answers sentences that are not on this page" in text
    assert "tiny/known" in text
    assert "model.head_width 16" in text


def test_calibration_is_that_of_the_held_out_frames(path: Path) -> None:
    held_out = read_held_out(path.parent)
    arrays = (held_out.spread, held_out.student, held_out.teacher)
    found = calibrate(*(each.astype(np.float64) for each in arrays))
    assert found is not None
    text = Page(path).text
    assert f"(Levi et al. 2022) {shown(found.ence, 3)}" in text
    assert f"{shown(found.ause_by_chance, 3)} is chance (Ilg et al. 2018) {shown(found.ause, 3)}" in text
    assert "Its 2 members have a backbone each" in text


def test_worst_frames_stand_with_what_both_said(path: Path) -> None:
    held_out, page = read_held_out(path.parent), Page(path)
    shown_frames = [address for address in page.addresses if address.startswith("data:image/png")]
    for address, frame in zip(shown_frames[:8], held_out.worst_frames, strict=True):
        image = Image.open(BytesIO(base64.b64decode(address.partition(",")[2])))
        np.testing.assert_array_equal(np.asarray(image), frame)
    for position in held_out.worst:
        said, asked = number(held_out.student[position]), number(held_out.teacher[position])
        where = f"episode {held_out.episode[position]}, step {held_out.step[position]}"
        assert f"student {said} teacher {asked} {where}" in page.text


def test_a_single_member_has_no_calibration_and_labels_elsewhere_no_costs(single: Path, tmp_path: Path) -> None:
    page = Page(write_student_page(Path(shutil.copytree(single, tmp_path / "student"))))
    assert page.headings == [heading for heading in HEADINGS if heading != CALIBRATED]
    assert "Teacher queries" not in page.text
    assert "Task by task" not in page.text


def test_several_tasks_have_a_line_each(both: Path, tmp_path: Path) -> None:
    page = Page(write_student_page(Path(shutil.copytree(both, tmp_path / "student"))))
    assert "One student of 2 tasks" in page.text
    card = read_card(both)
    for target in card.targets:
        frames = int((read_held_out(both).target == card.targets.index(target)).sum())
        assert f"{target.task} {' / '.join(target.prompts.goal)} {frames}" in page.text
        assert shown(target.fidelity.spearman_within_episode, 3) in page.text
    assert "EPIC to the true reward" not in page.text  # tasks' true rewards have nothing in common


def test_a_sentence_cannot_break_the_page(single: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(single, tmp_path / "student"))
    content, hostile = read_json(folder / "student.json"), '</h1><script>alert(1)</script> & "quotes"'
    content["targets"][0]["prompts"]["goal"] = [hostile]
    write_json(folder / "student.json", content)
    path = write_student_page(folder)
    assert "<script" not in path.read_text()
    assert hostile in Page(path).text


def test_the_same_files_give_the_same_page(path: Path, pair: Path, squares: Path, tmp_path: Path) -> None:
    again = write_student_page(Path(shutil.copytree(pair, tmp_path / "student")), [read_manifest(squares)])
    assert again.read_bytes() == path.read_bytes()


@pytest.mark.slow
def test_the_command_prints_the_page_and_keeps_it_in_mlflow(squares: Path, tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/mlflow.db"
    command = [sys.executable, "-m", "scripts.fit_student", "fit", "--config=conf/student/quick.yaml"]
    command += [f"--data.labels={squares}", f"--out={tmp_path}/student", f"--tracking_uri={store}"]
    for _ in range(2):  # the second finds everything done, and shows it
        outcome = subprocess.run(
            [*command, "--trainer.max_epochs=1"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert outcome.stdout.splitlines() == [f"{tmp_path}/student/student.html", f"{tmp_path}/student/result.json"]
    client = mlflow.MlflowClient(tracking_uri=store)
    experiment = client.get_experiment_by_name("students")
    (run,) = client.search_runs([experiment.experiment_id])
    assert "student/student.html" in {item.path for item in client.list_artifacts(run.info.run_id, "student")}
    assert json.loads((tmp_path / "student" / "result.json").read_text())["epochs"] == 1
