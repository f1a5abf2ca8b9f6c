"""Labelled samples on their way out of verified shards: one row each, and all rows as columns."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from datamodules.errors import DataError
from datamodules.manifest import Manifest
from datamodules.progress import Report, silent
from datamodules.records import EMBEDDING, FRAME, Members, decode_embedding, decode_fields, decode_frame, member
from datamodules.shards import intact_samples


@dataclass(frozen=True, eq=False)
class Columns:
    """What the teacher and the simulator say of all N samples of a labelled data set, in the manifest's order."""

    embeddings: NDArray[np.float16]
    """(N, D) the teacher's unit-norm image embeddings"""
    episode: NDArray[np.int64]
    """(N,)"""
    step: NDArray[np.int64]
    """(N,)"""
    true_reward: NDArray[np.float32]
    """(N,)"""

    def __len__(self) -> int:
        return len(self.episode)


class Row(NamedTuple):
    """One sample without its frame; fields as in `Columns`."""

    embeddings: NDArray[np.float16]
    episode: int
    step: int
    true_reward: float


def decode_row(key: str, members: Members, dim: int) -> Row:
    """The sample's row. Raises DataError, naming the key, for a member missing, against the schema, or not (dim,)."""
    values = decode_fields(key, members)
    embedding = decode_embedding(member(members, EMBEDDING, key), key)
    if len(embedding) != dim:
        raise DataError(f"{key}: the embedding has length {len(embedding)}, the manifest says {dim}; label again")
    return Row(embedding, values["episode"], values["step"], values["true_reward"])


def decode_pixels(key: str, members: Members, pixels: int) -> NDArray[np.uint8]:
    """The student's frame (pixels, pixels, 3) RGB. Raises DataError, naming the key, for any other picture."""
    frame = decode_frame(member(members, FRAME, key), f"{key}.{FRAME}")
    if len(frame) != pixels:
        raise DataError(
            f"{key}.{FRAME}: frames have shape {frame.shape}, the manifest says {(pixels, pixels, 3)}; label again"
        )
    return frame


def labelled_samples(place: Path | str, manifest: Manifest) -> Iterator[tuple[Row, str, Members]]:
    """Every sample's row, key and members, in order. Raises DataError for damaged shards and broken samples."""
    assert manifest.teacher is not None, "only labelled data sets have rows"
    for key, members in intact_samples(place, manifest):
        yield decode_row(key, members, manifest.teacher.dim), key, members


def read_columns(place: Path | str, manifest: Manifest, report: Report = silent) -> Columns:
    """All rows, in memory (2 D + 20 bytes a sample); every shard is fetched and verified, no frame is decoded.

    Raises DataError as `labelled_samples`, and for a sample that is there twice.
    """
    assert manifest.teacher is not None, "only labelled data sets have rows"
    count = manifest.samples
    columns = Columns(
        np.empty((count, manifest.teacher.dim), np.float16),
        np.empty(count, np.int64),
        np.empty(count, np.int64),
        np.empty(count, np.float32),
    )
    for number, (row, _, _) in enumerate(labelled_samples(place, manifest)):
        for name, value in row._asdict().items():
            getattr(columns, name)[number] = value
        report(number + 1, count, "")
    check_unique(columns, place)
    return columns


def check_unique(columns: Columns, place: Path | str) -> None:
    """Raise DataError, naming one, where a data set holds a sample twice."""
    keys, counts = np.unique(np.stack([columns.episode, columns.step]), axis=1, return_counts=True)
    for episode, step in keys.T[counts > 1][:1]:
        raise DataError(f"sample {episode:06d}-{step:06d} in {place} is there twice: label again")
