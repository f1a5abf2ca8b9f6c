"""Decoded once, read many times: a labelled data set's frames and embeddings as plain arrays beside the shards.

PNG decodes at some thousand frames a second; a memory-mapped uint8 array is read a hundred times faster.
The cache lies in a folder named after the manifest's digest, so it can never answer for other samples, and it can be
removed at any time: it is filled again from the shards.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import webdataset
from numpy.typing import DTypeLike, NDArray

from datamodules.errors import DataError
from datamodules.manifest import Manifest
from datamodules.records import EMBEDDING, FRAME, decode_embedding, decode_fields, decode_frame
from datamodules.shards import verify


@dataclass(frozen=True, eq=False)
class DecodedFrames:
    """All N samples of a labelled data set, in the manifest's order."""

    frames: NDArray[np.uint8]
    """(N, P, P, 3) RGB, memory-mapped"""
    embeddings: NDArray[np.float16]
    """(N, D) the teacher's unit-norm image embeddings, memory-mapped"""
    episode: NDArray[np.int64]
    """(N,)"""
    step: NDArray[np.int64]
    """(N,)"""
    true_reward: NDArray[np.float32]
    """(N,)"""

    def __len__(self) -> int:
        return len(self.frames)


class Row(NamedTuple):
    """One labelled sample as it leaves its shard; fields as in `DecodedFrames`."""

    frames: NDArray[np.uint8]
    embeddings: NDArray[np.float16]
    episode: int
    step: int
    true_reward: float


def open_decoded(labels: Path, manifest: Manifest, cache: Path | None = None) -> DecodedFrames:
    """The decoded data set, from its cache; the cache is filled first where it is missing or damaged.

    Args:
        labels: folder of labelled shards.
        manifest: its manifest.
        cache: folder for the arrays; `.cache` in the labels folder unless given.

    Raises:
        DataError: a damaged shard, or a sample against the schema.
    """
    folder = (cache or labels / ".cache") / manifest.digest
    try:
        return _open(folder, manifest.samples)
    except (OSError, ValueError):  # not there yet, or cut short by something outside this suite
        _fill(labels, manifest, folder)
    return _open(folder, manifest.samples)


def stream_rows(labels: Path, manifest: Manifest) -> Iterator[Row]:
    """Every sample in order, streamed by webdataset with our own decoders. Verifies all shards before the first row."""
    verify(labels, manifest)
    shards = webdataset.WebDataset(
        # absolute paths, because webdataset reads "pipe:..." and "scheme:..." as commands and addresses
        [str((labels / shard.name).resolve()) for shard in manifest.shards],
        shardshuffle=False,
        nodesplitter=None,  # the whole data set in every process
        workersplitter=None,
        seed=0,  # without one it draws from Python's global generator
    )
    yield from shards.map(_decode_row)


def _decode_row(members: dict[str, Any]) -> Row:
    key = members["__key__"]
    fields_of_sample = decode_fields(key, members)
    missing = {FRAME, EMBEDDING} - members.keys()
    if missing:
        raise DataError(f"{key} has no {' and no '.join(sorted(missing))}: remove the labels and label again")
    return Row(
        frames=decode_frame(members[FRAME], f"{key}.{FRAME}"),
        embeddings=decode_embedding(members[EMBEDDING], key),
        episode=fields_of_sample["episode"],
        step=fields_of_sample["step"],
        true_reward=fields_of_sample["true_reward"],
    )


def _open(folder: Path, samples: int) -> DecodedFrames:
    columns = {
        column.name: np.load(folder / f"{column.name}.npy", mmap_mode="r", allow_pickle=False)
        for column in fields(DecodedFrames)
    }
    if any(len(column) != samples for column in columns.values()):
        raise ValueError(f"{folder} does not hold {samples} samples")
    return DecodedFrames(**columns)


def _fill(labels: Path, manifest: Manifest, folder: Path) -> None:
    """Write the arrays to a temporary folder and rename it: several processes may do this at once, one folder stays."""
    assert manifest.teacher is not None, "only labelled data sets are cached"
    count, pixels = manifest.samples, manifest.task.render.frame_pixels
    layout: dict[str, tuple[DTypeLike, tuple[int, ...]]] = {
        "frames": (np.uint8, (count, pixels, pixels, 3)),
        "embeddings": (np.float16, (count, manifest.teacher.dim)),
        "episode": (np.int64, (count,)),
        "step": (np.int64, (count,)),
        "true_reward": (np.float32, (count,)),
    }
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".filling-", dir=folder.parent))
    try:
        columns = {
            name: np.lib.format.open_memmap(temporary / f"{name}.npy", mode="w+", dtype=dtype, shape=shape)
            for name, (dtype, shape) in layout.items()
        }
        seen: set[tuple[int, int]] = set()
        for index, row in enumerate(stream_rows(labels, manifest)):
            _check_row(row, index, layout, seen, labels)
            for name, value in row._asdict().items():
                columns[name][index] = value
        if len(seen) != count:
            raise DataError(f"{labels} gave {len(seen)} samples, its manifest says {count}: remove it and label again")
        for column in columns.values():
            column.flush()
        _move_into_place(temporary, folder, count)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _check_row(
    row: Row,
    index: int,
    layout: dict[str, tuple[DTypeLike, tuple[int, ...]]],
    seen: set[tuple[int, int]],
    labels: Path,
) -> None:
    place = f"sample {row.episode:06d}-{row.step:06d} in {labels}"
    for name, array in (("frames", row.frames), ("embeddings", row.embeddings)):
        expected = layout[name][1][1:]
        if array.shape != expected:
            raise DataError(f"{place}: {name} have shape {array.shape}, the manifest says {expected}; label again")
    if (row.episode, row.step) in seen or index >= layout["frames"][1][0]:
        raise DataError(f"{place} is there twice, or the manifest counts too few: label again")
    seen.add((row.episode, row.step))


def _move_into_place(temporary: Path, folder: Path, samples: int) -> None:
    try:
        os.rename(temporary, folder)
    except OSError:  # the folder is there: another process was faster, or it is damaged
        try:
            _open(folder, samples)
        except (OSError, ValueError):
            shutil.rmtree(folder)
            os.rename(temporary, folder)
