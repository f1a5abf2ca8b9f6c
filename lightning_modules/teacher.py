"""The teacher: one open_clip model or several, frozen, that turn frames and sentences into unit embeddings."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from datamodules.errors import DataError, MissingDependencyError, SettingsError
from datamodules.manifest import TeacherEntry
from lightning_modules.clip import Clip, check_lengths
from lightning_modules.clip_source import ClipSource, find_clip
from lightning_modules.settings import TeacherSettings


def find_teacher(settings: TeacherSettings) -> tuple[ClipSource, ...]:
    """Check models and weights by name, before any work; one source for each CLIP. Raises as `find_clip` does."""
    return tuple(find_clip(model, weights) for model, weights in settings.clips)


def check_prompts(settings: TeacherSettings, sentences: Sequence[str]) -> None:
    """Raise SettingsError for a sentence that is empty or longer than a CLIP reads; needs no weights."""
    for source in find_teacher(settings):
        check_lengths(source.load_tokenizer(), sentences, source.name)


def fetch_weights(settings: TeacherSettings) -> tuple[Path, ...]:
    """The teacher's checkpoints on this machine, downloaded if need be; nothing is loaded.

    Raises MissingDependencyError, saying which files to place, where one cannot be had; otherwise as `find_teacher`.
    """
    return tuple(source.fetch() for source in find_teacher(settings))


class ClipTeacher:
    """One frozen CLIP, or several whose embeddings lie one after the other.

    It counts the frames that its CLIPs score in `queries`: with two CLIPs, each frame counts twice.
    """

    def __init__(self, settings: TeacherSettings) -> None:
        """Load every CLIP.

        Raises:
            UnknownNameError, SettingsError: as `find_teacher`; the device cannot compute in the precision asked for.
            MissingDependencyError: weights, tokenizer or GPU are missing; the message says what to place where.
            DataError: a checkpoint is damaged or belongs to another model.
        """
        sources = find_teacher(settings)
        device = _device(settings.device)
        self.precision: str = _precision(settings.precision, device)
        self._clips = [Clip(source, device, self.precision, settings.batch_size) for source in sources]
        self.simulators: tuple[str, ...] = tuple(settings.simulators)
        self.queries: int = 0

    @property
    def name(self) -> str:
        """What data sets and pages call this teacher, as 'ViT-B-32/laion2b_s34b_b79k'; several joined with ' + '."""
        return " + ".join(clip.name for clip in self._clips)

    @property
    def digest(self) -> str:
        """Which teacher this is, sha256 in hexadecimal: other weights, preprocessing or activation give another.

        `clip_digest.digest_of` says what counts; of several CLIPs, the sha256 of their digests one after the other.
        """
        digests = [clip.digest for clip in self._clips]
        return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()

    @property
    def dims(self) -> tuple[int, ...]:
        """Length of each CLIP's embedding."""
        return tuple(clip.dim for clip in self._clips)

    @property
    def dim(self) -> int:
        """Length of an embedding of this teacher: the sum of `dims`."""
        return sum(self.dims)

    @property
    def entry(self) -> TeacherEntry:
        """What a data set's manifest says about this teacher."""
        return TeacherEntry(self.name, self.digest, self.dims, self.precision)

    @property
    def input_pixels(self) -> int:
        """Side of the pictures that the CLIP with the largest input looks at."""
        return max(clip.input_pixels for clip in self._clips)

    @property
    def batch_size(self) -> int:
        """Frames scored in one call; smaller than asked for after memory ran out."""
        return min(clip.batch_size for clip in self._clips)

    @property
    def model_seconds(self) -> float:
        """Seconds spent inside the image towers so far; preprocessing and transfers are not part of it."""
        return sum(clip.model_seconds for clip in self._clips)

    def check_prompts(self, sentences: Sequence[str]) -> None:
        """Raise SettingsError for a sentence that is empty or longer than one of the CLIPs reads."""
        for clip in self._clips:
            clip.check_prompts(sentences)

    def embed_prompts(self, sentences: Sequence[str]) -> NDArray[np.float32]:
        """Embed sentences: float32 (N, D), of unit norm for each CLIP. Raises SettingsError as `check_prompts` does."""
        return np.concatenate([clip.embed_prompts(sentences) for clip in self._clips], axis=1)

    def embed_frames(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed RGB frames, uint8 (N, H, W, 3) of any size: float32 (N, D), of unit norm for each CLIP.

        Raises:
            DataError: any other array.
            SettingsError: memory does not even suffice for half of `batch_size`.
        """
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
            raise DataError(
                f"frames are {frames.dtype} {frames.shape}: the teacher takes uint8 (frames, height, width, 3)"
            )
        embeddings = np.concatenate([clip.embed_frames(frames) for clip in self._clips], axis=1)
        self.queries += len(frames) * len(self._clips)
        return embeddings


def _device(asked: str) -> torch.device:
    if asked == "cuda" and not torch.cuda.is_available():
        raise MissingDependencyError("teacher.device is 'cuda' but torch sees no GPU: set device: auto")
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if asked == "auto" else asked)


def _precision(asked: str, device: torch.device) -> str:
    if device.type == "cpu":
        if asked == "float16":  # measured: 3 times (ViT-B-32) to 75 times (MobileCLIP-S1) as slow as float32
            raise SettingsError(
                "teacher.precision is 'float16' but the teacher runs on a CPU, where that is many times slower than "
                "float32: set precision: auto, float32 or bfloat16"
            )
        return "float32" if asked == "auto" else asked
    supported = torch.cuda.is_bf16_supported(including_emulation=False)
    if asked == "bfloat16" and not supported:
        raise SettingsError("teacher.precision is 'bfloat16', which this GPU does not have: set precision: auto")
    return ("bfloat16" if supported else "float16") if asked == "auto" else asked
