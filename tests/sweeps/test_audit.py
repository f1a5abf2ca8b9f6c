"""An audit of frames whose figures are known: what is measured, chosen and said, and what is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datamodules.errors import DataError
from datamodules.manifest import read_manifest
from datamodules.tasks import Task
from lightning_modules.rewards import goal_baseline_reward
from sweeps.audit import Audit, audit, read_labels, with_sentences
from sweeps.audit_answer import answer_of, coverage_of, remarks_on, warnings_of
from sweeps.audit_settings import Candidate, PromptList, own_prompts
from tests.data_sets import write_frames
from tests.sweeps.audits import AXES, CANDIDATES, TASK, angles, without_successes, write_audit_labels


def audit_of(folder: Path, prompts: PromptList = CANDIDATES, task: Task = TASK, episodes: int = 40) -> Audit:
    labels = write_audit_labels(folder / "labels", episodes, task=task)
    return audit(labels, read_manifest(labels), prompts, np.random.default_rng(0))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Audit:
    return audit_of(tmp_path_factory.mktemp("audit"))


def test_every_candidate_is_measured_at_its_alphas(found: Audit) -> None:
    assert {each.candidate.name: [at.alpha for at in each.alphas] for each in found.candidates} == {
        "right": [0, 0.25, 0.5, 0.75, 1],
        "plain": [0],
        "several": [0, 0.25, 0.5, 0.75, 1],
        "opposite": [0, 0.25, 0.5, 0.75, 1],
        "blind": [0],
    }


def test_figures_are_those_of_the_reward_of_stored_embeddings(found: Audit) -> None:
    angle = angles(40, 10).ravel()
    embeddings = np.zeros((400, 6), np.float32)
    embeddings[:, 0], embeddings[:, 1] = np.cos(angle), np.sin(angle)
    reward = goal_baseline_reward(embeddings, AXES[:1], AXES[1:2], 0.75)
    at = next(at for at in found.candidates[0].alphas if at.alpha == 0.75)
    assert at.figures.mean == pytest.approx(reward.mean(), abs=1e-4)
    assert at.figures.std == pytest.approx(reward.std(), abs=1e-4)


def test_success_is_a_true_reward_a_simulator_frame(found: Audit) -> None:
    successes = int(((1 + np.cos(angles(40, 10))) / 2 >= 0.9).sum())  # a sample holds the sum over two frames
    assert found.truth.successes == successes


def test_the_right_sentence_wins_and_controls_are_bad(found: Audit) -> None:
    verdicts = {each.candidate.name: each.best.judgement.verdict for each in found.candidates}
    assert (verdicts["right"], verdicts["plain"]) == ("good", "good")
    assert (verdicts["opposite"], verdicts["blind"]) == ("bad", "bad")
    assert found.ranks["plain"] < found.ranks["opposite"]
    assert [each.candidate.name for each in found.ranking][-1] not in {"opposite", "blind"}
    answer = answer_of(found)
    assert (answer.verdict, answer.word) == ("good", "Yes.")
    assert answer.title == "Use \N{LEFT DOUBLE QUOTATION MARK}up\N{RIGHT DOUBLE QUOTATION MARK} with alpha 0"
    assert f"{sum(each.best.judgement.verdict == 'good' for each in found.ranking)} of 3 sentences are good" in (
        answer.sentence
    )


def test_the_embeddings_lie_in_a_plane_and_show_the_true_reward(found: Audit) -> None:
    assert sum(found.diversity.shares) == pytest.approx(1.0)
    assert 1.8 < found.diversity.effective_dimensions <= 2.0
    assert found.linear.spearman_within_episode > 0.999


def test_coverage_names_frames_policies_and_seed(found: Audit) -> None:
    assert coverage_of(found) == (
        "the 400 frames of 40 episodes, collected by policies that know nothing (smooth noise in 50% of episodes and "
        "uniform random actions in the others; started from widely drawn states in 75% and from resets in the others; "
        "episode_steps 10), seed 7"
    )


def test_only_bad_sentences_are_said_to_be_bad(tmp_path: Path) -> None:
    found = audit_of(
        tmp_path, PromptList((Candidate("a", ("down",), ("sideways",)), Candidate("b", ("down",), ("up",))))
    )
    answer = answer_of(found)
    assert (answer.word, answer.title) == ("No.", "None of these sentences is any good")


def test_frames_without_success_cannot_tell_and_say_so(tmp_path: Path) -> None:
    found = audit_of(tmp_path, own_prompts(TASK.prompts), without_successes())
    assert found.truth.successes == 0
    assert answer_of(found).title == "These frames cannot tell"
    assert "No frame is a success" in warnings_of(found)[0]


def test_few_episodes_are_warned_of(tmp_path: Path) -> None:
    found = audit_of(tmp_path, episodes=4)
    assert answer_of(found).word == "Not known."
    assert "inside 4 of 4 episodes only" in warnings_of(found)[0]


def test_a_task_without_success_is_told_what_is_missing(tmp_path: Path) -> None:
    found = audit_of(tmp_path, task=replace(TASK, success_reward=None))
    assert "states no success_reward" in warnings_of(found)[0]
    assert answer_of(found).verdict == "good"


def test_a_control_that_works_is_warned_of(tmp_path: Path) -> None:
    found = audit_of(
        tmp_path, PromptList((Candidate("a", ("up",), ("down",)), Candidate("c", ("up",), ("sideways",), control=True)))
    )
    assert any("A control that should fail does not: c (good)" in warning for warning in warnings_of(found))
    assert answer_of(found).candidate == "a"


def test_a_true_reward_that_embeddings_do_not_show_is_not_the_sentences_fault(tmp_path: Path) -> None:
    labels = write_audit_labels(tmp_path / "labels")
    manifest = read_manifest(labels)
    found = audit(labels, manifest, CANDIDATES, np.random.default_rng(0))
    shuffled = replace(found, linear=replace(found.linear, spearman_within_episode=0.05))
    assert any("No sentence can do much better" in warning for warning in warnings_of(shuffled))


def test_goal_and_baseline_that_coincide_leave_only_alpha_0(tmp_path: Path) -> None:
    pairs = (Candidate("same", ("up",), ("up again",)), Candidate("near", ("up",), ("nearly up",)))
    found = audit_of(tmp_path, PromptList(pairs))
    same, near = found.candidates
    assert [at.alpha for at in same.alphas] == [0]
    assert "the same embedding" in remarks_on(same)[0]
    assert len(near.alphas) == 5
    assert "nearly coincide" in remarks_on(near)[0]


@pytest.mark.parametrize(
    ("alphas", "words"),
    [((0.0, 0.25, 0.5, 0.75, 1.0), "baseline adds nothing"), ((0.5, 1.0), "lowest tried, 0.5: try lower ones")],
)
def test_a_best_alpha_at_the_edge_is_remarked(tmp_path: Path, alphas: tuple[float, ...], words: str) -> None:
    """Here "sideways" only distracts: the lower alpha, the better."""
    found = audit_of(tmp_path, PromptList((Candidate("right", ("up",), ("sideways",), alphas),)))
    assert any(words in remark for remark in remarks_on(found.candidates[0]))


def test_missing_labels_name_the_command(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"scripts\.label_frames"):
        read_labels(tmp_path)


def test_frames_without_labels_name_the_command(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds frames without labels.*scripts\.label_frames"):
        read_labels(write_frames(tmp_path / "frames", 2, 2))


def test_unknown_sentences_without_a_teacher_say_what_to_give(tmp_path: Path) -> None:
    labels = write_audit_labels(tmp_path / "labels", episodes=2)
    prompts = PromptList((Candidate("new", ("a pole", "a stick"), ("up",)),))
    with pytest.raises(DataError, match=r"no text embedding of 'a pole' and 1 more.*tiny/known.*--teacher"):
        with_sentences(labels, read_manifest(labels), prompts, None)


def test_known_sentences_need_no_teacher(tmp_path: Path) -> None:
    labels = write_audit_labels(tmp_path / "labels", episodes=2)
    manifest = read_manifest(labels)
    assert with_sentences(labels, manifest, CANDIDATES, None) == (manifest, 0)
