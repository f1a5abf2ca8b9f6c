"""Preprocessing on tensors beside open_clip's own transform on PIL pictures."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from lightning_modules.clip_preprocessing import ClipPreprocessing, resize_as_pil, resize_in_float

CLIP = PreprocessCfg(size=64)
CONFIGS = {
    "CLIP": CLIP,
    "SigLIP": PreprocessCfg(size=64, mean=(0.5,) * 3, std=(0.5,) * 3, resize_mode="squash"),
    "MobileCLIP": PreprocessCfg(size=64, mean=(0.0,) * 3, std=(1.0,) * 3, interpolation="bilinear"),
    "longest": replace(CLIP, resize_mode="longest", fill_color=127),
    "oblong": replace(CLIP, size=(64, 48)),
    "oblong longest": replace(CLIP, size=(48, 64), resize_mode="longest"),
    "oblong squash": replace(CLIP, size=(48, 64), resize_mode="squash"),
}
SIZES = [(64, 64), (40, 40), (150, 150), (51, 97), (70, 130), (64, 91)]
LEVELS = 2.01 / 255


def frames_of(height: int, width: int, count: int = 3) -> np.ndarray:
    """Smooth colours, noise, and sharp squares: what renderers, cameras and tests of resizing show."""
    generator = np.random.default_rng((height, width))
    smooth = np.linspace(0, 255, height * width * 3).reshape(height, width, 3)
    noise = generator.integers(0, 256, (height, width, 3))
    squares = np.kron(generator.integers(0, 2, (height // 10 + 1, width // 10 + 1, 3)), np.ones((10, 10, 1))) * 255
    return np.stack([smooth, noise, squares[:height, :width]])[:count].astype(np.uint8)


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_frames_become_what_open_clips_transform_makes_of_them(config: PreprocessCfg, height: int, width: int) -> None:
    frames = frames_of(height, width)
    transform = image_transform_v2(config, is_train=False)
    expected = torch.stack([transform(Image.fromarray(frame)) for frame in frames])
    images = ClipPreprocessing(config)(torch.from_numpy(frames))
    assert (images.dtype, images.shape) == (torch.float32, expected.shape)
    std = torch.tensor(config.std).view(3, 1, 1)
    assert ((images - expected).abs() * std).max() <= LEVELS
    assert ((images - expected).abs() * std).mean() < 0.1 / 255


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_tall_frames_differ_at_few_pixels_only(config: PreprocessCfg) -> None:
    """Pillow resizes rows before columns there, and rounds in between."""
    frames = frames_of(200, 70)
    transform = image_transform_v2(config, is_train=False)
    expected = torch.stack([transform(Image.fromarray(frame)) for frame in frames])
    error = (ClipPreprocessing(config)(torch.from_numpy(frames)) - expected).abs() * torch.tensor(config.std)[
        :, None, None
    ]
    assert error.mean() < 0.5 / 255
    assert (error > LEVELS).float().mean() < 0.05


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("resize", [resize_as_pil, resize_in_float])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_both_ways_to_resize_follow_pillow(interpolation: str, resize: object, height: int, width: int) -> None:
    """The second is what a GPU runs; on CPUs nothing else tests it."""
    frames = frames_of(height, width)
    assert callable(resize)
    resized = resize(torch.from_numpy(frames).permute(0, 3, 1, 2), (64, 48), interpolation).permute(0, 2, 3, 1)
    way = Image.Resampling[interpolation.upper()]
    expected = np.stack([Image.fromarray(frame).resize((48, 64), way) for frame in frames])
    assert resized.dtype == torch.uint8
    assert np.abs(resized.numpy().astype(int) - expected).max() <= 2


def test_frames_of_the_right_size_are_only_normalised() -> None:
    frames = frames_of(64, 64)
    expected = (frames / 255 - np.array(CLIP.mean)) / np.array(CLIP.std)
    images = ClipPreprocessing(CLIP)(torch.from_numpy(frames))
    np.testing.assert_allclose(images.permute(0, 2, 3, 1), expected, atol=1e-5)


def test_frames_are_left_as_they_were() -> None:
    frames = frames_of(64, 64)
    before = frames.copy()
    ClipPreprocessing(CLIP)(torch.from_numpy(frames))
    np.testing.assert_array_equal(frames, before)
