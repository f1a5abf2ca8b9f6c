"""Students on data sets: which frames count, and figures that scipy finds in the students' own answers."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from datamodules.errors import DataError
from datamodules.labelled_set import LabelledSet
from datamodules.manifest import TeacherEntry
from datamodules.splits import split_of
from datamodules.tasks import Prompts
from lightning_modules.reward_function import StudentReward
from lightning_modules.student_files import read_card
from sweeps.audit_settings import Candidate, PromptList
from sweeps.student_evaluation import (
    Evaluation,
    ReadyStudent,
    check_comparable,
    evaluate,
    open_students,
)
from tests.lightning_modules.students import BASELINE, GOAL, OTHER, TASK, frame_of, reward_of, write_labels

DARK = PromptList(
    (Candidate("dark", (OTHER,), (BASELINE,), (0.0, 0.5)), Candidate("fit", (GOAL,), (BASELINE,), (0.0,)))
)


@pytest.fixture(scope="module")
def more(tmp_path_factory: pytest.TempPathFactory) -> LabelledSet:
    """Other frames of the task of the squares."""
    return LabelledSet(str(write_labels(tmp_path_factory.mktemp("more") / "more", episodes=30)))


@pytest.fixture(scope="module")
def students(pair: Path, single: Path) -> tuple[ReadyStudent, ...]:
    return open_students([pair, single])


@pytest.fixture(scope="module")
def found(students: tuple[ReadyStudent, ...], squares: Path, walkers: Path, more: LabelledSet) -> Evaluation:
    sets = (LabelledSet(str(squares)), more, LabelledSet(str(walkers)))
    return evaluate(students, sets, DARK)


def test_only_the_held_out_episodes_of_its_own_data_set_count(found: Evaluation, squares: Path) -> None:
    held_out = sum(split_of(episode) == "test" for episode in range(20))
    for name in ("pair", "single"):
        assert found.origin[name, str(squares)] == "held out"
        agreement = found.agreement[name, str(squares)]
        assert (agreement.episodes, agreement.fidelity.samples) == (held_out, 16 * held_out)


def test_figures_on_its_own_data_set_are_those_of_its_card(found: Evaluation, squares: Path, pair: Path) -> None:
    agreement, card = found.agreement["pair", str(squares)], read_card(pair)
    # the runtime may be bfloat16, which is allowed to be a twentieth of a standard deviation away
    assert agreement.pooled.mean == pytest.approx(card.fidelity.spearman_pooled, abs=0.02)
    assert agreement.fidelity.pearson == pytest.approx(card.fidelity.pearson, abs=0.02)


@pytest.mark.parametrize("name", ["pair", "single"])
def test_all_frames_of_other_data_sets_count(
    found: Evaluation, more: LabelledSet, walkers: Path, name: str, request: pytest.FixtureRequest
) -> None:
    keys = [(episode, step) for episode in range(30) for step in range(16)]
    student = StudentReward.load(request.getfixturevalue(name))
    said, asked = student(np.stack([frame_of(*key) for key in keys])), [reward_of(*key) for key in keys]
    agreement = found.agreement[name, more.place]
    assert found.origin[name, more.place] == "new frames"
    assert (agreement.episodes, agreement.fidelity.samples) == (30, 480)
    assert agreement.pooled.mean == pytest.approx(stats.spearmanr(said, asked).statistic, abs=0.01)
    assert agreement.pooled.low <= agreement.pooled.mean <= agreement.pooled.high
    assert agreement.fidelity.epic == pytest.approx(np.sqrt((1 - np.corrcoef(said, asked)[0, 1]) / 2), abs=0.01)
    assert found.origin[name, str(walkers)] == "other task"
    assert found.agreement[name, str(walkers)].fidelity.samples == 160


def test_an_embedding_head_answers_every_prompt_of_the_list(found: Evaluation, more: LabelledSet, pair: Path) -> None:
    assert {name for name, _ in found.asked} == {"pair"}
    answers = found.asked["pair", more.place]
    assert [(each.candidate, each.prompts.alpha) for each, _ in answers] == [("dark", 0.0), ("dark", 0.5), ("fit", 0.0)]
    keys = [(episode, step) for episode in range(30) for step in range(16)]
    dark = StudentReward.load(pair, prompts=Prompts((OTHER,), (BASELINE,), 0.0))
    said = dark(np.stack([frame_of(*key) for key in keys]))
    # the teacher's reward of the dark square is the bright one's turned round
    expected = stats.spearmanr(said, [-reward_of(*key) for key in keys]).statistic
    assert answers[0][1].pooled.mean == pytest.approx(expected, abs=0.01)
    assert answers[2][1].fidelity == found.agreement["pair", more.place].fidelity


def test_a_reward_head_that_was_fitted_to_other_sentences_is_marked(students: tuple[ReadyStudent, ...]) -> None:
    pair, single = students
    reworded = replace(TASK, prompts=Prompts((OTHER,)))
    assert [student.fitted_to_other_sentences(TASK) for student in students] == [False, False]
    assert single.fitted_to_other_sentences(reworded)
    assert not pair.fitted_to_other_sentences(reworded)  # it can be asked for them
    assert not single.fitted_to_other_sentences(replace(reworded, name="walker_walk"))


def test_every_student_is_timed_at_both_sizes(found: Evaluation) -> None:
    assert found.milliseconds.keys() == {"pair", "single"}
    assert all(len(taken) == 2 and min(taken) > 0 for taken in found.milliseconds.values())


def test_progress_counts_the_frames_that_are_scored(students: tuple[ReadyStudent, ...], squares: Path) -> None:
    told: list[tuple[int, int, str]] = []
    evaluate(
        students[1:],
        (LabelledSet(str(squares)),),
        report=lambda done, total, note: told.append((done, total, note)),
    )
    assert told[-1] == (32, 32, "single on cartpole_swingup")


def test_frames_of_another_size_and_teachers_of_other_weights_are_refused(pair: Path, tmp_path: Path) -> None:
    card = read_card(pair)
    larger = replace(TASK, render=replace(TASK.render, frame_pixels=48))
    one = LabelledSet(str(tmp_path / "labels"))
    one.__dict__["manifest"] = replace(LabelledSet(str(write_labels(tmp_path / "labels"))).manifest, task=larger)
    with pytest.raises(DataError, match=r"takes frames of 32 pixels, those in .* have 48"):
        check_comparable({pair: card}, [one])
    stranger = replace(card, teacher=TeacherEntry("ViT-B-32/x", "7" * 64, (8,), "float32"))
    with pytest.raises(DataError, match=r"learned from ViT-B-32/x \(digest 777777777777\)"):
        check_comparable({pair: stranger}, [LabelledSet(str(tmp_path / "labels"))])


def test_students_of_one_folder_name_are_told_apart_by_their_path(pair: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        shutil.copytree(pair, tmp_path / name / "student")
    names = [student.name for student in open_students([tmp_path / "a" / "student", tmp_path / "b" / "student"])]
    assert names == [str(tmp_path / "a" / "student"), str(tmp_path / "b" / "student")]
