"""Frames become a model's input in one way, and anything else is refused with the rule."""

import numpy as np
import pytest
import timm.data
import torch
from torchvision.transforms import v2

from datamodules.errors import DataError
from datamodules.pixels import CHANNEL_MEAN, CHANNEL_STD, check_frames, random_shift, to_model_input

FRAMES = np.random.default_rng(0).integers(0, 256, (5, 12, 12, 3), dtype=np.uint8)


def test_model_input_equals_torchvisions_normalisation() -> None:
    normalise = v2.Normalize(timm.data.IMAGENET_DEFAULT_MEAN, timm.data.IMAGENET_DEFAULT_STD)
    expected = normalise(v2.ToDtype(torch.float32, scale=True)(torch.from_numpy(FRAMES).permute(0, 3, 1, 2)))
    torch.testing.assert_close(to_model_input(FRAMES), expected, check_stride=False)


def test_statistics_are_those_of_timm() -> None:
    assert (CHANNEL_MEAN, CHANNEL_STD) == (timm.data.IMAGENET_DEFAULT_MEAN, timm.data.IMAGENET_DEFAULT_STD)


def test_arrays_and_tensors_give_the_same_input() -> None:
    torch.testing.assert_close(to_model_input(FRAMES), to_model_input(torch.from_numpy(FRAMES)), rtol=0, atol=0)
    read_only = FRAMES.copy()
    read_only.flags.writeable = False
    torch.testing.assert_close(to_model_input(read_only), to_model_input(FRAMES), rtol=0, atol=0)
    torch.testing.assert_close(to_model_input(FRAMES[:, ::-1]), to_model_input(FRAMES[:, ::-1].copy()), rtol=0, atol=0)


@pytest.mark.parametrize("frames", [FRAMES, torch.from_numpy(FRAMES), FRAMES[:0]], ids=["array", "tensor", "no frames"])
def test_valid_frames_pass(frames: np.ndarray) -> None:
    check_frames(frames, 12)
    check_frames(frames)


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (FRAMES.astype(np.float32) / 255, r"float32 \(5, 12, 12, 3\): they must be uint8 \(batch, 84, 84, 3\)"),
        (FRAMES, r"shape \(5, 12, 12, 3\): it must be \(batch, 84, 84, 3\)"),
        (FRAMES[0], r"add the batch axis with frames\[None\]"),
        (FRAMES.transpose(0, 3, 1, 2), r"shape \(5, 3, 12, 12\)"),
        ([FRAMES], "frames are list"),
    ],
)
def test_other_frames_are_refused(frames: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_frames(frames, 84)  # type: ignore[arg-type]  # what callers without a type checker pass


def test_shifted_frames_are_crops_of_the_frame_with_repeated_edges() -> None:
    frames = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), np.uint8))
    torch.manual_seed(0)
    shifted = random_shift(frames, 2)
    assert (shifted.shape, shifted.dtype) == (frames.shape, torch.uint8)
    moves = []
    for before, after in zip(frames.numpy(), shifted.numpy(), strict=True):
        padded = np.pad(before, ((2, 2), (2, 2), (0, 0)), mode="edge")
        crops = {(y, x): padded[y : y + 8, x : x + 8] for y in range(5) for x in range(5)}
        (move,) = [place for place, crop in crops.items() if (crop == after).all()]
        moves.append(move)
    assert {y for y, _ in moves} == {x for _, x in moves} == set(range(5))


def test_stacked_frames_are_shifted_alike() -> None:
    frames = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (10, 8, 8, 3), np.uint8))
    shifted = random_shift(torch.cat((frames, frames, frames), dim=-1), 2)
    assert torch.equal(shifted[..., :3], shifted[..., 3:6])
    assert torch.equal(shifted[..., :3], shifted[..., 6:])


def test_shift_of_nothing_leaves_frames_as_they_are() -> None:
    frames = torch.randint(0, 256, (3, 8, 8, 3), dtype=torch.uint8)
    assert torch.equal(random_shift(frames, 0), frames)
