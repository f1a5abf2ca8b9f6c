"""Which data sets a student was fitted to, and which of their frames may judge it."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from datamodules.errors import DataError
from datamodules.labelled_set import LabelledSet
from datamodules.splits import split_of
from lightning_modules.student_files import StudentCard, read_card
from sweeps.student_origin import origin_of, rows_that_count
from tests.lightning_modules.students import made_student, write_labels


@pytest.fixture(scope="module")
def more(tmp_path_factory: pytest.TempPathFactory) -> LabelledSet:
    """Other frames of the task of the squares."""
    return LabelledSet(str(write_labels(tmp_path_factory.mktemp("more") / "more", episodes=30)))


def fitted_to(*sets: LabelledSet) -> StudentCard:
    """The card of a student of the squares' task, fitted to these data sets."""
    digests = [one.manifest.digest for one in sets]
    digest = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    return replace(made_student()[1], manifest_digest=digest)


def test_a_fit_to_one_data_set_is_recognised(squares: Path, walkers: Path, more: LabelledSet) -> None:
    own, other = LabelledSet(str(squares)), LabelledSet(str(walkers))
    found = [origin_of(fitted_to(own), 1, one, (own, more, other)) for one in (own, more, other)]
    assert found == ["held out", "new frames", "other task"]


def test_a_real_fit_to_several_is_recognised_in_any_order(
    squares: Path, walkers: Path, more: LabelledSet, both: Path
) -> None:
    own, other = LabelledSet(str(squares)), LabelledSet(str(walkers))
    card = read_card(both)
    found = [origin_of(card, 2, one, (other, more, own)) for one in (own, other, more)]
    assert found == ["held out", "held out", "new frames"]
    # without the walkers at hand nobody can tell which squares it was fitted to
    assert origin_of(card, 2, own, (own, more)) == "perhaps seen"


def test_how_many_there_were_need_not_be_known(squares: Path, walkers: Path, more: LabelledSet) -> None:
    own, other = LabelledSet(str(squares)), LabelledSet(str(walkers))
    assert origin_of(fitted_to(more, own), None, own, (own, more)) == "held out"
    assert origin_of(fitted_to(more, own), None, other, (own, more, other)) == "other task"
    assert origin_of(fitted_to(more), None, own, (own, other)) == "perhaps seen"


def test_frames_that_a_fit_may_have_seen_do_not_count(squares: Path) -> None:
    one = LabelledSet(str(squares))
    for origin in ("held out", "perhaps seen"):
        rows = rows_that_count(one, origin)
        assert {split_of(int(episode)) for episode in one.decoded.episode[rows]} == {"test"}
    assert len(rows_that_count(one, "new frames")) == len(rows_that_count(one, "other task")) == 320


def test_a_data_set_without_test_episodes_cannot_judge_its_own_student(tmp_path: Path) -> None:
    few = LabelledSet(str(write_labels(tmp_path / "few", episodes=1)))
    with pytest.raises(DataError, match="has no test episode"):
        rows_that_count(few, "held out")
