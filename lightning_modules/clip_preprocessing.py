"""Frames to a CLIP's input: what open_clip's PIL transform does, for whole batches of tensors on any device."""

from dataclasses import dataclass
from typing import Any

import torch
from open_clip.transform import PreprocessCfg
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.transforms.v2 import functional as transforms


@dataclass(frozen=True)
class ClipPreprocessing:
    """A model's own preprocessing; frames that are not square are cropped, padded or squashed as it wants them."""

    config: PreprocessCfg

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the model's input, pixels."""
        size = self.config.size
        return (size, size) if isinstance(size, int) else (size[0], size[-1])

    @property
    def description(self) -> dict[str, Any]:
        """All that decides what becomes of a frame, as plain values that do not depend on who spelled them how."""
        return {
            "size": list(self.size),
            "mean": [float(value) for value in self.config.mean],
            "std": [float(value) for value in self.config.std],
            "interpolation": self._filter,
            "resize_mode": self.config.resize_mode,
            "fill_color": self.config.fill_color,
        }

    def __call__(self, frames: Tensor) -> Tensor:
        """Frames uint8 (N, H, W, 3), 0 to 255 -> normalised float32 (N, 3, height, width), on the frames' device."""
        images = frames.permute(0, 3, 1, 2)
        resized = resize_as_pil(images, self._resized_size(*images.shape[2:]), self._filter)
        fitted = self._fit(resized).contiguous()
        mean, std = (
            torch.tensor(values, device=frames.device).view(-1, 1, 1) * 255
            for values in (self.config.mean, self.config.std)
        )
        return fitted.float().sub_(mean).div_(std)

    @property
    def _filter(self) -> str:
        return "bilinear" if self.config.interpolation == "bilinear" else "bicubic"  # 'random' is for training

    def _resized_size(self, height: int, width: int) -> tuple[int, int]:
        """The size before cropping or padding, rounded as open_clip rounds it."""
        target_height, target_width = self.size
        if self.config.resize_mode == "squash":
            return self.size
        if self.config.resize_mode == "longest":
            ratio = max(height / target_height, width / target_width)
        elif target_height != target_width:
            ratio = min(height / target_height, width / target_width)
        else:  # torchvision's Resize: the short side exactly, the long side rounded down
            short = min(height, width)
            return target_height * height // short, target_width * width // short
        return round(height / ratio), round(width / ratio)

    def _fit(self, images: Tensor) -> Tensor:
        """Cut out the middle, or put what is too small into the middle of a plain picture."""
        missing = [max(0, target - have) for target, have in zip(self.size, images.shape[2:], strict=True)]
        if self.config.resize_mode == "longest" and any(missing):
            top, left = (each // 2 for each in missing)
            edges = [left, top, missing[1] - left, missing[0] - top]
            images = transforms.pad(images, edges, fill=self.config.fill_color)
        cropped: Tensor = transforms.center_crop(images, list(self.size))
        return cropped


def resize_as_pil(images: Tensor, size: tuple[int, int], interpolation: str) -> Tensor:
    """Resize uint8 images (N, 3, H, W) with antialiasing to within 2 of 255 levels of Pillow's result.

    torch's kernel for uint8 on CPUs follows Pillow. Where there is none (GPUs), columns and rows are resized one after
    the other and rounded to whole levels in between, as Pillow does: at sharp edges a single pass in float differs by
    up to 25 levels (measured on noise). Pillow 13 takes the rows first where a picture is squeezed much more in height
    than in width, which it never is for square frames; there up to 30 levels remain at single pixels.
    """
    if tuple(images.shape[2:]) == size:
        return images
    if images.device.type == "cpu":
        return interpolate(images, size, mode=interpolation, antialias=True)
    return resize_in_float(images, size, interpolation)


def resize_in_float(images: Tensor, size: tuple[int, int], interpolation: str) -> Tensor:
    """`resize_as_pil` on devices that resize floats only; works on every device."""
    for step in ((images.shape[2], size[1]), size):
        if tuple(images.shape[2:]) != step:
            resized = interpolate(images.float(), step, mode=interpolation, antialias=True)
            images = resized.round_().clamp_(0, 255).to(torch.uint8)
    return images
