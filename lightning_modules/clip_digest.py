"""What makes a CLIP the one that it is: its weights, and all around them that changes an embedding, in one digest.

The same weights with another activation, another mean of the pixels or other attention heads give other embeddings
without any error.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from open_clip import CLIPTextCfg, CLIPVisionCfg
from open_clip.transformer import QuickGELU

from datamodules.manifest import canonical_digest

LEFT_OUT = {
    *("patch_dropout", "timm_drop", "timm_drop_path"),  # training alone
    *("timm_model_pretrained", "hf_model_pretrained", "hf_model_name", "hf_tokenizer_name"),  # where things come from
    "output_tokens",  # more outputs, the same embedding
    "image_size",  # part of the preprocessing
}


def digest_of(checkpoint: Path, model: Any, config: Mapping[str, Any], preprocessing: Mapping[str, Any]) -> str:
    """sha256, hexadecimal, of a CLIP's canonical JSON: `weights` (sha256 of the checkpoint) and what surrounds them.

    Args:
        checkpoint: the file of the weights.
        model: the loaded model, which knows the activation of its blocks.
        config: open_clip's configuration of the model; of its towers, what differs from open_clip's defaults counts.
        preprocessing: `ClipPreprocessing.description`.
    """
    with checkpoint.open("rb") as stream:
        weights = hashlib.file_digest(stream, "sha256").hexdigest()
    return canonical_digest(
        {
            "weights": weights,
            "preprocessing": preprocessing,
            "quick_gelu": any(isinstance(module, QuickGELU) for module in model.modules()),
            "vision": _unusual(config["vision_cfg"], CLIPVisionCfg),
            "text": _unusual(config["text_cfg"], CLIPTextCfg),
        }
    )


def _unusual(tower: Mapping[str, Any], defaults: type[CLIPVisionCfg] | type[CLIPTextCfg]) -> dict[str, Any]:
    """A tower's settings that differ from the defaults: some configurations spell those out, others leave them out."""
    usual = {field.name: field.default for field in fields(defaults)}
    return {key: value for key, value in tower.items() if key not in LEFT_OUT and value != usual.get(key)}
