"""`manifest.json`: what a data set holds and where it comes from. Written last: without it a folder is unfinished."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from datamodules.differences import first_difference
from datamodules.errors import DataError
from datamodules.records import SCHEMA_VERSION
from datamodules.results import write_json
from datamodules.storage import MissingFileError, address_of, is_address, read_file
from datamodules.tasks import Task, task_from_dict

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class ShardEntry:
    """One finished shard."""

    name: str
    """file name in the data set's folder"""
    samples: int
    """number of samples in it"""
    bytes: int
    """size of the file"""
    sha256: str
    """digest of the file, hexadecimal"""


@dataclass(frozen=True)
class TeacherEntry:
    """Who labelled the data set."""

    name: str
    """`ClipTeacher.name`"""
    digest: str
    """`ClipTeacher.digest`: of its weights, its preprocessing and what else of the model decides an embedding"""
    dims: tuple[int, ...]
    """length of its embedding; one number for each CLIP where several are combined"""
    precision: str
    """number format it ran in, as 'float32' or 'bfloat16': embeddings differ a little between them"""

    @property
    def dim(self) -> int:
        """Length of a stored embedding, which holds the CLIPs' embeddings one after the other."""
        return sum(self.dims)


@dataclass(frozen=True)
class Manifest:
    """A data set: frames as collected (`teacher` is None) or labelled (`teacher` and `source` are given)."""

    task: Task
    """the task as it was collected, render settings included"""
    collection: dict[str, Any]
    """collection settings and seed, plain JSON values"""
    shards: tuple[ShardEntry, ...]
    """the shards, in order"""
    teacher: TeacherEntry | None = None
    """who labelled them"""
    source: str | None = None
    """digest of the frames' manifest that was labelled"""
    prompts: dict[str, list[float]] = field(default_factory=dict)
    """the teacher's unit-norm text embedding (D,) of each sentence asked for so far"""
    teacher_queries: int = 0
    """frames that the teacher scored for this folder, those scored again after a stop included"""

    @property
    def samples(self) -> int:
        """Number of samples in the data set."""
        return sum(shard.samples for shard in self.shards)

    @property
    def digest(self) -> str:
        """sha256 of everything that decides the samples; prompts and costs can be added to and leave it as it is."""
        content = self._to_json()
        del content["prompts"], content["teacher_queries"], content["task"]["score_range"]
        return canonical_digest(content)

    def with_prompts(self, sentences: Sequence[str], embed: Callable[[list[str]], list[list[float]]]) -> "Manifest":
        """With the text embedding of each sentence; `embed` is asked for those that are not there yet, if any."""
        missing = [sentence for sentence in dict.fromkeys(sentences) if sentence not in self.prompts]
        if not missing:
            return self
        return replace(self, prompts={**self.prompts, **dict(zip(missing, embed(missing), strict=True))})

    def write(self, folder: Path, name: str = MANIFEST) -> None:
        """Write the manifest, whole or not at all."""
        write_json(folder / name, self._to_json())

    def _to_json(self) -> dict[str, Any]:
        return {"schema_version": SCHEMA_VERSION, **asdict(self)}


def read_manifest(place: Path | str, name: str = MANIFEST) -> Manifest:
    """The manifest of a finished data set, in a local folder or behind an address.

    Raises:
        DataError: there is none (the message names the command that makes one), or it cannot be read.
    """
    path = address_of(place, name)
    try:
        content = json.loads(read_file(place, name))
    except MissingFileError as error:
        if is_address(place):
            raise DataError(f"{place} holds no data set ({path} does not exist): give its folder's address") from error
        raise DataError(
            f"{place} holds no finished data set ({name} is missing): make it, or let a stopped run finish, with "
            f"`python -m scripts.collect_frames --task TASK.yaml --out {place}` for frames or "
            f"`python -m scripts.label_frames --frames FRAMES --teacher TEACHER.yaml --out {place}` for labels"
        ) from error
    except ValueError as error:
        raise DataError(f"{path} is not readable ({error}): remove {place} and make it again") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} is not readable ({type(content).__name__}, no object): remove {place}, make it again")
    version = content.pop("schema_version", None)
    if version != SCHEMA_VERSION:
        raise DataError(f"{path} has schema version {version}, this code reads {SCHEMA_VERSION}: make it again")
    try:
        content["task"] = task_from_dict(content["task"])
        content["shards"] = tuple(ShardEntry(**shard) for shard in content["shards"])
        teacher = content["teacher"]
        content["teacher"] = TeacherEntry(**{**teacher, "dims": tuple(teacher["dims"])}) if teacher else None
        return Manifest(**content)
    except (KeyError, TypeError) as error:
        raise DataError(f"{path} is not a manifest of this suite ({error!r}): make it again") from error


def finished_collection(folder: Path, task: Task, collection: Mapping[str, Any]) -> Manifest | None:
    """The manifest in `folder` if these very frames were collected before; None if the folder is not finished.

    Prompts, the mark of success and the range of scores are not compared: they do not change a frame.

    Raises:
        DataError: the folder belongs to another task or to other settings; the message names what differs.
    """
    if not (folder / MANIFEST).exists():
        return None
    manifest = read_manifest(folder)
    check_same_collection(folder, manifest, task, collection)
    return manifest


def check_same_collection(folder: Path, there: Manifest, task: Task, collection: Mapping[str, Any]) -> None:
    """Raise DataError, naming what differs, if the frames in `folder` are of another task or other settings."""
    difference = first_difference(_scene(there.task, there.collection), _scene(task, collection))
    if difference:
        raise DataError(
            f"{folder} belongs to something else: {difference}; choose another output folder, or remove that one"
        )


def _scene(task: Task, collection: Mapping[str, Any]) -> dict[str, Any]:
    content = asdict(task)
    del content["prompts"], content["success_reward"], content["score_range"]
    return {"task": content, "collection": collection}


def canonical_digest(content: Mapping[str, Any]) -> str:
    """sha256, hexadecimal, of plain values as JSON with sorted keys and without spaces."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()
