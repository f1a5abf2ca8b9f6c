"""Trains a small CLIP from captioned frames and writes it in open_clip's checkpoint format.

The loss is the pairwise sigmoid loss of Zhai et al. 2023 (SigLIP) with graded instead of binary labels: a sentence fits
frames of its own family the better the nearer their grades are, so the similarity to the goal sentence rises steadily
from the opposite of the goal to the goal. Beside it a linear layer reads the state's measures (positions, sines of
angles) from the image embedding: that teaches the image tower to see several times sooner than sentences alone, and is
dropped after training.
"""

import json
import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor, nn

from datamodules.errors import DataError
from datamodules.progress import Report
from datamodules.results import write_atomically
from lightning_modules.caption_batches import Batches, CaptionedFrames
from lightning_modules.caption_vocabulary import UNKNOWN, Vocabulary
from lightning_modules.sentences import Sentences
from lightning_modules.settings import CaptionedClipSettings

COMPILE_FROM_STEPS = 500


def train_captioned_clip(
    config: Path, data: Sequence[CaptionedFrames], sentences: Sentences, settings: CaptionedClipSettings, report: Report
) -> Any:
    """Train a CLIP of the architecture in `config` from scratch; frames are drawn evenly from all of `data`.

    Returns the model in eval mode with open_clip's full vocabulary. Raises DataError for frames of another size.
    """
    torch.manual_seed(settings.seed)
    generator = np.random.default_rng(settings.seed)
    vocabulary = Vocabulary(sentences)
    model = create_untrained(config, {"vocab_size": len(vocabulary.tokens), "context_length": vocabulary.longest})
    pixels = model.visual.image_size if isinstance(model.visual.image_size, int) else model.visual.image_size[0]
    for part in data:
        if part.frames.shape[1:] != (pixels, pixels, 3):
            raise DataError(f"frames of {part.task} are {part.frames.shape[1:]}: {config} takes {(pixels, pixels, 3)}")
    model.token_embedding.padding_idx = UNKNOWN  # no gradient for this row
    with torch.no_grad():
        model.token_embedding.weight[UNKNOWN] = 0.0
    bias = nn.Parameter(torch.tensor(-2.0))
    batches = Batches(data, sentences, vocabulary, settings.batch_size, generator)
    gauge = nn.Linear(model.text_projection.shape[1], batches.measures)
    optimizer = torch.optim.AdamW(
        [*model.parameters(), *gauge.parameters(), bias], lr=settings.learning_rate, weight_decay=0.05
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=settings.steps, pct_start=0.1
    )
    model.visual.to(memory_format=torch.channels_last)
    # Compiled, a step takes half the time on CPUs; compiling takes a minute and a C++ compiler.
    worthwhile = settings.steps >= COMPILE_FROM_STEPS and shutil.which("g++")
    see = torch.compile(model.visual) if worthwhile else model.visual
    recent = np.zeros(2)
    for step in range(settings.steps):
        batch = batches.draw()
        with mixed_precision():
            seen = see(batch.images)
            read = model.encode_text(batch.tokens)
        similarity = F.normalize(seen.float(), dim=-1) @ F.normalize(read.float(), dim=-1).T
        loss = graded_sigmoid_loss(model.logit_scale.exp() * similarity + bias, batch.label_logits, batch.same_family)
        gauged = F.mse_loss(gauge(seen.float())[batch.measured], batch.measures[batch.measured])
        optimizer.zero_grad()
        (loss + gauged).backward()  # type: ignore[no-untyped-call]  # torch's own stub
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        recent += (np.array([loss.item(), gauged.item()]) - recent) / min(step + 1, 50)
        report(step + 1, settings.steps, f"loss {recent[0]:.4f}, measures {recent[1]:.4f}")
    full = create_untrained(config, {})
    full.load_state_dict(vocabulary.expand(model.state_dict(), full.state_dict()))
    return full.eval()


def graded_sigmoid_loss(logits: Tensor, label_logits: Tensor, same_family: Tensor) -> Tensor:
    """Divergence of the predicted from the labelled pair probabilities, 0 at the optimum.

    Args:
        logits: predicted, float (images, sentences).
        label_logits: labels on the same scale, float (images, sentences).
        same_family: bool (images, sentences); pairs within and across families weigh the same in total.
    """
    labels = torch.sigmoid(label_logits)
    divergence = F.binary_cross_entropy_with_logits(
        logits, labels, reduction="none"
    ) - F.binary_cross_entropy_with_logits(label_logits, labels, reduction="none")
    return divergence[same_family].mean() + divergence[~same_family].mean()


def save_weights(model: nn.Module, path: Path) -> None:
    """Write the weights as float16 safetensors, which `open_clip.create_model(..., pretrained=path)` reads."""
    half = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in model.state_dict().items()
    }
    write_atomically(path, save(half))


def create_untrained(config: Path, text_settings: dict[str, int]) -> Any:
    """A model of the architecture in a JSON file, random weights; `text_settings` replace entries of its text_cfg."""
    content = json.loads(config.read_text())
    return open_clip.CLIP(**{**content, "text_cfg": {**content["text_cfg"], **text_settings}})


def mixed_precision() -> Any:
    """bfloat16 where the processor computes with it, else plain float32."""
    return torch.autocast("cpu", torch.bfloat16) if torch.cpu._is_avx512_bf16_supported() else nullcontext()
