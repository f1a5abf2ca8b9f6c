"""uint8 frames -> the student's input: the only preprocessing in the project (a teacher brings its model's own)."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datamodules.errors import DataError

# ImageNet statistics, as timm's pretrained backbones expect them (timm.data.IMAGENET_DEFAULT_MEAN and _STD).
CHANNEL_MEAN = (0.485, 0.456, 0.406)
CHANNEL_STD = (0.229, 0.224, 0.225)


def check_frames(frames: NDArray[Any] | Tensor, pixels: int | None = None) -> None:
    """Raise DataError unless frames are uint8 (batch, height, width, 3), of side `pixels` where that is given."""
    rule = "(batch, height, width, 3)" if pixels is None else f"(batch, {pixels}, {pixels}, 3)"
    if not isinstance(frames, (np.ndarray, Tensor)):
        raise DataError(f"frames are {type(frames).__name__}: give a numpy array, uint8 {rule}")
    shape, dtype = tuple(frames.shape), str(frames.dtype).removeprefix("torch.")
    if dtype != "uint8":
        raise DataError(f"frames are {dtype} {shape}: they must be uint8 {rule}, 0 to 255, not scaled")
    if len(shape) != 4 or shape[3] != 3 or (pixels is not None and shape[1:3] != (pixels, pixels)):
        hint = ": add the batch axis with frames[None]" if len(shape) == 3 else ""
        raise DataError(f"frames have shape {shape}: it must be {rule}{hint}")


def as_tensor(frames: NDArray[np.uint8]) -> Tensor:
    """The same memory as a tensor where torch can take it, else a copy."""
    # torch takes neither negative strides nor, without a warning, read-only memory
    return torch.from_numpy(np.require(frames, requirements=("C", "W")))


def random_shift(frames: Tensor, pixels: int, generator: torch.Generator | None = None) -> Tensor:
    """Frames uint8 (B, P, P, C), each moved by up to `pixels` along both axes, its edges repeated.

    The augmentation of DrQ (Kostrikov et al. 2021, "Image Augmentation Is All You Need"); from torch's own generator
    unless one is given.
    """
    if pixels == 0:
        return frames
    size, device = frames.shape[1], frames.device
    offsets = torch.randint(-pixels, pixels + 1, (2, len(frames), 1), device=device, generator=generator)
    rows, columns = (torch.arange(size, device=device) + offsets).clamp(0, size - 1)
    number = torch.arange(len(frames), device=device)
    return frames[number[:, None, None], rows[:, :, None], columns[:, None, :]]


def input_scaling(device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """Scale and shift, float32 (3,) each: (x / 255 - mean) / std as one multiply-add, x * scale - shift."""
    scale = torch.tensor([1.0 / (255.0 * std) for std in CHANNEL_STD], device=device)
    shift = torch.tensor([mean / std for mean, std in zip(CHANNEL_MEAN, CHANNEL_STD, strict=True)], device=device)
    return scale, shift


def to_model_input(frames: NDArray[np.uint8] | Tensor, scaling: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """Frames uint8 (B, H, W, 3), 0 to 255 -> float32 (B, 3, H, W), zero mean and unit variance over ImageNet.

    The result lies on the device of `frames`. `scaling` is `input_scaling` made before, on that device: a CUDA graph
    cannot record how it is made.
    """
    tensor = as_tensor(frames) if isinstance(frames, np.ndarray) else frames
    scale, shift = input_scaling(tensor.device) if scaling is None else scaling
    # written channels-last in memory, which CPU convolutions prefer
    return (tensor.to(torch.float32) * scale - shift).permute(0, 3, 1, 2)
