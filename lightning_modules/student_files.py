"""A student on disk: `student.safetensors` (weights), `student.json` (what they mean). Nothing in them can execute.

Beside them an embedding head has its `embeddings.safetensors` (student_embeddings.py).
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save

from datamodules.errors import DataError, SettingsError, SuiteError, UnknownNameError
from datamodules.manifest import TeacherEntry
from datamodules.results import read_json, write_atomically, write_json
from datamodules.tasks import Prompts
from lightning_modules.fidelity import Fidelity
from lightning_modules.losses import HeadName
from lightning_modules.rewards import Standardisation, standardisation_of
from lightning_modules.student_embeddings import EMBEDDINGS, StudentEmbeddings
from lightning_modules.student_network import StudentNetwork

SCHEMA_VERSION = 3
WEIGHTS, CARD = "student.safetensors", "student.json"
ONNX = "student.onnx"
"""the same student as a graph, made from the other two when a runtime needs it (onnx_export.py)"""
REMEDY = "fit it again with `python -m scripts.fit_student fit`"


@dataclass(frozen=True)
class StudentTarget:
    """The reward that a student gives the frames of one task."""

    task: str
    """name of the task"""
    prompts: Prompts
    """the sentences and alpha; those of the fit, where an embedding head takes others as well"""
    scales: tuple[Standardisation, ...]
    """frozen scale of each CLIP's reward"""
    fidelity: Fidelity
    """agreement with the teacher on the task's held-out episodes, rewards standardised"""

    @property
    def standardisation(self) -> Standardisation:
        """What the standardised reward is in raw units: raw = reward * std + mean."""
        return standardisation_of(self.scales)


@dataclass(frozen=True)
class StudentCard:
    """Everything about a student but its weights."""

    backbone: str
    """timm name"""
    pixels: int
    """side of the square frames it takes (16 to 512)"""
    head: HeadName
    """what it says of a frame: its reward, or the teacher's embedding"""
    head_width: int
    """hidden units of its heads (at least 1)"""
    members: int
    """how many students it consists of (1 to 32)"""
    shared_backbone: bool
    """whether the members share one backbone"""
    targets: tuple[StudentTarget, ...]
    """what it learned, one entry a task (at least one)"""
    teacher: TeacherEntry
    """whom it learned from: its digest is of the weights, the preprocessing and the model's settings together"""
    manifest_digest: str
    """digest of the labels' manifest, or of several together"""
    fidelity: Fidelity
    """agreement with the teacher on all held-out episodes, rewards standardised"""

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("pixels", self.pixels, 16, 512),
            ("head_width", self.head_width, 1, 65536),
            ("members", self.members, 1, 32),
            ("the number of targets", len(self.targets), 1, 1000),
        ):
            if not low <= value <= high:
                raise SettingsError(f"{name} is {value}, it must lie between {low} and {high}")
        for target in self.targets:
            if len(target.scales) != len(self.teacher.dims):
                raise SettingsError(
                    f"{target.task!r} has {len(target.scales)} scales and its teacher {len(self.teacher.dims)} CLIPs"
                )

    def network(self) -> StudentNetwork:
        """The network the card describes, with random weights."""
        return StudentNetwork(
            self.backbone,
            self.pixels,
            self.head_width,
            dims=self.teacher.dims if self.head == "embedding" else (),
            members=self.members,
            shared_backbone=self.shared_backbone,
        )

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks whose frames it learned."""
        return tuple(target.task for target in self.targets)

    def target_of(self, task: str | None = None) -> StudentTarget:
        """What it learned of a task, which need not be named where there is one.

        Raises UnknownNameError for a task that it was not fitted to, SettingsError where one of several must be named.
        """
        if task is None and len(self.targets) > 1:
            raise SettingsError(f"this student was fitted to several tasks: name one of {', '.join(self.tasks)}")
        for target in self.targets:
            if task in (None, target.task):
                return target
        raise UnknownNameError("task of a student", str(task), self.tasks)


def save_student(
    folder: Path, network: StudentNetwork, card: StudentCard, embeddings: StudentEmbeddings | None = None
) -> None:
    """Write weights, an embedding head's embeddings, then the card, each whole or not at all.

    A folder without a card holds no student.
    """
    for old in (CARD, ONNX, EMBEDDINGS):  # never an old one beside new weights
        (folder / old).unlink(missing_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    write_atomically(folder / WEIGHTS, save(tensors))
    if embeddings is not None:
        embeddings.write(folder)
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
    try:
        card: StudentCard = TypeAdapter(StudentCard).validate_json(json.dumps(content), strict=True, extra="forbid")
    except ValidationError as error:
        raise DataError(f"{path}: {'; '.join(map(_in_words, error.errors()[:5]))}: {REMEDY}") from error
    except SuiteError as error:
        raise DataError(f"{path}: {error}: {REMEDY}") from error
    return card


def _in_words(mistake: Any) -> str:
    """One of pydantic's errors: where, what was expected, what is there."""
    where = ".".join(map(str, mistake["loc"]))
    given = "" if mistake["type"] in {"missing", "unexpected_keyword_argument"} else f", not {mistake['input']!r}"
    return f"{where}: {mistake['msg'][0].lower()}{mistake['msg'][1:]}{given}"


def _describe(tensor: Any) -> str:
    return "nothing" if tensor is None else f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
