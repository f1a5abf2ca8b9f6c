"""Decoded once, read many times: a labelled data set's frames and embeddings as plain arrays on disk.

PNG decodes at some thousand frames a second; a memory-mapped uint8 array is read many times faster.
The cache lies in a folder named after the manifest's digest, so it can never answer for other samples, and it can be
removed at any time: it is filled again from the shards.
"""

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from datamodules.labelled_rows import Columns, check_unique, decode_pixels, labelled_samples
from datamodules.manifest import Manifest
from datamodules.progress import Report, silent
from datamodules.storage import is_address
from datamodules.whole_files import plain_when_full

REMOTE_CACHE = Path("runs/cache")
FREE_BYTES = 2**30
"""room on the disk that a cache leaves to others"""


@dataclass(frozen=True, eq=False)
class DecodedFrames(Columns):
    """All N samples of a labelled data set, in the manifest's order, memory-mapped."""

    frames: NDArray[np.uint8]
    """(N, P, P, 3) RGB"""


def cache_of(place: Path | str) -> Path:
    """Where decoded frames of a data set are kept unless another folder is given."""
    return REMOTE_CACHE if is_address(place) else Path(place) / ".cache"


def open_decoded(
    place: Path | str, manifest: Manifest, cache: Path | None = None, report: Report = silent
) -> DecodedFrames:
    """The decoded data set, from its cache; the cache is filled first where it is missing or damaged.

    Args:
        place: folder or address of labelled shards.
        manifest: its manifest, or the part of it that is to be read.
        cache: folder for the arrays; `.cache` in a local folder, runs/cache for an address unless given.
        report: called with the frames decoded and to decode.

    Raises:
        DataError: a damaged shard, a sample against the schema, or one that is there twice.
        NoRoomError: the disk is full.
    """
    cache = cache or cache_of(place)
    found = find_decoded(manifest, cache)
    if found is None:
        _fill(place, manifest, cache / manifest.digest, report)
        found = _open(cache / manifest.digest, manifest.samples)
    return found


def find_decoded(manifest: Manifest, cache: Path) -> DecodedFrames | None:
    """The decoded data set if its cache is there and whole."""
    try:
        return _open(cache / manifest.digest, manifest.samples)
    except (OSError, ValueError):  # not there yet, or cut short by something outside this suite
        return None


def why_no_room(wanted: Sequence[tuple[Manifest, Path]]) -> str | None:
    """Why these data sets cannot all be decoded into the caches given with them, in words; None if they can."""
    samples, needed = Counter[int](), Counter[int]()  # by file system: what shares one shares its room
    for manifest, cache in wanted:
        above = next(folder for folder in (cache, *cache.absolute().parents) if folder.is_dir())
        if not os.access(above, os.W_OK):
            return f"{above} cannot be written to"
        disk, free = above.stat().st_dev, shutil.disk_usage(above).free
        samples[disk] += manifest.samples
        needed[disk] += sum(
            int(np.prod(shape)) * np.dtype(dtype).itemsize for dtype, shape in _layout(manifest).values()
        )
        if needed[disk] + FREE_BYTES > free:
            gib = f"{needed[disk] / 2**30:.1f} GiB and {above} has {free / 2**30:.1f}"
            return f"{samples[disk]:,} decoded frames take {gib}"
    return None


def _layout(manifest: Manifest) -> dict[str, tuple[DTypeLike, tuple[int, ...]]]:
    assert manifest.teacher is not None, "only labelled data sets are cached"
    count, pixels = manifest.samples, manifest.task.render.frame_pixels
    return {
        "frames": (np.uint8, (count, pixels, pixels, 3)),
        "embeddings": (np.float16, (count, manifest.teacher.dim)),
        "episode": (np.int64, (count,)),
        "step": (np.int64, (count,)),
        "true_reward": (np.float32, (count,)),
    }


def _open(folder: Path, samples: int) -> DecodedFrames:
    columns = {
        column.name: np.load(folder / f"{column.name}.npy", mmap_mode="r", allow_pickle=False)
        for column in fields(DecodedFrames)
    }
    if any(len(column) != samples for column in columns.values()):
        raise ValueError(f"{folder} does not hold {samples} samples")
    return DecodedFrames(**columns)


def _fill(place: Path | str, manifest: Manifest, folder: Path, report: Report) -> None:
    """Write the arrays to a temporary folder and rename it: several processes may do this at once, one folder stays."""
    count, pixels = manifest.samples, manifest.task.render.frame_pixels
    with plain_when_full(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".filling-", dir=folder.parent))
    try:
        with plain_when_full(folder):
            columns = {
                name: _new_array(temporary / f"{name}.npy", dtype, shape)
                for name, (dtype, shape) in _layout(manifest).items()
            }
        for number, (row, key, members) in enumerate(labelled_samples(place, manifest)):
            columns["frames"][number] = decode_pixels(key, members, pixels)
            for name, value in row._asdict().items():
                columns[name][number] = value
            report(number + 1, count, "")
        check_unique(DecodedFrames(**columns), place)
        for column in columns.values():
            column.flush()
        _move_into_place(temporary, folder, count)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _new_array(path: Path, dtype: DTypeLike, shape: tuple[int, ...]) -> np.memmap[Any, Any]:
    """An array in a file whose blocks are all there: in a file with holes, a full disk is a signal that kills."""
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def _move_into_place(temporary: Path, folder: Path, samples: int) -> None:
    try:
        os.rename(temporary, folder)
    except OSError:  # the folder is there: another process was faster, or it is damaged
        try:
            _open(folder, samples)
        except (OSError, ValueError):
            shutil.rmtree(folder)
            os.rename(temporary, folder)
