"""The eyes of an agent that sees pixels: DrQ-v2's encoder (Yarats et al. 2021, arXiv 2107.09645, appendix B).

Four convolutions of 3 x 3 with 32 channels, on pixels from -0.5 to 0.5, drawn orthogonally. One departure: the second
moves by 2 pixels as the first does, which leaves 16 x 16 positions of 84 x 84 pixels in place of 35 x 35 and makes a
gradient step 2.4 times cheaper on a CPU.
"""

import torch
from torch import Tensor, nn

from datamodules.errors import SettingsError

CHANNELS = 32
STRIDES = (2, 2, 1, 1)
SMALLEST = 23
"""side of the smallest frame of which these convolutions leave a position"""
FEATURES = 50
"""numbers that actor and critics reduce what the encoder gives to, each by a trunk of its own"""
SHIFT_SHARE = 4 / 84
"""how far frames are shifted in training, as a share of their side (4 of 84 pixels in the paper)"""


class FrameEncoder(nn.Module):
    """Stacked frames uint8 (N, P, P, C) to features float32 (N, `outputs`), 0 and above."""

    def __init__(self, pixels: int, channels: int) -> None:
        """Take frames of this side. Raises SettingsError for one that the convolutions leave nothing of."""
        super().__init__()
        check_pixels(pixels)
        layers: list[nn.Module] = []
        side = pixels
        for stride in STRIDES:
            layer = nn.Conv2d(channels, CHANNELS, 3, stride)
            nn.init.orthogonal_(layer.weight, nn.init.calculate_gain("relu"))
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]  # there is one
            layers += [layer, nn.ReLU(inplace=True)]
            side, channels = (side - 3) // stride + 1, CHANNELS
        self.convolutions = nn.Sequential(*layers)
        self.outputs = CHANNELS * side * side

    def forward(self, stacks: Tensor) -> Tensor:
        """Encode; see the class."""
        # as they lie in memory: channels last, which CPU convolutions prefer
        inputs = (stacks.to(torch.float32) * (1.0 / 255.0) - 0.5).permute(0, 3, 1, 2)
        features: Tensor = self.convolutions(inputs).flatten(1)
        return features


def check_pixels(pixels: int) -> None:
    """Raise SettingsError for frames that are too small to be encoded."""
    if pixels < SMALLEST:
        raise SettingsError(
            f"render.frame_pixels is {pixels}: an agent that sees pixels takes frames of {SMALLEST} pixels and more; "
            "raise it, or set sac.observations to state"
        )


def frame_trunk(inputs: int) -> nn.Sequential:
    """Features (N, inputs) to (N, FEATURES) in -1 to 1, as DrQ-v2's actor and critics each begin."""
    return nn.Sequential(nn.Linear(inputs, FEATURES), nn.LayerNorm(FEATURES), nn.Tanh())


def shift_of(pixels: int) -> int:
    """By how many pixels frames of this side are shifted at most."""
    return round(pixels * SHIFT_SHARE)
