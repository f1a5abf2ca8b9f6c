"""The sentences that train and test the bundled teacher, and how near to the goal are the states they describe."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from string import Formatter
from typing import Any

import yaml

from datamodules.errors import DataError, UnknownNameError


@dataclass(frozen=True)
class Caption:
    """One sentence."""

    text: str
    """the sentence"""
    family: str
    """the simulator family whose frames it can describe"""
    grade: float | None
    """grade of the states it describes (0 farthest from the goal, 1 the goal); None: fits every frame of the family"""


@dataclass(frozen=True)
class Sentences:
    """All captions of one purpose, training or test."""

    captions: tuple[Caption, ...]
    """every sentence, all wordings written out, without openers"""
    openers: tuple[str, ...]
    """words that may stand before any of them, as 'a picture of '; the empty one is among them"""

    def of(self, family: str, grade: float | None) -> tuple[str, ...]:
        """The sentences of one family and one grade (None: the generic ones)."""
        return tuple(caption.text for caption in self.captions if (caption.family, caption.grade) == (family, grade))

    def describing(self, family: str, grade: float) -> tuple[str, ...]:
        """The sentences that describe a state of this grade best: those of the nearest grade that has any.

        Raises UnknownNameError for a family that has no sentences.
        """
        grades = {c.grade for c in self.captions if c.family == family and c.grade is not None}
        if not grades:
            raise UnknownNameError("simulator family", family, {caption.family for caption in self.captions})
        return self.of(family, min(grades, key=lambda known: abs(known - grade)))


def read_sentences(path: Path, held_out: bool = False) -> Sentences:
    """Read the training sentences of a captions file, or those held out of training.

    Raises DataError when the file is missing or not of the form that conf/teacher/captions.yaml shows.
    """
    if not path.is_file():
        raise DataError(f"there is no captions file {str(path)!r}: conf/teacher/captions.yaml is the shipped one")
    content = yaml.safe_load(path.read_text())
    part = "held_out" if held_out else "train"
    try:
        captions = tuple(
            caption for family, entry in content["families"].items() for caption in _captions_of(family, entry, part)
        )
        openers = tuple(content["held_out_openers" if held_out else "openers"])
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} is not a captions file ({error}): conf/teacher/captions.yaml shows the form"
        ) from error
    return Sentences(captions, openers)


def _captions_of(family: str, entry: Mapping[str, Any], part: str) -> Iterator[Caption]:
    for grade, texts in [(None, entry["generic"][part])] + [(float(row["at"]), row[part]) for row in entry["grades"]]:
        for text in texts:
            yield from (Caption(wording, family, grade) for wording in _written_out(text, entry["names"]))


def _written_out(text: str, names: Mapping[str, Sequence[str]]) -> list[str]:
    """The sentence with every {name} replaced by each of its wordings."""
    slots = sorted({field for _, field, _, _ in Formatter().parse(text) if field})
    choices = product(*(names[slot] for slot in slots))
    return [text.format(**dict(zip(slots, wording, strict=True))) for wording in choices]
