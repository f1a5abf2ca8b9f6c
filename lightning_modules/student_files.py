"""A student on disk: `student.safetensors` (weights), `student.json` (what they mean). Nothing in them can execute."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save

from datamodules.errors import DataError, SuiteError
from datamodules.results import read_json, write_atomically, write_json
from datamodules.tasks import Prompts
from lightning_modules.fidelity import Fidelity
from lightning_modules.rewards import Standardisation
from lightning_modules.student_network import StudentNetwork

SCHEMA_VERSION = 2
WEIGHTS, CARD = "student.safetensors", "student.json"
ONNX = "student.onnx"
"""the same student as a graph, made from the other two when a runtime needs it (onnx_export.py)"""
REMEDY = "fit it again with `python -m scripts.fit_student fit`"


@dataclass(frozen=True)
class StudentCard:
    """Everything about a student but its weights."""

    task: str
    """name of the task whose frames it learned"""
    backbone: str
    """timm name"""
    pixels: int
    """side of the square frames it takes"""
    head_width: int
    """hidden units of its head"""
    prompts: Prompts
    """the sentences and alpha whose reward it learned"""
    standardisation: Standardisation
    """scale of its output: raw reward = output * std + mean"""
    manifest_digest: str
    """digest of the labels' manifest, or of several together"""
    fidelity: Fidelity
    """agreement with the teacher on the held-out episodes, rewards standardised"""

    def network(self) -> StudentNetwork:
        """The network the card describes, with random weights."""
        return StudentNetwork(self.backbone, self.pixels, self.head_width)


def save_student(folder: Path, network: StudentNetwork, card: StudentCard) -> None:
    """Write weights, then card, each whole or not at all; a folder without a card holds no student."""
    for old in (CARD, ONNX):  # never an old one beside new weights
        (folder / old).unlink(missing_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    write_atomically(folder / WEIGHTS, save(tensors))
    write_json(folder / CARD, {"schema_version": SCHEMA_VERSION, **asdict(card)})


def load_student(folder: Path) -> tuple[StudentNetwork, StudentCard]:
    """The network, in eval mode on the CPU, and its card.

    Raises:
        DataError: a file is missing, unreadable, of another schema, or the weights are not finite or do not fit.
        UnknownNameError, SettingsError: the card names a backbone that this timm does not have or cannot size.
    """
    card = read_card(folder)
    network = card.network()
    path = folder / WEIGHTS
    try:
        tensors = load(path.read_bytes())
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing: {REMEDY}") from error
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path} is damaged ({error}): {REMEDY}") from error
    expected = network.state_dict()
    wrong = [
        f"{name}: {_describe(tensors.get(name))} instead of {_describe(expected.get(name))}"
        for name in sorted(expected.keys() | tensors.keys())
        if _describe(expected.get(name)) != _describe(tensors.get(name))
    ]
    if wrong:
        shown = "\n".join(f"  {line}" for line in wrong[:5])
        raise DataError(f"{path} does not fit {CARD} in {len(wrong)} tensors:\n{shown}\n{REMEDY}")
    broken = [name for name, tensor in sorted(tensors.items()) if not tensor.isfinite().all()]
    if broken:
        raise DataError(f"{path} holds NaN or infinity in {', '.join(broken[:5])}: {REMEDY}")
    network.load_state_dict(tensors)
    return network.eval(), card


def read_card(folder: Path) -> StudentCard:
    """The card alone; needs no weights. Raises DataError when it is missing, unreadable or of another schema."""
    path = folder / CARD
    try:
        content = read_json(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(f"{folder} holds no student ({CARD} is missing): {REMEDY} and --out {folder}") from error
    except (ValueError, OSError) as error:
        raise DataError(f"{path} is not readable ({error}): {REMEDY}") from error
    version = content.pop("schema_version", None)
    if version != SCHEMA_VERSION:
        raise DataError(f"{path} has schema version {version}, this code reads {SCHEMA_VERSION}: {REMEDY}")
    _check_keys(path, "", content, StudentCard)
    for key, kind in (("prompts", Prompts), ("standardisation", Standardisation), ("fidelity", Fidelity)):
        _check_keys(path, f"{key}.", content[key], kind)
    _check_types(path, content)
    prompts = content["prompts"]
    try:
        content["prompts"] = Prompts(tuple(prompts["goal"]), tuple(prompts["baseline"]), prompts["alpha"])
        content["standardisation"] = Standardisation(**content["standardisation"])
    except (SuiteError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: {error}: {REMEDY}") from error
    content["fidelity"] = Fidelity(**content["fidelity"])
    return StudentCard(**content)


def _check_keys(path: Path, prefix: str, content: Any, kind: type[Any]) -> None:
    known = {field.name for field in fields(kind)}
    given = set(content) if isinstance(content, dict) else set()
    if given != known:
        missing = [prefix + name for name in sorted(known - given)]
        unknown = [prefix + name for name in sorted(given - known)]
        raise DataError(f"{path} lacks keys {missing} and has unknown keys {unknown}: {REMEDY}")


def _check_types(path: Path, content: dict[str, Any]) -> None:
    for name, kind in (
        ("task", str),
        ("backbone", str),
        ("pixels", int),
        ("head_width", int),
        ("manifest_digest", str),
    ):
        if type(content[name]) is not kind:
            raise DataError(f"{path}: {name} is {json.dumps(content[name])}, not of type {kind.__name__}: {REMEDY}")
    for name in ("goal", "baseline"):
        sentences = content["prompts"][name]
        if not (isinstance(sentences, list) and all(isinstance(sentence, str) for sentence in sentences)):
            raise DataError(f"{path}: prompts.{name} is {json.dumps(sentences)}, not a list of sentences: {REMEDY}")
    for name, value in content["fidelity"].items():
        if type(value) not in (int, float):
            raise DataError(f"{path}: fidelity.{name} is {json.dumps(value)}, not a number: {REMEDY}")
    if content["head_width"] < 1:
        raise DataError(f"{path}: head_width is {content['head_width']}, it must be at least 1: {REMEDY}")
    if not (16 <= content["pixels"] <= 512):
        raise DataError(f"{path}: pixels is {content['pixels']}, it must lie between 16 and 512: {REMEDY}")


def _describe(tensor: Any) -> str:
    return "nothing" if tensor is None else f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
