"""How far visited frames lie from the labelled ones in feature space, as a number and as a picture."""

from dataclasses import asdict, dataclass, fields
from io import BytesIO
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from datamodules.errors import DataError
from datamodules.results import write_atomically
from lightning_modules.embedding_space import diversity
from lightning_modules.query_choice import nearest_distances

CLOUDS = "clouds.npz"
Values = NDArray[np.float32]


def drifts(visited: Values, held_out: Values, labelled: Values) -> NDArray[np.float64]:
    """(V,) How many times as far from the nearest labelled frame each visited one is as the median held-out one.

    1 says that the agent sees what the labels show; held-out frames come from the same policies as the labels. The
    median over many is their drift: it keeps a few odd frames from ruling it.

    Args:
        visited: features (V, F) of frames that the agent saw.
        held_out: features (H, F) of labelled frames that the student did not learn from.
        labelled: features (L, F) of the labelled frames that it learned from.
    """
    usual = float(np.median(nearest_distances(held_out, labelled)))
    far = nearest_distances(visited, labelled).astype(np.float64)
    return np.where(far == usual, 1.0, far / max(usual, 1e-6))  # held-out frames may be copies of labelled ones


@dataclass(frozen=True, eq=False)
class Clouds:
    """Labelled, visited and asked frames on the first two principal components of all of them."""

    labelled: NDArray[np.float64]
    """(L, 2)"""
    visited: NDArray[np.float64]
    """(V, 2)"""
    asked: NDArray[np.float64]
    """(Q, 2) the visited frames that the teacher was asked about"""

    def write(self, folder: Path) -> None:
        """Write `clouds.npz`, whole or not at all."""
        buffer = BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **asdict(self))
        write_atomically(folder / CLOUDS, buffer.getvalue())


def clouds_of(labelled: Values, visited: Values, asked: Values) -> Clouds:
    """The picture of features (L, F), (V, F) and (Q, F)."""
    plane = diversity(np.concatenate([labelled, visited, asked])).plane
    return Clouds(*np.split(plane, [len(labelled), len(labelled) + len(visited)]))


def read_clouds(folder: Path) -> Clouds:
    """The picture in a folder. Raises DataError where there is none or it is damaged."""
    path = folder / CLOUDS
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return Clouds(**{field.name: arrays[field.name] for field in fields(Clouds)})
    except (ValueError, KeyError, OSError, EOFError, BadZipFile) as error:
        raise DataError(f"{path} cannot be read ({type(error).__name__}: {error}): train the agent again") from error
