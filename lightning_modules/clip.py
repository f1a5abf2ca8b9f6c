"""One frozen open_clip model with its own preprocessing and tokenizer, in the number format that suits the device."""

import logging
from collections.abc import Sequence
from time import perf_counter
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from open_clip.tokenizer import HFTokenizer
from open_clip.transform import PreprocessCfg
from torch import Tensor

from datamodules.errors import SettingsError
from lightning_modules.clip_digest import digest_of
from lightning_modules.clip_preprocessing import ClipPreprocessing
from lightning_modules.clip_source import ClipSource

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
OPEN_CLIP_PRECISION = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
log = logging.getLogger(__name__)


class Clip:
    """Frames and sentences to unit embeddings. Counts the seconds that it spends inside the image tower."""

    def __init__(self, source: ClipSource, device: torch.device, precision: str, batch_size: int) -> None:
        """Load the weights onto the device; `precision` is a key of `DTYPES`. Raises as `ClipSource` does."""
        checkpoint = source.fetch()
        self._tokenizer = source.load_tokenizer()
        self._model = source.load_model(checkpoint, str(device), OPEN_CLIP_PRECISION[precision])
        self._preprocess = ClipPreprocessing(PreprocessCfg(**self._model.visual.preprocess_cfg))
        self._device, self._dtype = device, DTYPES[precision]
        self._halved = False
        self.batch_size = batch_size
        self.name = source.name
        self.digest = digest_of(checkpoint, self._model, source.config, self._preprocess.description)
        """of the weights and of what surrounds them: preprocessing, activation, other settings of the model"""
        self.input_pixels = max(self._preprocess.size)
        self.dim = self.embed_prompts(["a frame"]).shape[1]
        self.model_seconds = 0.0

    def check_prompts(self, sentences: Sequence[str]) -> None:
        """Raise SettingsError for a sentence that is empty or longer than this model reads."""
        check_lengths(self._tokenizer, sentences, self.name)

    @torch.inference_mode()
    def embed_prompts(self, sentences: Sequence[str]) -> NDArray[np.float32]:
        """Embed sentences: float32 (N, D), unit norm."""
        self.check_prompts(sentences)
        tokens = self._tokenizer(list(sentences)).to(self._device)
        return _unit(self._model.encode_text(tokens))

    @torch.inference_mode()
    def embed_frames(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed RGB frames, uint8 (N, H, W, 3): float32 (N, D), unit norm.

        Raises SettingsError where memory does not even suffice for half of `batch_size`.
        """
        parts = [np.empty((0, self.dim), np.float32)]
        done = 0
        while done < len(frames):
            batch = frames[done : done + self.batch_size]
            try:
                parts.append(self._embed_batch(batch))
            except (RuntimeError, MemoryError) as error:
                if not _is_out_of_memory(error):
                    raise
                shortage = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            else:
                done += len(batch)
                continue
            # Outside of the except block, which would keep the failed batch's tensors alive.
            self._halve_batch(len(batch), shortage)
        return np.concatenate(parts)

    def _embed_batch(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        writable = np.require(frames, requirements=["C", "W"])  # a copy of views and memory maps, else the frames
        images = self._preprocess(torch.from_numpy(writable).to(self._device)).to(self._dtype)
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)  # the transfer and the preprocessing do not count as the model's
        start = perf_counter()
        embeddings = _unit(self._model.encode_image(images))
        self.model_seconds += perf_counter() - start
        return embeddings

    def _halve_batch(self, frames: int, shortage: str) -> None:
        if self._halved or frames == 1:
            remedy = f"set batch_size in the teacher's YAML file below {frames}, " if frames > 1 else ""
            raise SettingsError(
                f"out of memory on {self._device} with {frames} frames at a time ({shortage}): {remedy}free memory, or "
                f"take a smaller CLIP than {self.name}"
            )
        self._halved = True
        self.batch_size = frames // 2
        log.warning(
            f"out of memory on {self._device} with {frames} frames at a time: {self.name} goes on with "
            f"{self.batch_size}; set batch_size in the teacher's YAML file"
        )
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


def check_lengths(tokenizer: Any, sentences: Sequence[str], name: str) -> None:
    """Raise SettingsError for a sentence that is empty or longer than the CLIP called `name` reads.

    open_clip's tokenizers cut long sentences silently, so the reward would ignore their end.
    """
    for sentence in sentences:
        if not sentence.strip():
            raise SettingsError("a prompt is empty: write the sentence or take it out")
        length, limit = _token_count(tokenizer, sentence), tokenizer.context_length
        if length > limit:
            raise SettingsError(
                f"the prompt {sentence!r} has {length} tokens: {name} reads at most {limit}; shorten it"
            )


def _token_count(tokenizer: Any, sentence: str) -> int:
    """Tokens of a sentence, those for start and end included, nothing cut."""
    if not isinstance(tokenizer, HFTokenizer):
        return int(len(tokenizer.encode(sentence)) + 2)
    clips = tokenizer.tokenizer_mode == "clips"  # open_clip adds start, end and class itself in this mode
    ids = tokenizer.tokenizer(tokenizer.clean_fn(sentence), add_special_tokens=not clips).input_ids
    return int(len(ids) + 3 * clips)


def _unit(embeddings: Tensor) -> NDArray[np.float32]:
    """Normalised in float32 whatever the model computes in: float16 and bfloat16 would miss the unit norm."""
    return np.asarray(F.normalize(embeddings.float(), dim=-1).cpu().numpy(), np.float32)


def _is_out_of_memory(error: Exception) -> bool:
    # torch has a type for GPUs; its CPU allocator raises a RuntimeError that says "can't allocate memory"
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "allocate memory" in str(error)
