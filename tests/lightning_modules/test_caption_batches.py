"""Graded labels and the frames and sentences of a batch."""

import numpy as np
import pytest
import torch

from lightning_modules.caption_batches import Batches, CaptionedFrames, label_logits, standardised_measures
from lightning_modules.caption_vocabulary import Vocabulary
from tests.captioned_squares import SENTENCES, discs, squares


def test_labels_fall_with_the_distance_of_grades_and_generic_sentences_fit_the_whole_family() -> None:
    captions = [SENTENCES.captions[place] for place in (0, 2, 3, 4, 5, 7)]
    labels = label_logits(torch.tensor([0.9, 0.1]), torch.tensor([1, 1]), captions, ["disc", "square"])
    bright, dark = labels
    assert bright[0] > bright[1] > bright[2]
    assert dark[0] < dark[1] < dark[2]
    assert bright[3] == dark[3]
    assert (labels[:, 4:] < labels[:, :4].min()).all()


def test_every_frame_can_be_drawn_and_carries_its_own_labels() -> None:
    data = [squares(5, 0), discs(5, 1)]
    batch = Batches(data, SENTENCES, Vocabulary(SENTENCES), 10, np.random.default_rng(0)).draw()
    assert batch.images.shape == (10, 3, 32, 32)
    assert len({tuple(image.flatten().tolist()) for image in batch.images}) == 10
    assert batch.same_family.sum(dim=1).tolist() == [5] * 10
    assert batch.measured.tolist() == [[True, False]] * 5 + [[False, True]] * 5


def test_measures_are_standardised_over_all_parts_of_a_task() -> None:
    parts = [squares(50, 0), squares(70, 1), discs(60, 2)]
    first, second, other = standardised_measures(parts)
    together = np.concatenate([first[:, 0], second[:, 0]])
    assert together.mean() == pytest.approx(0, abs=1e-4)
    assert together.std() == pytest.approx(1, abs=1e-3)
    assert np.isnan(first[:, 1]).all()
    assert np.isnan(other[:, 0]).all()


def test_a_measure_that_never_changes_is_zero() -> None:
    data = squares(4, 0)
    constant = CaptionedFrames(
        "square", "square", data.frames, data.grades, data.grades, np.full((4, 1), 7, np.float32)
    )
    np.testing.assert_allclose(standardised_measures([constant])[0], 0)
