"""One labelled data set behind the data module: its manifest, what of it is whole, and its rows by split."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datamodules.decoded_cache import DecodedFrames, cache_of, find_decoded, open_decoded, why_no_room
from datamodules.errors import DataError
from datamodules.labelled_rows import Columns, read_columns
from datamodules.manifest import Manifest, TeacherEntry, read_manifest
from datamodules.progress import Report, silent
from datamodules.shards import Damage, damaged_error, find_damage

log = logging.getLogger(__name__)


class LabelledSet:
    """A folder or address of labelled shards. Nothing is read before something is asked for."""

    def __init__(self, place: str, *, cache: Path | None = None, most_damaged: float | None = None) -> None:
        """Name a data set.

        Args:
            place: folder or address of labelled shards.
            cache: folder for decoded frames; `decoded_cache.cache_of` says where they lie unless given.
            most_damaged: the share of damaged shards that may be left out (0 to 1); None: every shard must be whole.
        """
        self.place = place
        self._most_damaged = most_damaged
        self.cache = cache or cache_of(place)

    @cached_property
    def manifest(self) -> Manifest:
        """The manifest as it was written. Raises DataError if the set is unfinished or not labelled yet."""
        manifest = read_manifest(self.place)
        if manifest.teacher is None:
            raise DataError(
                f"{self.place} holds frames without labels: label them with `python -m scripts.label_frames "
                f"--frames {self.place} --teacher TEACHER.yaml --out LABELS` and give that folder"
            )
        return manifest

    @property
    def teacher(self) -> TeacherEntry:
        """Who labelled it."""
        assert self.manifest.teacher is not None, "`manifest` checks it"
        return self.manifest.teacher

    @cached_property
    def skipped(self) -> tuple[Damage, ...]:
        """The damaged shards that are left out; none where all must be whole, or where their decoded frames are kept.

        Raises DataError where more are damaged than may be left out.
        """
        if self._most_damaged is None or find_decoded(self.manifest, self.cache) is not None:
            return ()
        damaged = tuple(find_damage(self.place, self.manifest))
        if len(damaged) > self._most_damaged * len(self.manifest.shards):
            error = damaged_error(self.place, self.manifest, damaged)
            raise DataError(f"{error}\nat most {self._most_damaged:.0%} may be left out (data.most_damaged)")
        if damaged:
            names = "; ".join(f"{damage.shard}: {damage.reason}" for damage in damaged)
            counted = f"{len(damaged)} of {len(self.manifest.shards)} shards"
            log.warning(f"{counted} in {self.place} are damaged and left out: {names}")
        return damaged

    @cached_property
    def intact(self) -> Manifest:
        """The manifest without the shards that are left out: with its own digest, it is a data set like any other."""
        left_out = {damage.shard for damage in self.skipped}
        return replace(
            self.manifest, shards=tuple(shard for shard in self.manifest.shards if shard.name not in left_out)
        )

    @property
    def is_decoded(self) -> bool:
        """Whether its decoded frames are in the cache."""
        return find_decoded(self.intact, self.cache) is not None

    def read(self, keep_decoded: bool, report: Report = silent) -> None:
        """Read what is not read yet: into the cache of decoded frames, or the rows alone; `report` counts frames."""
        if keep_decoded:
            open_decoded(self.place, self.intact, self.cache, report)
        elif "columns" not in self.__dict__:
            self.columns = read_columns(self.place, self.intact, report)

    @cached_property
    def decoded(self) -> DecodedFrames:
        """All its frames and rows, from the cache, which is filled first where needed."""
        return open_decoded(self.place, self.intact, self.cache)

    @cached_property
    def columns(self) -> Columns:
        """All its rows without the frames, read from all shards: for streaming."""
        return read_columns(self.place, self.intact)

    def prompt_embeddings(self, sentences: Sequence[str]) -> NDArray[np.float32]:
        """The teacher's unit-norm text embeddings (N, D) of these sentences, from the manifest.

        Raises:
            DataError: the teacher was never asked about one of them; the message names the command that asks.
        """
        known = self.manifest.prompts
        missing = [sentence for sentence in sentences if sentence not in known]
        if missing:
            raise DataError(
                f"{self.place} has no text embedding of {', '.join(map(repr, missing))}. Add it, without scoring any "
                f"frame again, with `python -m scripts.label_frames --frames FRAMES --teacher TEACHER.yaml "
                f"--out {self.place} --prompts '{_yaml_list(missing)}'`; or use one of: {', '.join(map(repr, known))}"
            )
        embeddings = [known[sentence] for sentence in sentences]
        return np.array(embeddings, np.float32).reshape(len(sentences), self.teacher.dim)


def why_not_cached(sets: Sequence[LabelledSet]) -> str | None:
    """Why not all frames of these data sets can be decoded once and kept, in words; None if they are or can be."""
    return why_no_room([(one.intact, one.cache) for one in sets if not one.is_decoded])


def check_alike(sets: Sequence[LabelledSet]) -> None:
    """Raise DataError, naming the difference, unless data sets can be mixed: one frame size, one teacher, no twins."""
    first = sets[0]
    for number, other in enumerate(sets[1:], start=1):
        compared = (
            ("frame size", *(f"{one.manifest.task.render.frame_pixels} pixels" for one in (first, other))),
            ("teacher", *(f"{one.teacher.name} (digest {one.teacher.digest[:12]})" for one in (first, other))),
            ("precision of the teacher", first.teacher.precision, other.teacher.precision),
        )
        for what, here, there in compared:
            if here != there:
                raise DataError(
                    f"{first.place} and {other.place} cannot be mixed: the {what} is {here} there and {there} here; "
                    "collect and label both with the same settings"
                )
        twin = next((one for one in sets[:number] if one.manifest.digest == other.manifest.digest), None)
        if twin:
            raise DataError(f"{other.place} holds the same samples as {twin.place}: name each data set once")


def _yaml_list(sentences: Sequence[str]) -> str:
    return "[" + ", ".join(f'"{sentence}"' for sentence in sentences) + "]"
