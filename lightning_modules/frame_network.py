"""A network with its preprocessing inside: uint8 frames in, so that a runtime gets the whole way as one graph."""

import torch
from torch import Tensor, nn

from datamodules.pixels import input_scaling, to_model_input
from lightning_modules.fused import fuse_batch_norm


class FrameNetwork(nn.Module):
    """Frames uint8 (B, P, P, 3), 0 to 255 -> what the network gives for each of them, (B, ...)."""

    scale: Tensor
    shift: Tensor

    def __init__(self, network: nn.Module, pixels: int) -> None:
        """Take a network of (B, 3, P, P) inputs, in eval mode on the CPU. Its weights are shared, and laid out anew."""
        super().__init__()
        self.pixels = pixels
        # made here and moved with the network: in a CUDA graph nothing can be copied from the CPU
        scale, shift = input_scaling()
        self.register_buffer("scale", scale, persistent=False)
        self.register_buffer("shift", shift, persistent=False)
        # channels-last convolutions are up to twice as fast on CPUs, and frames arrive in that order
        self.network = fuse_batch_norm(network).to(memory_format=torch.channels_last)
        self.eval()  # the export to ONNX puts every part back into this mode

    def forward(self, frames: Tensor) -> Tensor:
        """Normalise and score."""
        outputs: Tensor = self.network(to_model_input(frames, (self.scale, self.shift)))
        return outputs
