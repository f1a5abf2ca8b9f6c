"""A small real open_clip model with random weights, and what tests of labelling ask of a folder."""

import json
from pathlib import Path

import open_clip
import torch
from safetensors.torch import save_file

from lightning_modules.settings import TeacherSettings

CONFIG = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 24, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


def write_teacher(folder: Path, seed: int = 0, batch_size: int = 3) -> TeacherSettings:
    """Configuration and checkpoint of a small CLIP with random weights."""
    config = folder / "tiny-labelling-clip.json"
    config.write_text(json.dumps(CONFIG))
    open_clip.add_model_config(config)
    torch.manual_seed(seed)
    weights = folder / f"tiny-{seed}.safetensors"
    save_file(open_clip.create_model("tiny-labelling-clip").state_dict(), weights)
    return TeacherSettings(model=str(config), weights=str(weights), batch_size=batch_size, device="cpu")


def contents(folder: Path) -> dict[str, bytes]:
    """The shards of a folder, by name."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("shard-*.tar"))}
