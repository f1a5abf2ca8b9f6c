"""The page: self-contained, well-formed, with the files' own figures, and nothing dangling where files are missing."""

import base64
import json
import shutil
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from datamodules.errors import DataError
from datamodules.results import read_json, write_json
from sweeps.report import write_report
from tests.sweeps.page_reader import Page

STUDENT_HEADINGS = ["Does the student see what the teacher sees?", "What the reward likes"]
HEADINGS = [
    "The sentence",
    "The agent",
    *STUDENT_HEADINGS,
    "Where the time went, and what it cost",
    "Do it again",
]


def change(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Edit a JSON file in place."""
    content = read_json(path)
    edit(content)
    write_json(path, content)


@pytest.fixture(scope="module")
def path(built_trial: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the unchanged trial, in its folder."""
    return write_report(Path(shutil.copytree(built_trial, tmp_path_factory.mktemp("page") / "trial")))


def test_page_is_one_file_that_fetches_nothing(path: Path) -> None:
    page = Page(path)
    assert path.name == "report.html"
    assert len(page.addresses) == 1 + 1 + 7 + 16  # icon, video, drawings, frames
    assert all(address.startswith("data:") for address in page.addresses)
    assert "<script" not in path.read_text()
    assert "default-src 'none'" in path.read_text()
    assert path.stat().st_size < 1_500_000
    assert list(path.parent.glob(".*")) == []


def test_every_section_is_there_in_order_and_every_picture_has_words(path: Path) -> None:
    page = Page(path)

    assert page.headings == HEADINGS
    assert len(page.alternatives) == 7 + 16
    assert all(page.alternatives)


def test_figures_on_the_page_are_those_of_the_files(path: Path) -> None:
    page = Page(path)

    assert "Yes. The agent, trained on the student's reading of this sentence" in page.text
    assert "497 (95 % interval 482 to 511, 10 episodes)" in page.text
    assert "29.9 (95 % interval 21.1 to 39.4, 10 episodes) for a random policy" in page.text
    assert "7 min 1 s and 8,000 teacher queries" in page.text
    assert "of at most 1,000" in page.text
    for value in read_json(path.parent / "student" / "student.json")["fidelity"].values():
        assert (f"{value:.3f}" if isinstance(value, float) else str(value)) in page.text
    assert "pole and cart" in page.text
    assert "55.0 steps/s" in page.text
    assert "python -m scripts.run_trial --config conf/trials/demo.yaml --seed 0" in page.text
    assert "One seed is one run" in page.text
    assert "sac.gamma 0.99" in page.text


def test_what_the_evaluation_measured_is_on_the_page(path: Path) -> None:
    text = Page(path).text

    assert "No over-optimisation seen. At no time did the learned return rise while the true return fell" in text
    assert "7 of 10 episodes" in text
    assert "95 % interval over episodes 60.2 to 68.0 64.5" in text


def test_a_true_return_is_held_against_the_highest_one_or_against_the_tasks_reference(path: Path, trial: Path) -> None:
    assert "true return of at most 1,000" in Page(path).text

    change(trial / "agent/agent.json", lambda card: card["task"].update(score_range=[-4.1, 90.0]))
    assert "true return the task's reference is 90" in Page(write_report(trial)).text


def test_an_over_optimised_agent_is_flagged_in_words_and_on_its_learning_curve(path: Path, trial: Path) -> None:
    fall = {"peak_steps": 6000, "fallen_steps": 10_500, "gold_peak": 512.0, "gold_fallen": 305.0}
    fall |= {"proxy_peak": 10.0, "proxy_fallen": 45.0}
    change(trial / "result.json", lambda result: result.update(overoptimisation={"true": fall}))

    page = Page(write_report(trial))

    assert "Over-optimised. Between steps 6,000 and 10,500" in page.text
    assert b"over-optimised" in learning_curve_of(page)
    assert b"over-optimised" not in learning_curve_of(Page(path))


def learning_curve_of(page: Page) -> bytes:
    svgs = [base64.b64decode(each.partition(",")[2]) for each in page.addresses if each.startswith("data:image/svg")]
    (curve,) = [svg for svg in svgs if b"True return" in svg]
    return curve


def test_queries_saved_are_agent_steps_less_teacher_queries(path: Path) -> None:
    assert "asking the teacher at every agent step would have taken 12,000 4,000" in Page(path).text


def test_seconds_are_the_stages_whether_or_not_their_total_is_written_yet(trial: Path) -> None:
    """The page is a stage itself: when it is written, result.json holds neither its seconds nor the total."""
    change(trial / "result.json", lambda result: [result["seconds"].pop(name) for name in ("report", "total")])

    assert "6 min 59 s and 8,000 teacher queries" in Page(write_report(trial)).text


def test_a_run_that_saved_no_queries_says_so(trial: Path) -> None:
    change(trial / "result.json", lambda result: result.update(teacher_queries=20_000))

    text = Page(write_report(trial)).text
    assert "\N{MINUS SIGN}8,000" in text
    assert "this run asked more" in text


def test_shown_frames_are_the_files_frames(path: Path) -> None:
    page = Page(path)

    with np.load(path.parent / "student" / "held_out.npz") as arrays:
        frames = np.concatenate([arrays["top_frames"], arrays["bottom_frames"]])
        said = [f"teacher {asked:.2f} student {answer:.2f}" for asked, answer in _rewards(arrays)]
    shown = [address for address in page.addresses if address.startswith("data:image/png")]
    for address, frame in zip(shown, frames, strict=True):
        image = Image.open(BytesIO(base64.b64decode(address.partition(",")[2])))
        np.testing.assert_array_equal(np.asarray(image), frame)
    assert all(words in page.text for words in said)


def _rewards(arrays: Any) -> list[tuple[float, float]]:
    return [
        (asked, answer)
        for end in ("top", "bottom")
        for asked, answer in zip(arrays["teacher"][arrays[end]], arrays["student"][arrays[end]], strict=True)
    ]


def test_video_inside_the_page_is_the_file(path: Path) -> None:
    page = Page(path)

    (address,) = [address for address in page.addresses if address.startswith("data:video/mp4")]
    assert base64.b64decode(address.partition(",")[2]) == (path.parent / "evaluation" / "agent.mp4").read_bytes()


def test_a_video_too_large_to_embed_is_linked_and_the_page_stays_small(trial: Path) -> None:
    (trial / "evaluation" / "agent.mp4").write_bytes(bytes(9_000_000))

    path = write_report(trial)

    assert "evaluation/agent.mp4" in Page(path).addresses
    assert path.stat().st_size < 6_000_000


def test_large_frames_and_many_points_keep_the_page_below_six_megabytes(trial: Path) -> None:
    generator = np.random.default_rng(0)
    (trial / "evaluation" / "agent.mp4").write_bytes(bytes(3_400_000))
    with np.load(trial / "student" / "held_out.npz") as arrays:
        content = dict(arrays)
    content |= {key: np.tile(content[key], 100) for key in ("student", "teacher", "episode", "true_reward")}
    content["step"] = np.repeat(np.arange(100), 300) * 1000 + np.tile(content["step"], 100)
    for name in ("top_frames", "bottom_frames"):
        content[name] = generator.integers(0, 256, size=(8, 512, 512, 3), dtype=np.uint8)
    np.savez(trial / "student" / "held_out.npz", **content)

    assert write_report(trial).stat().st_size < 6_000_000


def test_worse_than_random_reads_so(trial: Path) -> None:
    def swap(result: dict[str, Any]) -> None:
        result["true_return"], result["random_return"] = result["random_return"], result["true_return"]

    change(trial / "result.json", swap)

    assert (
        "No. The agent, trained on the student's reading of this sentence, does worse" in Page(write_report(trial)).text
    )


def test_a_trial_on_the_true_reward_leaves_sentence_and_student_out(trial: Path) -> None:
    shutil.rmtree(trial / "student")
    change(trial / "agent" / "agent.json", lambda agent: agent.update(reward="true"))
    change(trial / "result.json", lambda result: (result.pop("student"), result.update(teacher_queries=0)))

    page = Page(write_report(trial))

    assert page.headings == [heading for heading in HEADINGS if heading not in {"The sentence", *STUDENT_HEADINGS}]
    assert "The simulator's own reward" in page.text
    assert "never trained on" not in page.text
    assert "Queries saved" not in page.text
    assert "the reference to reach" in page.text


def test_a_trial_with_nothing_but_its_result_still_has_a_page(trial: Path) -> None:
    for name in ("student", "agent", "evaluation"):
        shutil.rmtree(trial / name)
    write_json(trial / "result.json", {"task": "cartpole_swingup", "seed": 3})

    page = Page(write_report(trial))

    assert page.headings == []
    assert "Not known yet." in page.text
    assert "seed 3" in page.text


@pytest.mark.parametrize("missing", ["agent/evaluations.jsonl", "evaluation/agent.mp4", "student/held_out.npz"])
def test_one_missing_file_leaves_the_rest(trial: Path, missing: str) -> None:
    (trial / missing).unlink()

    page = Page(write_report(trial))

    assert "Do it again" in page.headings
    assert ("What the reward likes" in page.headings) == (missing != "student/held_out.npz")


def test_a_sentence_cannot_break_the_page(trial: Path) -> None:
    hostile = '</h1><script>alert(1)</script> & "quotes"'
    change(trial / "result.json", lambda result: result["prompts"].update(goal=[hostile]))

    path = write_report(trial)

    assert "<script" not in path.read_text()
    assert hostile in Page(path).text


def test_several_goal_sentences_are_counted_in_the_title_and_all_listed(trial: Path) -> None:
    change(trial / "result.json", lambda result: result["prompts"].update(goal=["a walker", "it stands", "upright"]))

    text = Page(write_report(trial)).text

    assert "\N{LEFT DOUBLE QUOTATION MARK}a walker\N{RIGHT DOUBLE QUOTATION MARK} (and 2 more)" in text
    assert "it stands" in text


def test_fidelity_that_is_not_defined_is_named_so(trial: Path) -> None:
    path = trial / "student" / "student.json"
    change(path, lambda student: student["fidelity"].update(pearson=None, spearman_within_episode=None))

    assert "not defined" in Page(write_report(trial)).text


def test_the_same_files_give_the_same_page(path: Path, trial: Path) -> None:
    assert write_report(trial).read_bytes() == path.read_bytes()


def test_no_trial_no_page(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=json.dumps(str(tmp_path))[1:-1]):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []
