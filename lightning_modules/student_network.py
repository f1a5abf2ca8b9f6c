"""The student: timm backbones and heads that guess the reward or the teacher's embedding, as a plain module."""

from itertools import accumulate
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from datamodules.errors import DataError, MissingDependencyError, SettingsError, UnknownNameError

RANDOM, IMAGENET = "random", "imagenet"
"""where a backbone's weights come from, when not from a file"""


class StudentNetwork(nn.Module):
    """Frames to what each member of the student says of them: timm features, pooled, through a two-layer head.

    A single student has one member; an ensemble has several, each with a backbone of its own or all on one.
    """

    def __init__(
        self,
        backbone: str,
        pixels: int,
        head_width: int = 256,
        weights: str = RANDOM,
        *,
        dims: tuple[int, ...] = (),
        members: int = 1,
        shared_backbone: bool = False,
    ) -> None:
        """Build the network; its heads have random weights.

        Args:
            backbone: a name from `timm.list_models()`, as 'mobilenetv3_small_050'.
            pixels: side of the square frame.
            head_width: hidden units of a head, at least 1.
            weights: of the backbone: 'random', 'imagenet' (timm's own) or the path of a timm checkpoint.
            dims: of an embedding head: length of each CLIP's embedding; none is a reward head.
            members: heads, at least 1.
            shared_backbone: one backbone for all members instead of one for each.

        Raises:
            UnknownNameError: timm has no such backbone.
            SettingsError: the backbone cannot take frames of this size, or a number is out of range.
            MissingDependencyError: the weights cannot be had; the message says which file to place.
            DataError: the checkpoint does not fit the backbone.
        """
        super().__init__()
        if head_width < 1:
            raise SettingsError(f"head_width is {head_width}: it must be at least 1")
        if members < 1:
            raise SettingsError(f"members is {members}: it must be at least 1")
        count = 1 if shared_backbone else members
        self.backbones = nn.ModuleList(build_backbone(backbone, pixels, weights) for _ in range(count))
        width = _feature_width(self.backbones[0], backbone, pixels)
        self.heads = nn.ModuleList(
            EmbeddingHead(width, head_width, dims) if dims else _two_layers(width, head_width, 1)
            for _ in range(members)
        )
        self._squeezed = not dims

    def forward(self, inputs: Tensor) -> Tensor:
        """Frames float32 (B, 3, P, P) from `to_model_input` -> each of the K members' outputs, float32.

        Of a reward head (B, K) on the standardised scale, of an embedding head (B, K, D), each CLIP's part unit-norm.
        """
        return self.judge(self.features(inputs))

    def features(self, inputs: Tensor) -> list[Tensor]:
        """Frames float32 (B, 3, P, P) -> pooled features (B, F) of each backbone."""
        return [backbone(inputs) for backbone in self.backbones]

    def judge(self, features: list[Tensor]) -> Tensor:
        """What the members say of features of each backbone, shapes as in `forward`."""
        features = features * (len(self.heads) // len(features))  # where they share one
        outputs = torch.stack([head(own) for head, own in zip(self.heads, features, strict=True)], dim=1)
        return outputs.squeeze(2) if self._squeezed else outputs


class EmbeddingHead(nn.Module):
    """Features -> a guess of the teacher's embedding, float32 (B, D), the part of each CLIP unit-norm."""

    mean: Tensor
    scale: Tensor

    def __init__(self, features: int, width: int, dims: tuple[int, ...]) -> None:
        """Build it; `centre` sets its starting point."""
        super().__init__()
        self.layers = _two_layers(features, width, sum(dims))
        self.register_buffer("mean", torch.zeros(sum(dims)))
        self.register_buffer("scale", torch.ones(sum(dims)))
        self._dims = dims

    def centre(self, embeddings: Tensor) -> None:
        """Have the layers learn deviations from the mean of these embeddings (N, D), in their standard deviations.

        Frames of one simulator have embeddings that lie close together, so nearly all of an embedding is their mean.
        """
        self.mean.copy_(embeddings.mean(dim=0))
        self.scale.copy_(embeddings.std(dim=0, correction=0))

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, F) -> embeddings (B, D)."""
        guess = self.mean + self.scale * self.layers(features)
        ends = list(accumulate(self._dims))
        parts = [guess[:, end - dim : end] for end, dim in zip(ends, self._dims, strict=True)]  # torch.fx traces these
        return torch.cat([functional.normalize(part, dim=1) for part in parts], dim=1)


def _two_layers(features: int, width: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(features, width), nn.ReLU(), nn.Linear(width, outputs))


def check_backbone(name: str) -> None:
    """Raise UnknownNameError unless timm can build a backbone of this name from random weights."""
    # timm would also take 'hf_hub:...' and 'local-dir:...', which download or read foreign files
    if name not in (known := timm.list_models()):
        raise UnknownNameError("backbone", name, known, "(every name of timm.list_models() is allowed)")


def check_weights(weights: str) -> None:
    """Raise MissingDependencyError for a checkpoint that does not exist."""
    if weights not in (RANDOM, IMAGENET) and not Path(weights).is_file():
        raise MissingDependencyError(
            f"there is no backbone checkpoint at {weights!r}, seen from the working directory: place it there, or set "
            f"model.weights to {RANDOM!r} or {IMAGENET!r}"
        )


def build_backbone(name: str, pixels: int, weights: str = RANDOM) -> nn.Module:
    """A timm model without classifier: (B, 3, P, P) -> pooled features (B, F)."""
    check_backbone(name)
    check_weights(weights)
    loading: dict[str, Any] = {"pretrained": weights != RANDOM}
    if weights not in (RANDOM, IMAGENET):
        loading["pretrained_cfg_overlay"] = {"file": weights}
    try:
        return _create(name, pixels, loading)
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        if weights not in (RANDOM, IMAGENET):
            raise DataError(f"{weights} does not load into {name!r} ({_reason(error)})") from error
        raise _does_not_fit(name, pixels, error) from error
    except Exception as error:  # hub clients raise a dozen unrelated types when there is no network
        raise _cannot_be_had(name, error) from error


def _create(name: str, pixels: int, loading: dict[str, Any]) -> nn.Module:
    """Transformers are told the frame's size, and their patch shrinks to the next size that divides it."""
    configuration = timm.get_pretrained_cfg(name)
    if configuration is not None and configuration.fixed_input_size:
        loading = {**loading, "img_size": pixels}
        with torch.device("meta"):  # no weights, no time
            own = _side(getattr(getattr(timm.create_model(name), "patch_embed", None), "patch_size", 1))
        fitting = next(size for size in range(own, 0, -1) if pixels % size == 0)
        # less than half a side is four times the tokens and more: then timm says that it does not fit
        if own // 2 <= fitting < own:
            loading["patch_size"] = fitting
    backbone: nn.Module = timm.create_model(name, num_classes=0, **loading)
    return backbone


def _side(size: int | tuple[int, int]) -> int:
    """timm's models say a patch's size in both ways."""
    return size if isinstance(size, int) else size[0]


def _cannot_be_had(name: str, error: Exception) -> MissingDependencyError:
    configuration = timm.get_pretrained_cfg(name)
    if configuration is None or not configuration.has_weights:
        return MissingDependencyError(f"timm has no pretrained weights of {name!r}: set model.weights to {RANDOM!r}")
    place = f"https://huggingface.co/{configuration.hf_hub_id}" if configuration.hf_hub_id else configuration.url
    return MissingDependencyError(
        f"the pretrained weights of {name!r} could not be downloaded ({type(error).__name__}). On a machine with a "
        f"network take model.safetensors from {place}, copy it to this machine and set model.weights to its path, or "
        f"set it to {RANDOM!r}"
    )


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
    return SettingsError(
        f"backbone {name!r} cannot take frames of {pixels} x {pixels} pixels ({_reason(error)}): "
        "choose another backbone, or a frame_pixels of the task that its patches divide"
    )


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
