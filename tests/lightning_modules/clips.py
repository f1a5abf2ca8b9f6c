"""Small real open_clip models with random weights, written in open_clip's checkpoint format."""

import json
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from lightning_modules.settings import TeacherSettings

CONFIG: dict[str, Any] = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
SIGLIP_PREPROCESSING = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"}
SIGLIP_CONFIG: dict[str, Any] = {
    "embed_dim": 16,
    "custom_text": True,
    "init_logit_bias": -10,
    "vision_cfg": CONFIG["vision_cfg"],
    "text_cfg": {
        "context_length": 64,
        "vocab_size": 32,
        "hf_tokenizer_name": "timm/ViT-B-16-SigLIP",
        "tokenizer_kwargs": {"clean": "canonicalize"},
        "width": 16,
        "heads": 2,
        "layers": 1,
        "no_causal_mask": True,
        "proj_bias": True,
        "pool_type": "last",
    },
}


def write_clip(folder: Path, name: str, seed: int = 0, **changes: Any) -> TeacherSettings:
    """A configuration `NAME.json` and its checkpoint `NAME.safetensors`; `changes` replace entries of `CONFIG`."""
    config = folder / f"{name}.json"
    config.write_text(json.dumps({**CONFIG, **changes}))
    open_clip.add_model_config(config)
    torch.manual_seed(seed)
    weights = folder / f"{name}.safetensors"
    save_file(open_clip.create_model(name).state_dict(), weights)
    return TeacherSettings(model=str(config), weights=str(weights), batch_size=3, device="cpu")


def write_siglip_folder(folder: Path, name: str) -> TeacherSettings:
    """A folder as a hub has it, with the tokenizer's files: as in SigLIP, the token that ends also fills up."""
    folder.mkdir()
    checkpoint = write_clip(folder, name, **SIGLIP_CONFIG)
    Path(str(checkpoint.weights)).rename(folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": SIGLIP_CONFIG, "preprocess_cfg": SIGLIP_PREPROCESSING})
    )
    vocabulary = {word: number for number, word in enumerate(["<pad>", "</s>", "<unk>", "a", "pole", "upright"])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="</s>", pad_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    return TeacherSettings(model=str(folder / f"{name}.json"), weights=str(folder), device="cpu")
