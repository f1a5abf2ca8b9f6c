"""The graded loss, the vocabulary, and a training small enough for a test whose answer is visible in the pixels."""

import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch

from datamodules.errors import DataError
from datamodules.progress import silent
from lightning_modules.captioned_clip import (
    Batches,
    CaptionedFrames,
    Vocabulary,
    graded_sigmoid_loss,
    label_logits,
    save_weights,
    train_captioned_clip,
)
from lightning_modules.rewards import goal_baseline_reward
from lightning_modules.sentences import Caption, Sentences
from lightning_modules.settings import CaptionedClipSettings, TeacherSettings
from lightning_modules.teacher import ClipTeacher

SENTENCES = Sentences(
    (
        Caption("a bright square", "square", 1.0),
        Caption("a white square", "square", 1.0),
        Caption("a grey square", "square", 0.5),
        Caption("a black square", "square", 0.0),
        Caption("a square", "square", None),
        Caption("a red disc", "disc", 1.0),
        Caption("a dark disc", "disc", 0.0),
        Caption("a disc", "disc", None),
    ),
    openers=("", "a picture of "),
)


def brightness_frames(family: str, channels: tuple[int, ...], count: int, seed: int) -> CaptionedFrames:
    """Frames whose grade is the brightness of some channels."""
    generator = np.random.default_rng(seed)
    grades = generator.random(count).astype(np.float32)
    frames = generator.integers(0, 30, size=(count, 32, 32, 3), dtype=np.uint8)
    for channel in channels:
        frames[..., channel] += (grades[:, None, None] * 220).astype(np.uint8)
    return CaptionedFrames(family, family, frames, grades, grades)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "tiny-trained-clip.json"
    vision = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "head_width": 16}
    text = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    path.write_text(json.dumps({"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}))
    return path


def test_loss_is_zero_at_the_labels_and_positive_elsewhere() -> None:
    labels = torch.tensor([[2.0, -4.0], [0.5, -4.0]])
    same = torch.tensor([[True, False], [True, False]])
    assert float(graded_sigmoid_loss(labels, labels, same)) == pytest.approx(0, abs=1e-6)
    assert float(graded_sigmoid_loss(labels + 1, labels, same)) > 0.01


def test_loss_is_the_mean_divergence_within_plus_that_across_families() -> None:
    logits, labels = torch.tensor([[0.3, 1.0, -1.0]]), torch.tensor([[2.0, 0.5, -4.0]])
    p, q = torch.sigmoid(labels), torch.sigmoid(logits)
    kl = (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log())[0]
    expected = (kl[0] + kl[1]) / 2 + kl[2]
    loss = graded_sigmoid_loss(logits, labels, torch.tensor([[True, True, False]]))
    assert float(loss) == pytest.approx(float(expected), abs=1e-5)


def test_labels_fall_with_the_distance_of_grades_and_generic_sentences_fit_the_whole_family() -> None:
    captions = [SENTENCES.captions[place] for place in (0, 2, 3, 4, 5, 7)]
    labels = label_logits(torch.tensor([0.9, 0.1]), torch.tensor([1, 1]), captions, ["disc", "square"])
    bright, dark = labels
    assert bright[0] > bright[1] > bright[2]
    assert dark[0] < dark[1] < dark[2]
    assert bright[3] == dark[3]
    assert (labels[:, 4:] < labels[:, :4].min()).all()


def test_every_frame_and_every_family_is_drawn() -> None:
    data = [brightness_frames("square", (0, 1, 2), 5, 0), brightness_frames("disc", (0,), 5, 1)]
    batches = Batches(data, SENTENCES, Vocabulary(SENTENCES), 10, np.random.default_rng(0))
    batch = batches.draw()
    assert batch.images.shape == (10, 3, 32, 32)
    assert batch.same_family.sum(dim=1).tolist() == [5] * 10
    assert len({tuple(image.flatten().tolist()) for image in batch.images}) == 10


def test_the_end_of_text_is_the_highest_place_and_unseen_words_are_none() -> None:
    vocabulary = Vocabulary(SENTENCES)
    tokenizer = open_clip.get_tokenizer("")
    assert vocabulary.tokens[-1] == tokenizer.eot_token_id
    assert set(tokenizer.encode("pole")).isdisjoint(vocabulary.tokens)


def test_frames_of_another_size_are_refused(config: Path) -> None:
    data = brightness_frames("square", (0, 1, 2), 4, 0)
    wrong = CaptionedFrames("square", "square", data.frames[:, :16, :16], data.grades, data.goal_measures)
    with pytest.raises(DataError, match="32, 32, 3"):
        train_captioned_clip(config, [wrong], SENTENCES, CaptionedClipSettings(), silent)


@pytest.mark.slow
def test_a_trained_checkpoint_loads_in_open_clip_and_orders_unseen_frames(config: Path, tmp_path: Path) -> None:
    data = [brightness_frames("square", (0, 1, 2), 300, 0), brightness_frames("disc", (0,), 300, 1)]
    model = train_captioned_clip(config, data, SENTENCES, CaptionedClipSettings(steps=120, batch_size=32), silent)
    weights = tmp_path / "trained.safetensors"
    save_weights(model, weights)

    teacher = ClipTeacher(TeacherSettings(model=str(config), weights=str(weights), device="cpu"))
    unseen = brightness_frames("square", (0, 1, 2), 100, 2)
    reward = goal_baseline_reward(
        teacher.embed_frames(unseen.frames),
        teacher.embed_prompts(["a bright square"]),
        teacher.embed_prompts(["a square"]),
        0.5,
    )
    assert np.corrcoef(reward, unseen.grades)[0, 1] > 0.9
    discs = teacher.embed_frames(brightness_frames("disc", (0,), 50, 3).frames)
    square, disc = teacher.embed_prompts(["a square", "a disc"])
    assert (discs @ disc > discs @ square).mean() > 0.9

    # Words that never occurred carry nothing, so sentences that differ in them only mean the same.
    one, other = teacher.embed_prompts(["a bright zebra", "a bright spoon"])
    np.testing.assert_allclose(one, other, atol=1e-6)
