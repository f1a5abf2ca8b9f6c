"""Trains a small CLIP from captioned frames and writes it in open_clip's checkpoint format.

The loss is the pairwise sigmoid loss of Zhai et al. 2023 (SigLIP) with graded instead of binary labels: a sentence fits
frames of its own family the better the nearer their grades are, so the similarity to the goal sentence rises steadily
from the opposite of the goal to the goal.
"""

import json
import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from open_clip.transform import PreprocessCfg
from safetensors.torch import save
from torch import Tensor, nn

from datamodules.errors import DataError
from datamodules.progress import Report
from datamodules.results import write_atomically
from lightning_modules.sentences import Caption, Sentences
from lightning_modules.settings import CaptionedClipSettings

UNKNOWN = 0  # open_clip pads with this token; its embedding stays zero, and dropped words are replaced by it

# Label logits of a frame and a sentence; within a family they fall from SAME to SAME - SLOPE as grades part.
SAME, SLOPE, GENERIC, OTHER_FAMILY = 2.0, 4.0, 0.5, -4.0


@dataclass(frozen=True)
class CaptionedFrames:
    """Frames of one task with what the sentences say about them."""

    task: str
    """name of the task that they were drawn for"""
    family: str
    """family of the sentences that describe them"""
    frames: NDArray[np.uint8]
    """uint8 (N, P, P, 3), P the model's image size"""
    grades: NDArray[np.float32]
    """float32 (N,), 0 (farthest from the goal) to 1 (the goal)"""
    goal_measures: NDArray[np.float32]
    """float32 (N,), the simulator's own measure of the goal; rises with the grade"""


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
    optimizer = torch.optim.AdamW([*model.parameters(), bias], lr=settings.learning_rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=settings.steps, pct_start=0.1
    )
    model.visual.to(memory_format=torch.channels_last)
    see = torch.compile(model.visual) if shutil.which("g++") else model.visual  # twice as fast on CPUs
    batches = Batches(data, sentences, vocabulary, settings.batch_size, generator)
    mean_loss = 0.0
    for step in range(settings.steps):
        batch = batches.draw()
        with mixed_precision():
            seen = see(batch.images)
            read = model.encode_text(batch.tokens)
        similarity = F.normalize(seen.float(), dim=-1) @ F.normalize(read.float(), dim=-1).T
        loss = graded_sigmoid_loss(model.logit_scale.exp() * similarity + bias, batch.label_logits, batch.same_family)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own stub
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        mean_loss += (float(loss) - mean_loss) / min(step + 1, 50)
        report(step + 1, settings.steps, f"loss {mean_loss:.4f}")
    return vocabulary.expand(model, config)


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


def label_logits(
    image_grades: Tensor, image_families: Tensor, captions: Sequence[Caption], families: Sequence[str]
) -> Tensor:
    """The label of every pair, float32 (images, sentences).

    Args:
        image_grades: float (images,).
        image_families: int (images,), places in `families`.
        captions: the sentences.
        families: all family names.
    """
    caption_families = torch.tensor([families.index(caption.family) for caption in captions])
    generic = torch.tensor([caption.grade is None for caption in captions])
    caption_grades = torch.tensor([caption.grade or 0.0 for caption in captions])
    graded = SAME - SLOPE * (image_grades[:, None] - caption_grades[None, :]).abs()
    within = torch.where(generic[None, :], torch.tensor(GENERIC), graded)
    return torch.where(image_families[:, None] == caption_families[None, :], within, torch.tensor(OTHER_FAMILY))


@dataclass(frozen=True)
class Batch:
    """One training step's images, sentences and labels."""

    images: Tensor
    """float32 (B, 3, P, P), normalised, channels last"""
    tokens: Tensor
    """int64 (C, L), places in the training vocabulary"""
    label_logits: Tensor
    """float32 (B, C)"""
    same_family: Tensor
    """bool (B, C)"""


class Batches:
    """Draws frames evenly, and as many sentences, evenly over families and grades."""

    def __init__(
        self,
        data: Sequence[CaptionedFrames],
        sentences: Sentences,
        vocabulary: "Vocabulary",
        batch_size: int,
        generator: np.random.Generator,
    ) -> None:
        self._data, self._sentences, self._vocabulary = data, sentences, vocabulary
        self._batch_size, self._generator = batch_size, generator
        self._families = sorted({part.family for part in data})
        self._starts = np.cumsum([0] + [len(part.frames) for part in data])
        self._grades = {
            family: sorted({c.grade for c in sentences.captions if c.family == family and c.grade is not None})
            for family in self._families
        }
        preprocess = PreprocessCfg()
        self._mean = torch.tensor(preprocess.mean).view(1, 3, 1, 1) * 255
        self._std = torch.tensor(preprocess.std).view(1, 3, 1, 1) * 255

    def draw(self) -> Batch:
        """The next batch."""
        chosen = np.sort(self._generator.choice(self._starts[-1], self._batch_size, replace=False))
        parts = np.searchsorted(self._starts, chosen, side="right") - 1
        places = chosen - self._starts[parts]
        frames = np.stack([self._data[part].frames[place] for part, place in zip(parts, places, strict=True)])
        grades = torch.tensor(
            [float(self._data[part].grades[place]) for part, place in zip(parts, places, strict=True)]
        )
        families = torch.tensor([self._families.index(self._data[part].family) for part in parts])
        captions = [self._caption(self._families[n % len(self._families)]) for n in range(self._batch_size)]
        labels = label_logits(grades, families, captions, self._families)
        images = (torch.from_numpy(frames).permute(0, 3, 1, 2).float() - self._mean) / self._std
        return Batch(
            images.contiguous(memory_format=torch.channels_last),
            self._vocabulary.encode([self._worded(caption) for caption in captions], self._generator),
            labels,
            labels > OTHER_FAMILY,
        )

    def _caption(self, family: str) -> Caption:
        grade = None if self._generator.random() < 0.2 else self._generator.choice(self._grades[family])
        return Caption(str(self._generator.choice(self._sentences.of(family, grade))), family, grade)

    def _worded(self, caption: Caption) -> str:
        opener = str(self._generator.choice(self._sentences.openers)) if self._generator.random() < 0.4 else ""
        return opener + caption.text


class Vocabulary:
    """The tokens that occur in training; the others keep a zero embedding, so that unseen words are neutral."""

    DROP = 0.1  # share of words read as unknown, so that sentences with unseen words keep their sense

    def __init__(self, sentences: Sentences) -> None:
        self._tokenizer = open_clip.get_tokenizer("")
        texts = [caption.text for caption in sentences.captions] + list(sentences.openers)
        self._encoded: dict[str, list[int]] = {}
        used = {UNKNOWN, self._tokenizer.sot_token_id, self._tokenizer.eot_token_id}
        for text in texts:
            used.update(self._tokenizer.encode(text))
        self.tokens = np.array(
            sorted(used)
        )  # sorted: the end of text stays the highest, which CLIP's pooling looks for
        longest = max(len(self._tokenizer.encode(text)) for text in texts[: len(sentences.captions)])
        self.longest = 2 + longest + max(len(self._tokenizer.encode(opener)) for opener in sentences.openers)

    def encode(self, texts: Sequence[str], generator: np.random.Generator) -> Tensor:
        """Places in the training vocabulary, int64 (N, longest), with some words dropped."""
        rows = np.full((len(texts), self.longest), UNKNOWN)
        for row, text in zip(rows, texts, strict=True):
            if text not in self._encoded:
                self._encoded[text] = self._tokenizer.encode(text)
            words = np.searchsorted(self.tokens, self._encoded[text])
            words[generator.random(len(words)) < self.DROP] = UNKNOWN
            row[0] = len(self.tokens) - 2
            row[1 : 1 + len(words)] = words
            row[1 + len(words)] = len(self.tokens) - 1
        return torch.from_numpy(rows)

    def expand(self, model: nn.Module, config: Path) -> Any:
        """The same model with the full vocabulary and context length of `config`."""
        full = create_untrained(config, {})
        weights = {name: value.detach().clone() for name, value in model.state_dict().items()}
        for name, places in (
            ("token_embedding.weight", self.tokens),
            ("positional_embedding", np.arange(self.longest)),
        ):
            rows = torch.zeros_like(full.state_dict()[name])
            rows[torch.from_numpy(places)] = weights[name]
            weights[name] = rows
        full.load_state_dict(weights)
        return full.eval()


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
    content["text_cfg"].update(text_settings)
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"untrained-{config.stem}.json"
        path.write_text(json.dumps(content))
        (Path(folder) / "open_clip_config.json").write_text(json.dumps({"model_cfg": content}))
        return open_clip.create_model(f"local-dir:{folder}", load_weights=False)


def mixed_precision() -> Any:
    """bfloat16 where the processor computes with it, else plain float32."""
    return torch.autocast("cpu", torch.bfloat16) if torch.cpu._is_avx512_bf16_supported() else nullcontext()
