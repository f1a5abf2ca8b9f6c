"""The verdict on a student: the marks, the words, and where it is worst."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from lightning_modules.fidelity import Fidelity, measure_fidelity
from sweeps.statistics import Interval
from sweeps.student_answer import MARKS, answer_of, verdict_of
from sweeps.student_folder import FittedStudent, read_student

FAITHFUL = Fidelity(0.99, 0.98, 0.95, 0.95, 0.07, 0.02, 1000)


@pytest.fixture(scope="module")
def student(single: Path) -> FittedStudent:
    return read_student(single)


def saying(student: FittedStudent, said: np.ndarray, asked: np.ndarray, **result: Any) -> FittedStudent:
    """The student with other held-out rewards, in two episodes of equal length."""
    count = len(asked)
    held_out = replace(
        student.held_out,
        student=said.astype(np.float32),
        teacher=asked.astype(np.float32),
        true_reward=asked.astype(np.float32),
        episode=np.arange(count) // (count // 2),
        step=np.arange(count) % (count // 2),
        target=np.zeros(count, np.int64),
    )
    fidelity = measure_fidelity(said, asked, held_out.episode)
    return replace(student, held_out=held_out, card=replace(student.card, fidelity=fidelity), result=result)


def text_of(student: FittedStudent) -> str:
    return " ".join(answer_of(student, Interval(0.9, 0.85, 0.95)).sentences)


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, "good"),
        ({"spearman_within_episode": 0.93, "spearman_pooled": 0.97, "epic": 0.12}, "good"),
        ({"spearman_within_episode": 0.929}, "weak"),
        ({"spearman_pooled": 0.969}, "weak"),
        ({"epic": 0.121}, "weak"),
        ({"spearman_within_episode": 0.79}, "bad"),
        ({"spearman_pooled": 0.89}, "bad"),
        ({"epic": 0.251}, "bad"),
    ],
)
def test_the_worst_figure_decides(changes: dict[str, float], verdict: str) -> None:
    assert verdict_of(replace(FAITHFUL, **changes)) == verdict


def test_the_marks_mean_what_they_say() -> None:
    """Pairs out of order and variance explained, by drawing from a normal distribution."""
    generator = np.random.default_rng(0)
    for mark, shares in zip(MARKS[:2], ((1 / 9, 1 / 5), (1 / 13, 1 / 7)), strict=True):
        for spearman, share in zip((mark.good, mark.bad), shares, strict=True):
            pearson = 2 * np.sin(np.pi * spearman / 6)
            first, second = generator.normal(size=(2, 400_000))
            second = pearson * first + np.sqrt(1 - pearson**2) * second
            assert stats.spearmanr(first, second).statistic == pytest.approx(spearman, abs=0.01)
            wrong = np.mean((first[::2] > first[1::2]) != (second[::2] > second[1::2]))
            assert wrong == pytest.approx(share, rel=0.06)
    for epic, explained in ((MARKS[2].good, 0.94), (MARKS[2].bad, 0.77)):
        assert (1 - 2 * epic**2) ** 2 == pytest.approx(explained, abs=0.005)


def test_where_it_errs_most_is_named(student: FittedStudent) -> None:
    asked = np.linspace(-1, 1, 100)
    said = asked.copy()
    said[90:] -= 0.5
    text = text_of(saying(student, said, asked))
    assert "It errs most in the highest tenth of the teacher's rewards: by 0.50 standard deviations on average" in text
    assert "against 0.05 over all frames, mostly too low" in text
    assert "The episode that it follows worst is episode 1" in text
    assert "by EPIC the teacher is .00 away from the task's true reward" in text


def test_an_episode_in_which_the_teacher_hardly_sees_a_difference_is_excused(student: FittedStudent) -> None:
    generator = np.random.default_rng(2)
    asked = np.concatenate([np.linspace(-1, 1, 50), 0.1 * generator.normal(size=50)])
    said = asked + np.repeat([0.0, 0.1], 50) * generator.normal(size=100)
    text = text_of(saying(student, said, asked))
    assert "worst is episode 1 (Spearman ." in text
    assert "where the teacher sees hardly any difference)" in text


def test_what_falls_short_is_named_with_its_mark(student: FittedStudent) -> None:
    generator = np.random.default_rng(1)
    asked = generator.normal(size=400)
    text = text_of(saying(student, asked + generator.normal(size=400), asked))
    assert "and should be at least .93" in text
    assert "and should be at most .12" in text


@pytest.mark.parametrize(("train", "told"), [(0.01, True), (0.03, False)])
def test_learning_by_heart_is_told(student: FittedStudent, train: float, told: bool) -> None:
    asked = np.linspace(-1, 1, 40)
    overfitted = saying(student, asked, asked, mse={"train": train, "validation": 0.04, "test": 0.05})
    assert ("frames of more episodes would help" in text_of(overfitted)) == told


def test_the_best_and_the_worst_task_are_named(both: Path) -> None:
    student = read_student(both)
    first, second = student.card.targets
    targets = (
        replace(first, fidelity=replace(first.fidelity, spearman_within_episode=0.5)),
        replace(second, fidelity=replace(second.fidelity, spearman_within_episode=0.75)),
    )
    text = text_of(replace(student, card=replace(student.card, targets=targets)))
    assert "follows walker_walk best (Spearman inside an episode .750) and cartpole_swingup worst (.500)" in text
