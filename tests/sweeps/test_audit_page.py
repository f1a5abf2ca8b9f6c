"""The audit's page: one file that fetches nothing, with the audit's figures, and a script that finds the same ones."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from datamodules.manifest import read_manifest
from lightning_modules.reward_audit import Truth, audited_rewards, measure_reward
from sweeps.audit import Audit, audit
from sweeps.audit_page import SPRITE_BYTES, live_data, live_rows, script_json, sprite_of, write_audit_page
from sweeps.audit_settings import Candidate, PromptList
from sweeps.audit_verdict import shown
from sweeps.pages import TEMPLATES
from tests.sweeps.audits import CANDIDATES, write_audit_labels

VOID = {"meta", "link", "br", "input"}
HOSTILE = "</script><script>alert(1)</script> & \"up\" 'so'"
RESULT = {"command": "python -m scripts.audit_reward --labels runs/x/labels", "seed": 3, "seconds": 1.25}
NODE = shutil.which("node")


class Page(HTMLParser):
    """A page as a browser meets it; fails where tags do not close in order."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.headings: list[str] = []
        self.identifiers: set[str] = set()
        self.scripts: list[tuple[str | None, str]] = []
        self.policy, self.text = "", ""
        self._open: list[str] = []
        self._script_type: str | None = None
        self.feed(path.read_text())
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.addresses += [value or "" for name, value in attrs if name in {"src", "href", "srcset", "action"}]
        if given.get("http-equiv") == "Content-Security-Policy":
            self.policy = given["content"] or ""
        if given.get("id"):
            self.identifiers.add(given["id"] or "")
        self._script_type = given.get("type")
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        inside = self._open[-1] if self._open else ""
        if inside == "script":
            self.scripts.append((self._script_type, data))
        elif inside == "style":
            assert "url(" not in data
            assert "@import" not in data
        else:
            self.text += data
            if inside == "h2":
                self.headings.append(data)


def found_in(folder: Path, prompts: PromptList = CANDIDATES, episodes: int = 40) -> Audit:
    labels = write_audit_labels(folder / "labels", episodes)
    return audit(labels, read_manifest(labels), prompts, np.random.default_rng(0))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Audit:
    return found_in(tmp_path_factory.mktemp("audit"))


@pytest.fixture(scope="module")
def path(found: Audit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_audit_page(tmp_path_factory.mktemp("page") / "audit.html", found, RESULT)


def test_page_is_one_file_that_fetches_nothing(path: Path) -> None:
    page = Page(path)
    assert all(address.startswith(("data:", "#candidate=")) for address in page.addresses)
    assert page.policy.startswith("default-src 'none'; img-src data:; ")
    assert not re.search(r"https?://|fetch\(|XMLHttpRequest|import\(", path.read_text())
    assert path.stat().st_size < 1_000_000


def test_policy_allows_this_very_script_and_no_other(path: Path) -> None:
    page = Page(path)
    (script,) = [text for kind, text in page.scripts if kind is None]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert page.policy.endswith(f"script-src 'sha256-{digest}'")


def test_every_element_that_the_script_looks_for_is_there(path: Path) -> None:
    named = set(re.findall(r'getElementById\("([\w-]+)"\)', (TEMPLATES / "audit_view.js").read_text()))
    assert named
    assert named | {"by-alpha", "histogram", "scatter", "map", "highest", "lowest"} <= Page(path).identifiers


def test_figures_and_answer_stand_in_plain_html(path: Path, found: Audit) -> None:
    text = re.sub(r"\s+", " ", Page(path).text)
    assert "Use \N{LEFT DOUBLE QUOTATION MARK}up\N{RIGHT DOUBLE QUOTATION MARK} with alpha 0" in text
    for each in found.candidates:
        assert each.candidate.name in text
        assert all(" ".join(reason.split()) in text for reason in each.best.judgement.reasons)
        for at in each.alphas:
            assert shown(at.figures.spearman_within_episode) in text
    assert "the 400 frames of 40 episodes, collected by policies" in text
    assert RESULT["command"] in text
    assert Page(path).headings == [
        "All sentences, each at its best alpha",
        "Try it",
        "Why these verdicts",
        "On which frames",
    ]


def test_data_hold_the_frames_they_say(path: Path, found: Audit) -> None:
    data = embedded(path)
    truth = np.frombuffer(base64.b64decode(data["truth"]), "<f4")
    np.testing.assert_array_equal(truth, found.frames.true_reward)
    sheet = Image.open(BytesIO(base64.b64decode(data["sprite"].partition(",")[2])))
    assert sheet.format == "WEBP"
    assert sheet.size == (data["columns"] * 16, 20 * 16) == (320, 320)


def embedded(path: Path) -> dict[str, Any]:
    (text,) = [text for kind, text in Page(path).scripts if kind == "application/json"]
    return dict(json.loads(text))


@pytest.mark.skipif(NODE is None, reason="no JavaScript engine on this machine")
def test_script_computes_the_figures_of_python_on_the_same_frames(found: Audit) -> None:
    rows = live_rows(found.truth.episode, found.truth.reward, most=250)
    assert len(rows) < found.truth.reward.size
    asked = [(each, alpha) for each in range(len(found.candidates)) for alpha in (0.0, 0.37, 1.0)]
    computed = run_script(live_data(found, rows), asked)
    mark = found.manifest.task.success_reward or 0.0
    truth = Truth(
        found.truth.reward[rows], found.truth.episode[rows], 2 * mark, np.random.default_rng(0)
    )  # two frames a step
    for (number, alpha), figures in zip(asked, computed, strict=True):
        each = found.candidates[number]
        if alpha > 0 and not each.line_exists:
            continue
        embeddings = np.asarray(found.frames.embeddings[rows], np.float32)
        reward = audited_rewards(embeddings, each.goal, each.baseline, alpha, (6,))
        expected = measure_reward(reward, truth)
        assert figures == pytest.approx(
            {
                "mean": expected.mean,
                "std": expected.std,
                "pearson": expected.pearson,
                "pearsonWithin": expected.pearson_within_episode,
                "spearman": expected.spearman,
                "spearmanWithin": expected.spearman_within_episode,
                "epic": expected.epic,
                "auroc": expected.auroc,
                "topSuccesses": expected.top_successes,
                "highest": expected.highest[0] if expected.std > 1e-6 else figures["highest"],
            },
            abs=1e-4,
        ), (each.candidate.name, alpha)


@pytest.mark.skipif(NODE is None, reason="no JavaScript engine on this machine")
def test_script_gives_several_clips_the_standardised_mean() -> None:
    generator = np.random.default_rng(0)
    frames, goal, baseline = (generator.normal(size=(count, 5)).astype(np.float32) for count in (60, 2, 1))
    parts = []
    for own in (slice(0, 2), slice(2, 5)):
        g, b = goal[:, own].mean(axis=0), baseline[:, own].mean(axis=0)
        dots = {"sg": (frames[:, own] @ g).tolist(), "sb": (frames[:, own] @ b).tolist()}
        parts.append({**dots, "gg": float(g @ g), "bb": float(b @ b), "gb": float(g @ b)})
    code = f"console.log(JSON.stringify([...rewardsOf({json.dumps(parts)}, 0.4)]))"
    expected = audited_rewards(frames, goal, baseline, 0.4, (2, 3))
    np.testing.assert_allclose(node(code), expected, atol=1e-4)


@pytest.mark.skipif(NODE is None, reason="no JavaScript engine on this machine")
def test_script_shares_ranks_among_ties_and_leaves_constant_sides_at_0() -> None:
    code = """console.log(JSON.stringify([
        [...ranksOf([3, 1, 3, 2])], pearson([0.1, 0.1, 0.1], [1, 2, 3]), auroc(ranksOf([1, 2]), [1, 1])
    ]))"""
    assert node(code) == [[3.5, 1, 3.5, 2], 0, None]


def run_script(data: dict[str, Any], asked: list[tuple[int, float]]) -> Any:
    """The figures that the page's own script finds in the page's own data."""
    view = (TEMPLATES / "audit_view.js").read_text().partition("new View(")[0]  # everything but the start of the page
    code = f"""{view}
    const data = readData(JSON.parse({json.dumps(script_json(data))}));
    console.log(JSON.stringify({json.dumps(asked)}.map(([number, alpha]) => {{
      const {{ line, parts }} = data.candidates[number];
      const {{ order, ...figures }} = figuresOf(rewardsOf(parts, line ? alpha : 0), data);
      return {{ ...figures, highest: order[0] }};
    }})));"""
    return node(code)


def node(code: str) -> Any:
    assert NODE is not None
    script = (TEMPLATES / "audit_measures.js").read_text() + code
    done = subprocess.run([NODE, "-"], input=script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_sentence_cannot_break_the_page(tmp_path: Path) -> None:
    labels = write_audit_labels(tmp_path / "labels")
    manifest = read_manifest(labels)
    manifest.prompts[HOSTILE] = manifest.prompts["up"]
    prompts = PromptList((Candidate(f"name {HOSTILE}", (HOSTILE,), ("sideways",)),))
    found = audit(labels, manifest, prompts, np.random.default_rng(0))
    path = write_audit_page(tmp_path / "audit.html", found, RESULT)
    assert len(Page(path).scripts) == 2
    assert path.read_text().count("<script") == 2
    assert HOSTILE in Page(path).text
    assert embedded(path)["candidates"][0]["goal"] == [HOSTILE]


def test_the_same_audit_gives_the_same_page(path: Path, found: Audit, tmp_path: Path) -> None:
    assert write_audit_page(tmp_path / "audit.html", found, RESULT).read_bytes() == path.read_bytes()


def test_live_frames_are_whole_episodes_spread_over_their_rewards() -> None:
    episode = np.repeat(np.arange(100), 30)
    reward = np.repeat(np.random.default_rng(0).permutation(100) / 100, 30)
    rows = live_rows(episode, reward, most=700)
    chosen, counts = np.unique(episode[rows], return_counts=True)
    assert set(counts) == {30}
    assert len(chosen) == 23
    assert (np.diff(rows) > 0).all()
    assert (reward[rows].min(), reward[rows].max()) == (0.0, 0.99)
    assert abs(reward[rows].mean() - reward.mean()) < 0.01


def test_few_frames_are_all_live_and_long_episodes_are_thinned() -> None:
    np.testing.assert_array_equal(live_rows(np.zeros(5), np.zeros(5)), np.arange(5))
    rows = live_rows(np.repeat([0, 1, 2], 5000), np.repeat([0.0, 1.0, 2.0], 5000))
    assert len(rows) == 2000
    assert set(np.diff(rows[:1000])) == {5}


def test_pictures_that_do_not_compress_become_smaller() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (900, 96, 96, 3), dtype=np.uint8)
    content, tile, columns = sprite_of(noise)
    assert len(content) <= SPRITE_BYTES
    assert tile < 84
    assert columns == 30


def test_tiles_lie_in_the_order_of_the_frames() -> None:
    frames = np.zeros((7, 20, 20, 3), np.uint8)
    frames += (np.arange(7) * 30).astype(np.uint8)[:, None, None, None]
    content, tile, columns = sprite_of(frames)
    sheet = np.asarray(Image.open(BytesIO(content)).convert("RGB")).astype(int)
    shown_grey = [sheet[i // columns * tile + 10, i % columns * tile + 10, 0] for i in range(7)]
    np.testing.assert_allclose(shown_grey, np.arange(7) * 30, atol=6)
