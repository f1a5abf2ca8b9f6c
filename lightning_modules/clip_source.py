"""Where an open_clip model and its weights come from: name, tag, file or folder, checked before loading."""

import json
import logging
import os.path
import socket
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import open_clip
from huggingface_hub import constants as hub
from open_clip.pretrained import download_pretrained, get_pretrained_cfg, list_pretrained_tags_by_model

from datamodules.differences import first_difference
from datamodules.errors import DataError, MissingDependencyError, SettingsError, UnknownNameError

CONFIG_KEYS = {"embed_dim", "vision_cfg", "text_cfg"}
PREPROCESSING_KEYS = ("mean", "std", "interpolation", "resize_mode")
WEIGHT_SUFFIXES = {".safetensors", ".pt", ".pth", ".bin", ".npz"}
FOLDER_CONFIG = "open_clip_config.json"
FOLDER_WEIGHTS = (  # those that open_clip prefers where a folder holds several, in its order
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
)
HUB_WEIGHTS = "open_clip_model.safetensors (or open_clip_pytorch_model.bin)"
TOKENIZER_FILES = "the tokenizer's files (tokenizer.json, tokenizer_config.json, special_tokens_map.json)"
HUB = "https://huggingface.co"
CONNECT_SECONDS = 5.0
FIX = "or change `model` and `weights` in the teacher's YAML file (conf/teacher holds examples)"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClipSource:
    """A model name open_clip knows and where its weights are: both checked, nothing loaded."""

    model: str
    """open_clip model name"""
    weights: str
    """pretrained tag, path of a checkpoint, or path of a folder with `open_clip_config.json` and a checkpoint"""

    @property
    def is_folder(self) -> bool:
        """Whether architecture, preprocessing, tokenizer and weights come from one folder."""
        return Path(self.weights).is_dir()

    @property
    def is_tag(self) -> bool:
        """Whether the weights are one of open_clip's own, to be had from the network."""
        return not Path(self.weights).exists()

    @property
    def name(self) -> str:
        """What data sets and pages call it, as 'ViT-B-32/laion2b_s34b_b79k'."""
        return f"{self.model}/{self.weights if self.is_tag else Path(self.weights).stem}"

    @property
    def open_clip_name(self) -> str:
        """The name under which open_clip finds architecture and tokenizer."""
        return f"local-dir:{self.weights}" if self.is_folder else self.model

    @property
    def config(self) -> dict[str, Any]:
        """open_clip's configuration of the model: that of the folder, or the one it knows under the model's name."""
        if self.is_folder:
            return dict(_read_json(Path(self.weights) / FOLDER_CONFIG)["model_cfg"])
        return dict(open_clip.get_model_config(self.model))

    def fetch(self) -> Path:
        """The checkpoint file: the given one, or the tag's, from open_clip's cache or the network.

        Raises MissingDependencyError, saying which files to place where, when it cannot be had.
        """
        if self.is_folder:
            return _checkpoint_in(Path(self.weights))
        if not self.is_tag:
            return Path(self.weights)
        try:
            with _offline_where_unreachable():
                return Path(download_pretrained(self._tag))
        except Exception as error:  # hub clients raise a dozen unrelated types when there is no network
            raise MissingDependencyError(
                f"the weights {self.weights!r} of {self.model} could not be downloaded ({type(error).__name__}). "
                f"{self._what_to_place()}, {FIX}"
            ) from error

    def load_tokenizer(self) -> Any:
        """The model's tokenizer; those of SigLIP and some others need `transformers` and their files.

        Raises MissingDependencyError, saying what to install or which files to place where, when it cannot be had.
        """
        from_hub = self._hub_tokenizer and not self.is_folder
        try:
            with _offline_where_unreachable() if from_hub else nullcontext():
                return open_clip.get_tokenizer(self.open_clip_name)
        except ImportError as error:
            raise MissingDependencyError(
                f"the tokenizer of {self.model} needs transformers: install it with `pip install transformers`, {FIX}"
            ) from error
        except Exception as error:  # as above
            if self.is_folder:
                raise MissingDependencyError(
                    f"{self.weights} holds no tokenizer that loads ({_first_line(error)}): place {TOKENIZER_FILES} "
                    f"there, {FIX}"
                ) from error
            raise MissingDependencyError(
                f"the tokenizer of {self.model} could not be downloaded ({type(error).__name__}). "
                f"{self._what_to_place()}, {FIX}"
            ) from error

    def load_model(self, checkpoint: Path, device: str, precision: str) -> Any:
        """The model with these weights and no others, in eval mode, without gradients.

        Raises DataError for a checkpoint that is damaged or belongs to another model.
        """
        try:
            model = open_clip.create_model(
                self.open_clip_name,
                pretrained=None if self.is_folder else str(checkpoint),
                require_pretrained=True,  # random weights otherwise, without a word
                device=device,
                precision=precision,
                # open_clip only warns where a tag's weights were trained with another activation than the model's
                force_quick_gelu=self._tag.get("quick_gelu") or False,
                force_preprocess_cfg=None if self.is_folder else self._preprocessing(),
            )
        except Exception as error:  # torch, safetensors and zipfile each have their own types for a damaged file
            raise DataError(
                f"{checkpoint} does not load into {self.model}: {_first_line(error)} "
                "Check that the file is whole and that it belongs to this model"
            ) from error
        return model.eval().requires_grad_(False)

    @property
    def _tag(self) -> dict[str, Any]:
        return dict(get_pretrained_cfg(self.model, self.weights)) if self.is_tag else {}

    @property
    def _hub_tokenizer(self) -> str:
        """Hub repository of the tokenizer; empty where open_clip brings it along."""
        return str(open_clip.get_model_config(self.model)["text_cfg"].get("hf_tokenizer_name", ""))

    def _preprocessing(self) -> dict[str, Any]:
        """The tag's preprocessing; for a file the one that all of the model's tags share."""
        if self.is_tag:
            return {key: self._tag.get(key) for key in PREPROCESSING_KEYS}
        tags = [get_pretrained_cfg(self.model, tag) for tag in list_pretrained_tags_by_model(self.model)]
        known = [{key: tag.get(key) for key in PREPROCESSING_KEYS} for tag in tags]
        if any(each != known[0] for each in known):
            log.warning(
                f"weights of {self.model} differ in how they want frames prepared, and {self.weights} does not say: "
                f"open_clip's default is taken; a folder with the file and its {FOLDER_CONFIG} says it"
            )
            return {}
        return known[0] if known else {}

    def _what_to_place(self) -> str:
        start = "On a machine with a network take"
        repository, file = os.path.split(self._hub_address())
        page = f" from {HUB}/{repository}" if repository else ""
        if file and not self._hub_tokenizer:
            return f"{start} {file}{page}, copy it to this machine and set `weights` to its path"
        tokenizer = f"{TOKENIZER_FILES} from {HUB}/{self._hub_tokenizer}, and " if self._hub_tokenizer else ""
        return (
            f"{start} {tokenizer}{FOLDER_CONFIG} and {file or HUB_WEIGHTS}{page}, copy them into one folder on this "
            "machine, for instance in conf/teacher, and set `weights` to that folder"
        )

    def _hub_address(self) -> str:
        """Repository and, after a slash, perhaps a file; empty for a model of the user's own."""
        tags = [self.weights] if self.is_tag else list_pretrained_tags_by_model(self.model)
        return str(next((get_pretrained_cfg(self.model, tag).get("hf_hub") or "" for tag in tags), ""))


def find_clip(model: str, weights: str) -> ClipSource:
    """Check model and weights by name, before any work: no weights are read and nothing is downloaded.

    Raises:
        UnknownNameError: open_clip knows no such model, or the model has no such pretrained tag.
        SettingsError: the model's JSON file is not an open_clip configuration, or a folder holds another model.
        MissingDependencyError: `weights` or `model` names something that does not exist or is incomplete.
    """
    name = _register_config(Path(model)) if model.endswith(".json") else model
    if name not in open_clip.list_models():
        raise UnknownNameError(
            "teacher model", name, open_clip.list_models(), "(the path of a JSON configuration works too)"
        )
    if Path(weights).is_dir():
        _check_folder(Path(weights), name)
    elif not Path(weights).is_file():
        _check_tag(name, weights)
    return ClipSource(name, weights)


def _check_tag(model: str, tag: str) -> None:
    if "/" in tag or Path(tag).suffix in WEIGHT_SUFFIXES:
        raise MissingDependencyError(
            f"there is no teacher checkpoint at {tag!r}, seen from the working directory: place it there, {FIX}"
        )
    if get_pretrained_cfg(model, tag) == {}:
        raise UnknownNameError(
            "pretrained tag",
            tag,
            list_pretrained_tags_by_model(model),
            f"(of model {model}); the path of a checkpoint works too",
        )


def _check_folder(folder: Path, model: str) -> None:
    _checkpoint_in(folder)
    path = folder / FOLDER_CONFIG
    if not path.is_file():
        raise MissingDependencyError(
            f"{folder} holds no {FOLDER_CONFIG}: copy it there from where the weights come from, or set `weights` to "
            "the checkpoint file alone"
        )
    config = _read_json(path).get("model_cfg", {})
    _check_config(path, config)
    difference = first_difference(_shape(config), _shape(open_clip.get_model_config(model)))
    if difference:
        raise SettingsError(
            f"{folder} holds another model than {model!r}: {difference}; set `model` to the one that it holds"
        )


def _shape(config: dict[str, Any]) -> dict[str, Any]:
    """What tells models apart at a glance; loading the weights compares the rest."""
    vision, text = config["vision_cfg"], config["text_cfg"]
    return {"embed_dim": config["embed_dim"], "image_size": vision.get("image_size"), "text width": text.get("width")}


def _checkpoint_in(folder: Path) -> Path:
    for name in FOLDER_WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    raise MissingDependencyError(
        f"the folder {folder} holds no teacher checkpoint: place one there as {' or '.join(FOLDER_WEIGHTS)}, {FIX}"
    )


def _register_config(path: Path) -> str:
    """Make open_clip know the model configuration in a JSON file; its name is the file's stem."""
    if not path.is_file():
        raise MissingDependencyError(f"there is no model configuration at {str(path)!r}: place it there, {FIX}")
    _check_config(path, _read_json(path))
    open_clip.add_model_config(path)
    return path.stem


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise SettingsError(f"{path} is not JSON ({error}): an open_clip model configuration is expected") from error


def _check_config(path: Path, content: dict[str, Any]) -> None:
    missing = CONFIG_KEYS - set(content)
    if missing:
        raise SettingsError(f"{path} lacks {', '.join(sorted(missing))}: it is no open_clip model configuration")


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


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
