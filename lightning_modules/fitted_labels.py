"""The labels that a student was fitted to, for who fine-tunes it: whole splits, or some frames of one."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datamodules.labelled_set import LabelledSet
from datamodules.manifest import Manifest
from datamodules.splits import Split, episodes_of
from lightning_modules.fine_tuning import Labelled

Rows = NDArray[np.int64]


class FittedLabels:
    """A labelled data set, decoded; the splits are those of every fit."""

    def __init__(self, folder: Path) -> None:
        """Open it; frames are decoded first where no fit has done so. Raises DataError where it is not whole."""
        self._set = LabelledSet(str(folder))
        self._decoded = self._set.decoded

    @property
    def manifest(self) -> Manifest:
        """What it says of itself."""
        return self._set.manifest

    def prompt_embeddings(self, sentences: tuple[str, ...]) -> NDArray[np.float32]:
        """The teacher's text embeddings (N, D). Raises DataError where it was never asked about one of them."""
        return self._set.prompt_embeddings(sentences)

    def drawn(self, split: Split, most: int, generator: np.random.Generator) -> Labelled:
        """At most so many frames of a split, drawn at random, each once."""
        rows = self.rows(split)
        return self.at(np.sort(generator.choice(rows, min(most, len(rows)), replace=False)))

    def spread(self, split: Split, most: int) -> Labelled:
        """At most so many frames of a split, evenly spread over it: the same ones every time."""
        rows = self.rows(split)
        return self.at(rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(np.int64)])

    def rows(self, split: Split) -> Rows:
        """Numbers of a split's samples, in order."""
        return np.flatnonzero(np.isin(self._decoded.episode, sorted(episodes_of(self._decoded.episode, split))))

    def at(self, rows: Rows) -> Labelled:
        """The frames of these rows (N,), in memory."""
        return Labelled(self._decoded.frames, self._decoded.embeddings).at(rows)

    def episodes(self, rows: Rows) -> NDArray[np.int64]:
        """The episode (N,) of each of these rows."""
        return self._decoded.episode[rows]
