"""The graded loss, and a training small enough for a test whose answer is visible in the pixels."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.errors import DataError
from datamodules.progress import silent
from lightning_modules.caption_batches import CaptionedFrames
from lightning_modules.captioned_clip import graded_sigmoid_loss, save_weights, train_captioned_clip
from lightning_modules.rewards import goal_baseline_reward
from lightning_modules.settings import CaptionedClipSettings, TeacherSettings
from lightning_modules.teacher import ClipTeacher
from tests.captioned_squares import SENTENCES, discs, squares


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


def test_frames_of_another_size_are_refused(config: Path) -> None:
    data = squares(4, 0)
    small = CaptionedFrames("square", "square", data.frames[:, :16, :16], data.grades, data.grades, data.measures)
    with pytest.raises(DataError, match="32, 32, 3"):
        train_captioned_clip(config, [small], SENTENCES, CaptionedClipSettings(), silent)


@pytest.mark.slow
def test_a_trained_checkpoint_loads_in_open_clip_and_orders_unseen_frames(config: Path, tmp_path: Path) -> None:
    settings = CaptionedClipSettings(steps=150, batch_size=32)
    model = train_captioned_clip(config, [squares(300, 0), discs(300, 1)], SENTENCES, settings, silent)
    weights = tmp_path / "trained.safetensors"
    save_weights(model, weights)

    teacher = ClipTeacher(TeacherSettings(model=str(config), weights=str(weights), device="cpu"))
    unseen = squares(100, 2)
    goal, baseline = teacher.embed_prompts(["a bright square"]), teacher.embed_prompts(["a square"])
    reward = goal_baseline_reward(teacher.embed_frames(unseen.frames), goal, baseline, 0.5)
    assert np.corrcoef(reward, unseen.grades)[0, 1] > 0.9
    red = teacher.embed_frames(discs(50, 3).frames)
    square, disc = teacher.embed_prompts(["a square", "a disc"])
    assert (red @ disc > red @ square).mean() > 0.9

    # Words that never occurred carry nothing, so sentences that differ in them only mean the same.
    one, other = teacher.embed_prompts(["a bright zebra", "a bright spoon"])
    np.testing.assert_allclose(one, other, atol=1e-6)
