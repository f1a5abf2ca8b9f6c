"""Captioned frames, and batches of them with sentences and graded labels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from open_clip.transform import PreprocessCfg
from torch import Tensor

from lightning_modules.caption_vocabulary import Vocabulary
from lightning_modules.sentences import Caption, Sentences

# Label logits of a frame and a sentence; within a family they fall from SAME to SAME - SLOPE as grades part.
SAME, SLOPE, GENERIC, OTHER_FAMILY = 2.0, 4.0, 0.5, -4.0
GENERIC_SHARE = 0.2  # of the sentences in a batch fit their whole family
OPENER_SHARE = 0.4  # of the sentences in a batch begin with an opener


@dataclass(frozen=True)
class CaptionedFrames:
    """Frames of one task with what the sentences say about them."""

    task: str
    """name of the task that they were drawn for"""
    family: str
    """family of the sentences that describe them"""
    frames: NDArray[np.uint8]
    """uint8 (N, P, P, 3), P the model's image size"""
    grades: NDArray[np.float32]
    """float32 (N,), 0 (farthest from the goal) to 1 (the goal)"""
    goal_measures: NDArray[np.float32]
    """float32 (N,), the simulator's own measure of the goal; rises with the grade"""
    measures: NDArray[np.float32]
    """float32 (N, M), named quantities of the state in the task's own units, as positions and sines of angles"""


def label_logits(
    image_grades: Tensor, image_families: Tensor, captions: Sequence[Caption], families: Sequence[str]
) -> Tensor:
    """The label of every pair, float32 (images, sentences).

    Args:
        image_grades: float (images,).
        image_families: int (images,), places in `families`.
        captions: the sentences.
        families: all family names.
    """
    caption_families = torch.tensor([families.index(caption.family) for caption in captions])
    generic = torch.tensor([caption.grade is None for caption in captions])
    caption_grades = torch.tensor([caption.grade or 0.0 for caption in captions])
    graded = SAME - SLOPE * (image_grades[:, None] - caption_grades[None, :]).abs()
    within = torch.where(generic[None, :], torch.tensor(GENERIC), graded)
    return torch.where(image_families[:, None] == caption_families[None, :], within, torch.tensor(OTHER_FAMILY))


@dataclass(frozen=True)
class Batch:
    """One training step's images, sentences and labels."""

    images: Tensor
    """float32 (B, 3, P, P), normalised, channels last"""
    tokens: Tensor
    """int64 (C, L), places in the training vocabulary"""
    label_logits: Tensor
    """float32 (B, C)"""
    same_family: Tensor
    """bool (B, C)"""
    measures: Tensor
    """float32 (B, M), standardised; every task has columns of its own"""
    measured: Tensor
    """bool (B, M), true in the columns of the frame's task"""


class Batches:
    """Draws frames evenly, and as many sentences, evenly over families and grades."""

    def __init__(
        self,
        data: Sequence[CaptionedFrames],
        sentences: Sentences,
        vocabulary: Vocabulary,
        batch_size: int,
        generator: np.random.Generator,
    ) -> None:
        self._data, self._sentences, self._vocabulary = data, sentences, vocabulary
        self._batch_size, self._generator = batch_size, generator
        self._families = sorted({part.family for part in data})
        self._starts = np.cumsum([0] + [len(part.frames) for part in data])
        self._grades = {
            family: sorted({c.grade for c in sentences.captions if c.family == family and c.grade is not None})
            for family in self._families
        }
        self._measures = standardised_measures(data)
        self.measures = self._measures[0].shape[1]
        preprocess = PreprocessCfg()
        self._mean = torch.tensor(preprocess.mean).view(1, 3, 1, 1) * 255
        self._std = torch.tensor(preprocess.std).view(1, 3, 1, 1) * 255

    def draw(self) -> Batch:
        """The next batch."""
        chosen = np.sort(self._generator.choice(self._starts[-1], self._batch_size, replace=False))
        parts = np.searchsorted(self._starts, chosen, side="right") - 1
        places = chosen - self._starts[parts]
        frames = np.stack([self._data[part].frames[place] for part, place in zip(parts, places, strict=True)])
        grades = torch.tensor(
            [float(self._data[part].grades[place]) for part, place in zip(parts, places, strict=True)]
        )
        families = torch.tensor([self._families.index(self._data[part].family) for part in parts])
        captions = [self._caption(self._families[n % len(self._families)]) for n in range(self._batch_size)]
        labels = label_logits(grades, families, captions, self._families)
        rows = [self._measures[part][place] for part, place in zip(parts, places, strict=True)]
        measures = torch.from_numpy(np.stack(rows))
        images = (torch.from_numpy(frames).permute(0, 3, 1, 2).float() - self._mean) / self._std
        return Batch(
            images.contiguous(memory_format=torch.channels_last),
            self._vocabulary.encode([self._worded(caption) for caption in captions], self._generator),
            labels,
            labels > OTHER_FAMILY,
            measures,
            measures.isfinite(),
        )

    def _caption(self, family: str) -> Caption:
        grade = None if self._generator.random() < GENERIC_SHARE else self._generator.choice(self._grades[family])
        return Caption(str(self._generator.choice(self._sentences.of(family, grade))), family, grade)

    def _worded(self, caption: Caption) -> str:
        opener = str(self._generator.choice(self._sentences.openers)) if self._generator.random() < OPENER_SHARE else ""
        return opener + caption.text


def standardised_measures(data: Sequence[CaptionedFrames]) -> list[NDArray[np.float32]]:
    """Measures with mean 0 and deviation 1 over each task, float32 (N, M); NaN in the columns of other tasks."""
    tasks = list(dict.fromkeys(part.task for part in data))
    together = [np.concatenate([part.measures for part in data if part.task == task]) for task in tasks]
    starts = np.cumsum([0] + [values.shape[1] for values in together])
    found = []
    for part in data:
        place = tasks.index(part.task)
        rows = np.full((len(part.frames), starts[-1]), np.nan, np.float32)
        rows[:, starts[place] : starts[place + 1]] = part.measures - together[place].mean(axis=0)
        rows[:, starts[place] : starts[place + 1]] /= together[place].std(axis=0) + 1e-6
        found.append(rows)
    return found
