"""The student: a timm backbone and a reward head, as a plain module."""

from typing import Any

import timm
import torch
from torch import Tensor, nn

from datamodules.errors import SettingsError, UnknownNameError


class StudentNetwork(nn.Module):
    """One reward a frame: backbone features, pooled by timm, through a two-layer head (F -> head_width -> 1)."""

    def __init__(self, backbone: str, pixels: int, head_width: int = 256, patch_size: int | None = None) -> None:
        """Build the network with random weights.

        Args:
            backbone: a name from `timm.list_models()`, as 'mobilenetv3_small_050'.
            pixels: side of the square frame.
            head_width: hidden units of the head, at least 1.
            patch_size: side of a vision transformer's patch in pixels; None keeps the one in its name.

        Raises:
            UnknownNameError: timm has no such backbone.
            SettingsError: the backbone cannot take frames of this size, or has no patches to resize.
        """
        super().__init__()
        if head_width < 1:
            raise SettingsError(f"head_width is {head_width}: it must be at least 1")
        self.backbone = build_backbone(backbone, pixels, patch_size)
        width = _feature_width(self.backbone, backbone, pixels)
        self.head = nn.Sequential(nn.Linear(width, head_width), nn.ReLU(), nn.Linear(head_width, 1))

    def forward(self, inputs: Tensor) -> Tensor:
        """Frames float32 (B, 3, P, P) from `to_model_input` -> rewards float32 (B,), standardised scale."""
        rewards: Tensor = self.head(self.backbone(inputs)).squeeze(1)
        return rewards


def check_backbone(name: str) -> None:
    """Raise UnknownNameError unless timm can build a backbone of this name from random weights."""
    # timm would also take 'hf_hub:...' and 'local-dir:...', which download or read foreign files
    if name not in (known := timm.list_models()):
        raise UnknownNameError("backbone", name, known, "(every name of timm.list_models() is allowed)")


def build_backbone(name: str, pixels: int, patch_size: int | None = None) -> nn.Module:
    """A timm model without classifier, random weights: (B, 3, P, P) -> pooled features (B, F)."""
    check_backbone(name)
    sized: dict[str, Any] = {"img_size": pixels} if _takes_image_size(name) else {}
    if patch_size is not None:
        if not sized:
            raise SettingsError(f"patch_size is {patch_size} but {name!r} has no patches: leave patch_size out")
        sized["patch_size"] = patch_size
    try:
        backbone: nn.Module = timm.create_model(name, pretrained=False, num_classes=0, **sized)
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise _does_not_fit(name, pixels, error) from error
    return backbone


def _takes_image_size(name: str) -> bool:
    """Whether the backbone's layers depend on the frame's size (transformers), from timm's own record of the model."""
    configuration = timm.get_pretrained_cfg(name)
    return configuration is not None and bool(configuration.fixed_input_size)


def _feature_width(backbone: nn.Module, name: str, pixels: int) -> int:
    """Run one blank frame: the only check that covers every architecture, and some miscount `num_features`."""
    backbone.eval()
    try:
        with torch.no_grad():
            features = backbone(torch.zeros(1, 3, pixels, pixels))
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise _does_not_fit(name, pixels, error) from error
    finally:
        backbone.train()
    if not isinstance(features, Tensor) or features.ndim != 2 or features.shape[1] < 1:
        raise SettingsError(f"backbone {name!r} gives no pooled features (batch, width): choose another one")
    return int(features.shape[1])


def _does_not_fit(name: str, pixels: int, error: Exception) -> SettingsError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return SettingsError(
        f"backbone {name!r} cannot take frames of {pixels} x {pixels} pixels ({reason}): "
        "choose another backbone, a frame_pixels of the task that it divides, or a patch_size that divides the frame"
    )
