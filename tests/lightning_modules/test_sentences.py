"""Reading a captions file."""

from pathlib import Path

import pytest

from datamodules.errors import DataError, UnknownNameError
from lightning_modules.sentences import Caption, read_sentences

CAPTIONS = """
openers: ["", "a photo of "]
held_out_openers: [""]
families:
  lamp:
    names: {lamp: [a lamp, the lamp], room: [the room]}
    generic: {train: ["{lamp} in {room}"], held_out: [lamp]}
    grades:
      - {at: 1.0, train: ["{lamp} is on"], held_out: [a lamp that shines]}
      - {at: 0, train: [a dark lamp], held_out: [an unlit lamp]}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "captions.yaml"
    path.write_text(CAPTIONS)
    return path


def test_every_wording_is_written_out(path: Path) -> None:
    assert read_sentences(path).captions == (
        Caption("a lamp in the room", "lamp", None),
        Caption("the lamp in the room", "lamp", None),
        Caption("a lamp is on", "lamp", 1.0),
        Caption("the lamp is on", "lamp", 1.0),
        Caption("a dark lamp", "lamp", 0.0),
    )
    assert read_sentences(path).openers == ("", "a photo of ")


def test_the_held_out_part_is_read_apart(path: Path) -> None:
    held_out = read_sentences(path, held_out=True)
    assert [caption.text for caption in held_out.captions] == ["lamp", "a lamp that shines", "an unlit lamp"]
    assert held_out.openers == ("",)


def test_a_state_is_described_by_the_nearest_grade(path: Path) -> None:
    assert read_sentences(path).describing("lamp", 0.6) == ("a lamp is on", "the lamp is on")
    assert read_sentences(path).describing("lamp", 0.4) == ("a dark lamp",)


def test_an_unknown_family_is_answered_with_the_known_ones(path: Path) -> None:
    with pytest.raises(UnknownNameError, match="'lamp'"):
        read_sentences(path).describing("lamps", 0.5)


@pytest.mark.parametrize("content", ["families: {}", "openers: []\nfamilies: [lamp]", "- a"])
def test_other_files_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "other.yaml").write_text(content)
    with pytest.raises(DataError, match="is not a captions file"):
        read_sentences(tmp_path / "other.yaml")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing\.yaml"):
        read_sentences(tmp_path / "nothing.yaml")
