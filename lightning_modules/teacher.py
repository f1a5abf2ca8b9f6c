"""The teacher: any open_clip model, frozen, that turns frames and sentences into unit embeddings."""

import hashlib
import json
import os.path
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import numpy as np
import open_clip
import torch
from huggingface_hub import constants as hub
from numpy.typing import NDArray
from open_clip.pretrained import download_pretrained, get_pretrained_cfg, list_pretrained_tags_by_model
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from datamodules.errors import DataError, MissingDependencyError, SettingsError, UnknownNameError
from lightning_modules.settings import TeacherSettings

CONFIG_KEYS = {"embed_dim", "vision_cfg", "text_cfg"}
WEIGHT_SUFFIXES = {".safetensors", ".pt", ".pth", ".bin", ".npz"}
HUB_FILES = "open_clip_model.safetensors (or open_clip_pytorch_model.bin)"
CONNECT_SECONDS = 5.0
FIX = "or change `model` and `weights` in the teacher's YAML file (conf/teacher holds examples)"


@dataclass(frozen=True)
class TeacherSource:
    """A model name open_clip knows and where its weights are: both checked, nothing loaded."""

    model: str
    """open_clip model name"""
    weights: str
    """pretrained tag or path of a checkpoint"""

    @property
    def is_file(self) -> bool:
        """Whether the weights are a checkpoint on this machine instead of a tag."""
        return Path(self.weights).is_file()

    @property
    def name(self) -> str:
        """What data sets and pages call this teacher, as 'ViT-B-32/laion2b_s34b_b79k'."""
        return f"{self.model}/{Path(self.weights).stem if self.is_file else self.weights}"


def find_teacher(settings: TeacherSettings) -> TeacherSource:
    """Check model and weights by name, before any work: no weights are read and nothing is downloaded.

    Raises:
        UnknownNameError: open_clip knows no such model, or the model has no such pretrained tag.
        SettingsError: the model's JSON file is not an open_clip model configuration.
        MissingDependencyError: `weights` or `model` names a file that does not exist.
    """
    model = _register_config(Path(settings.model)) if settings.model.endswith(".json") else settings.model
    if model not in open_clip.list_models():
        raise UnknownNameError(
            "teacher model", model, open_clip.list_models(), "(the path of a JSON configuration works too)"
        )
    if Path(settings.weights).is_file():
        return TeacherSource(model, settings.weights)
    if "/" in settings.weights or Path(settings.weights).suffix in WEIGHT_SUFFIXES:
        raise MissingDependencyError(
            f"there is no teacher checkpoint at {settings.weights!r}, seen from the working directory: "
            f"place it there, {FIX}"
        )
    tags = list_pretrained_tags_by_model(model)
    if get_pretrained_cfg(model, settings.weights) == {}:
        raise UnknownNameError(
            "pretrained tag", settings.weights, tags, f"(of model {model}); the path of a checkpoint works too"
        )
    return TeacherSource(model, settings.weights)


def check_prompts(settings: TeacherSettings, sentences: Sequence[str]) -> None:
    """Raise SettingsError for a sentence that is empty or longer than the model reads; needs no weights.

    open_clip's tokenizers cut long sentences silently, so the reward would ignore their end.
    """
    model = find_teacher(settings).model
    _check_lengths(open_clip.get_tokenizer(model), sentences)


def fetch_weights(settings: TeacherSettings) -> Path:
    """The teacher's checkpoint on this machine, downloaded if need be; nothing is loaded.

    Raises MissingDependencyError, saying which file to place, where it cannot be had; otherwise as `find_teacher`.
    """
    return _fetch(find_teacher(settings))


class ClipTeacher:
    """A frozen CLIP with its own preprocessing and tokenizer. It counts the frames it scores in `queries`."""

    def __init__(self, settings: TeacherSettings) -> None:
        source = find_teacher(settings)
        checkpoint = _fetch(source)
        device = settings.device if settings.device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
        if device == "cuda" and not torch.cuda.is_available():
            raise MissingDependencyError("teacher.device is 'cuda' but torch sees no GPU: set device: auto")
        self._device = torch.device(device)
        self._model = _load(source, checkpoint, self._device)
        self._transform = image_transform_v2(PreprocessCfg(**self._model.visual.preprocess_cfg), is_train=False)
        self._tokenizer = open_clip.get_tokenizer(source.model)
        self.batch_size: int = settings.batch_size
        self.simulators: tuple[str, ...] = tuple(settings.simulators)
        self.name: str = source.name
        with checkpoint.open("rb") as stream:
            self.digest: str = hashlib.file_digest(stream, "sha256").hexdigest()
        size = self._model.visual.preprocess_cfg["size"]
        self.input_pixels: int = size if isinstance(size, int) else int(size[0])
        self.dim: int = self.embed_prompts(["a frame"]).shape[1]
        self.queries: int = 0

    def check_prompts(self, sentences: Sequence[str]) -> None:
        """Raise SettingsError for a sentence that is empty or longer than this model reads."""
        _check_lengths(self._tokenizer, sentences)

    @torch.inference_mode()
    def embed_prompts(self, sentences: Sequence[str]) -> NDArray[np.float32]:
        """Embed sentences: float32 (N, D), unit norm. Raises SettingsError as `check_prompts` does."""
        self.check_prompts(sentences)
        tokens = self._tokenizer(list(sentences)).to(self._device)
        embeddings = self._model.encode_text(tokens, normalize=True)
        return np.asarray(embeddings.float().cpu().numpy(), np.float32)

    @torch.inference_mode()
    def embed_frames(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed RGB frames, uint8 (N, H, W, 3) of any size: float32 (N, D), unit norm; DataError for other arrays."""
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
            raise DataError(
                f"frames are {frames.dtype} {frames.shape}: the teacher takes uint8 (frames, height, width, 3)"
            )
        parts = [np.empty((0, self.dim), np.float32)]
        for start in range(0, len(frames), self.batch_size):
            batch = frames[start : start + self.batch_size]
            images = torch.stack([self._transform(Image.fromarray(frame)) for frame in batch]).to(self._device)
            parts.append(self._model.encode_image(images, normalize=True).float().cpu().numpy())
        self.queries += len(frames)
        return np.concatenate(parts)


def _register_config(path: Path) -> str:
    """Make open_clip know the model configuration in a JSON file; its name is the file's stem."""
    if not path.is_file():
        raise MissingDependencyError(f"there is no model configuration at {str(path)!r}: place it there, {FIX}")
    try:
        content = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise SettingsError(f"{path} is not JSON ({error}): an open_clip model configuration is expected") from error
    missing = CONFIG_KEYS - set(content)
    if missing:
        raise SettingsError(f"{path} lacks {', '.join(sorted(missing))}: it is no open_clip model configuration")
    open_clip.add_model_config(path)
    return path.stem


def _fetch(source: TeacherSource) -> Path:
    """The checkpoint file: the given one, or the tag's, from open_clip's cache or the network."""
    if source.is_file:
        return Path(source.weights)
    origin = get_pretrained_cfg(source.model, source.weights)
    try:
        with _offline_where_unreachable():
            return Path(download_pretrained(origin))
    except Exception as error:  # hub clients raise a dozen unrelated types when there is no network
        raise MissingDependencyError(
            f"the weights {source.weights!r} of {source.model} could not be downloaded ({type(error).__name__}). "
            f"On a machine with a network take {_file_and_address(origin)}, copy it to this machine, for instance into "
            f"conf/teacher, and set `weights` to its path, {FIX}"
        ) from error


def _file_and_address(origin: dict[str, Any]) -> str:
    """Which file holds a tag's weights, and where it can be found."""
    if origin.get("hf_hub"):
        repository, file = os.path.split(origin["hf_hub"])
        return f"{file or HUB_FILES} from https://huggingface.co/{repository}"
    return f"the file {origin.get('url', '')}"


@contextmanager
def _offline_where_unreachable() -> Iterator[None]:
    """Let the hub's client look into its cache only, if its host is out of reach: it would retry for a minute."""
    before = hub.HF_HUB_OFFLINE
    hub.HF_HUB_OFFLINE = before or not _reachable(hub.ENDPOINT)
    try:
        yield
    finally:
        hub.HF_HUB_OFFLINE = before


def _reachable(address: str) -> bool:
    """Whether the host of a web address takes connections; a proxy is trusted to reach it."""
    if getproxies():
        return True
    parts = urlsplit(address)
    port = parts.port or {"http": 80}.get(parts.scheme, 443)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


def _load(source: TeacherSource, checkpoint: Path, device: torch.device) -> Any:
    """The model with these weights and no others, in eval mode, without gradients."""
    try:
        model = open_clip.create_model(source.model, pretrained=source.weights, device=device, require_pretrained=True)
    except Exception as error:  # torch, safetensors and zipfile each have their own types for a damaged file
        raise DataError(
            f"{checkpoint} does not load into {source.model}: {str(error).strip().splitlines()[0]} "
            "Check that the file is whole and that it belongs to this model"
        ) from error
    model.eval().requires_grad_(False)
    return model


def _check_lengths(tokenizer: open_clip.SimpleTokenizer, sentences: Sequence[str]) -> None:
    limit = tokenizer.context_length
    for sentence in sentences:
        if not sentence.strip():
            raise SettingsError("a prompt is empty: write the sentence or take it out")
        # With room to spare no tokenizer cuts, and whatever it pads with ends the row.
        row = tokenizer([sentence], context_length=limit + len(sentence.encode()) + 2)[0]
        length = int((row != row[-1]).nonzero().max()) + 1
        if length > limit:
            raise SettingsError(
                f"the prompt {sentence!r} has {length} tokens: this teacher reads at most {limit}; shorten it"
            )
