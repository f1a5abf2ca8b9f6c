"""What the comparison of students says, for figures made by hand."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datamodules.labelled_set import LabelledSet
from datamodules.tasks import Prompts
from sweeps.statistics import Interval
from sweeps.student_evaluation import Agreement, AskedPrompt, Evaluation, ReadyStudent
from sweeps.student_origin import Origin
from sweeps.students_page import answer_of, seen
from tests.lightning_modules.students import BASELINE, FIDELITY, GOAL, OTHER, made_student


def ready(name: str, within: float, digest: str = "2" * 64) -> ReadyStudent:
    """A student that its fit measured at this Spearman inside an episode; it is never run."""
    card = made_student()[1]
    card = replace(
        card, manifest_digest=digest, fidelity=replace(card.fidelity, spearman_within_episode=within), head="embedding"
    )
    return ReadyStudent(name, Path(name), card, lambda frames: np.zeros((len(frames), 1), np.float32), 1000, 4000, 1)


def agreeing(within: float) -> Agreement:
    return Agreement(FIDELITY, Interval(within, within, within), Interval(within, within, within), 10)


def evaluation(
    students: Sequence[ReadyStudent],
    labels: Path,
    origin: Origin,
    reached: Mapping[str, float],
    asked: Mapping[str, float] | None = None,
) -> Evaluation:
    """Students on one data set; the first takes 8 ms for 16 frames, the next half as long, and so on."""
    one = LabelledSet(str(labels))
    prompts = {"fit": Prompts((GOAL,), (BASELINE,), 0.25), "dark": Prompts((OTHER,), (BASELINE,), 0.25)}
    answers = tuple((AskedPrompt(name, prompts[name]), agreeing(value)) for name, value in (asked or {}).items())
    return Evaluation(
        tuple(students),
        (one,),
        {(student.name, one.place): origin for student in students},
        {(student.name, one.place): agreeing(reached[student.name]) for student in students},
        {(students[0].name, one.place): answers} if asked else {},
        {student.name: (1.0, 8.0 / 2**number) for number, student in enumerate(students)},
    )


def test_faithful_and_fast_are_weighed(squares: Path) -> None:
    slow, fast = ready("slow", 0.95), ready("fast", 0.9)
    reached = {"slow": 0.94, "fast": 0.89}
    (sentence,) = answer_of(evaluation([slow, fast], squares, "held out", reached))
    assert sentence.startswith("The most faithful student is slow (Spearman inside an episode .950")
    assert sentence.endswith("fast is 2.00 times faster at .900.")
    (sentence,) = answer_of(evaluation([fast, slow], squares, "held out", reached))
    assert sentence.startswith("slow is both the most faithful student (Spearman inside an episode .950")


def test_students_of_different_data_are_not_ranked(squares: Path) -> None:
    one, other = ready("one", 0.95), ready("other", 0.9, "3" * 64)
    sentences = answer_of(evaluation([one, other], squares, "held out", {"one": 0.9, "other": 0.9}))
    assert "learned from different data" in sentences[0]
    assert "from .900 (other) to .950 (one). The fastest is other." in sentences[0]


def test_what_is_lost_on_new_frames_is_told(squares: Path) -> None:
    students = [ready("one", 0.95), ready("other", 0.9)]
    sentence = answer_of(evaluation(students, squares, "new frames", {"one": 0.8, "other": 0.91}))[1]
    assert "students lose at most .150 against their own held-out episodes" in sentence
    assert "from .800 of one on cartpole_swingup to .910 of other on cartpole_swingup" in sentence
    sentence = answer_of(evaluation(students[1:], squares, "new frames", {"other": 0.91}))[1]
    assert "students lose nothing" in sentence
    assert "(Spearman inside an episode .910 of other on cartpole_swingup)" in sentence


@pytest.mark.parametrize(("reached", "told"), [(0.79, "is followed by no student"), (0.81, "can be followed by one")])
def test_whether_a_student_serves_another_task_is_told(squares: Path, reached: float, told: str) -> None:
    assert told in answer_of(evaluation([ready("one", 0.95)], squares, "other task", {"one": reached}))[1]


def test_sentences_that_the_fit_knew_are_no_proof(squares: Path) -> None:
    student = ready("one", 0.95)
    found = evaluation([student], squares, "held out", {"one": 0.9}, asked={"fit": 0.2, "dark": 0.97})
    assert [seen(student, each) for each, _ in found.asked["one", str(squares)]] == [True, False]
    assert "On 1 prompt that no fit knew" in answer_of(found)[1]
    assert "the lowest is .970 (one, 'dark' at alpha 0.25)" in answer_of(found)[1]
