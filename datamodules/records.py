"""The sample schema: one frame of one episode, and its members in an ordinary WebDataset tar.

Members of a sample `000012-000340` (a member that does not exist is left out):

    000012-000340.frame.png      uint8 RGB (P, P, 3), lossless: the student-size frame
    000012-000340.teacher.png    uint8 RGB (T, T, 3), lossless: the same state at teacher size (unlabelled shards)
    000012-000340.embedding.npy  float16 (D,): the teacher's unit-norm image embedding (labelled shards);
                                 of several CLIPs their embeddings, one after the other
    000012-000340.state.npy      float64 (S,): everything a simulator needs to render this frame again
    000012-000340.json           schema version, key, task, episode, step, true reward, policy, collection seed

Arrays are read without pickle, images as PNG only: nothing in a shard can execute.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from PIL import Image

from datamodules.errors import DataError

SCHEMA_VERSION = 2
FRAME, TEACHER_FRAME, EMBEDDING, STATE, FIELDS = "frame.png", "teacher.png", "embedding.npy", "state.npy", "json"

Members = dict[str, bytes]
"""A sample's files by extension, as they lie in the tar."""

# zlib's fastest level: on simulator frames 40 % of the default level's encoding time for 9 % more bytes (measured).
PNG_COMPRESSION = 1


@dataclass(frozen=True, eq=False)
class Sample:
    """One decision point of one episode."""

    episode: int
    """number of the episode in its data set (0 to 999999)"""
    step: int
    """agent decisions taken since the reset when the frame was drawn (0 to 999999)"""
    state: NDArray[np.float64]
    """(S,) the simulator's state, from `Simulator.state()`"""
    true_reward: float
    """the simulator's own reward for the step that led here, summed over its simulator frames; 0 at a reset"""
    policy: str
    """name of the policy that led here, as 'random'"""
    seed: int
    """seed of the collection"""
    task: str
    """name of the task"""
    frame: NDArray[np.uint8] | None = None
    """(P, P, 3) RGB, as the student and the agent's environment see it"""
    teacher_frame: NDArray[np.uint8] | None = None
    """(T, T, 3) RGB, as the teacher sees it; only before labelling"""
    embedding: NDArray[np.float16] | None = None
    """(D,) the teacher's unit-norm image embedding; only after labelling"""

    @property
    def key(self) -> str:
        """The sample's name, unique over its data set."""
        return sample_key(self.episode, self.step)


def sample_key(episode: int, step: int) -> str:
    """`{episode:06d}-{step:06d}`, for 0 to 999999 each."""
    if not (0 <= episode <= 999_999 and 0 <= step <= 999_999):
        raise DataError(f"sample key: episode {episode} and step {step} must each lie between 0 and 999999")
    return f"{episode:06d}-{step:06d}"


def encode(sample: Sample) -> Members:
    """The sample's members, in tar order. Raises DataError for a field against the schema."""
    key = sample.key
    members: Members = {}
    for name, frame in ((FRAME, sample.frame), (TEACHER_FRAME, sample.teacher_frame)):
        if frame is not None:
            members[name] = encode_frame(frame, f"{key}.{name}")
    if sample.embedding is not None:
        members[EMBEDDING] = encode_embedding(sample.embedding, key)
    members[STATE] = _encode_array(sample.state, np.float64, f"{key}.{STATE}")
    if not np.isfinite(sample.true_reward):
        raise DataError(f"{key}: true_reward is {sample.true_reward}, not a finite number")
    fields = {
        "schema_version": SCHEMA_VERSION,
        "key": key,
        "task": sample.task,
        "episode": sample.episode,
        "step": sample.step,
        "true_reward": float(sample.true_reward),
        "policy": sample.policy,
        "seed": sample.seed,
    }
    members[FIELDS] = json.dumps(fields).encode()
    return members


def decode(key: str, members: Mapping[str, bytes]) -> Sample:
    """The sample that `encode` wrote. Raises DataError, naming the key, for a member missing or against the schema."""
    fields = decode_fields(key, members)
    frames = {name: decode_frame(members[name], f"{key}.{name}") for name in (FRAME, TEACHER_FRAME) if name in members}
    return Sample(
        episode=fields["episode"],
        step=fields["step"],
        state=_decode_array(member(members, STATE, key), np.float64, f"{key}.{STATE}"),
        true_reward=fields["true_reward"],
        policy=fields["policy"],
        seed=fields["seed"],
        task=fields["task"],
        frame=frames.get(FRAME),
        teacher_frame=frames.get(TEACHER_FRAME),
        embedding=decode_embedding(members[EMBEDDING], key) if EMBEDDING in members else None,
    )


def decode_fields(key: str, members: Mapping[str, bytes]) -> dict[str, Any]:
    """The json member, checked against the key it lies under."""
    try:
        fields = json.loads(member(members, FIELDS, key))
        found = sample_key(fields["episode"], fields["step"])
        complete = {"task", "true_reward", "policy", "seed"} <= fields.keys()
        version = fields["schema_version"]
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{key}.{FIELDS} is not a sample of this suite ({error!r}): collect or label again") from error
    if version != SCHEMA_VERSION or not complete:
        raise DataError(f"{key}.{FIELDS} has schema version {version}, this code reads {SCHEMA_VERSION}: collect again")
    if found != key:
        raise DataError(f"{key}.{FIELDS} says it belongs to {found}: the shard is mixed up, collect or label again")
    return dict(fields)


def encode_frame(frame: NDArray[np.uint8], place: str = "frame") -> bytes:
    """A uint8 RGB square frame (P, P, 3) as PNG. Raises DataError for any other shape or dtype."""
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[0] != frame.shape[1] or frame.shape[2] != 3:
        raise DataError(f"{place}: given {frame.dtype} {frame.shape}, a frame is uint8 (pixels, pixels, 3)")
    buffer = BytesIO()
    Image.fromarray(frame, "RGB").save(buffer, format="PNG", compress_level=PNG_COMPRESSION)
    return buffer.getvalue()


def decode_frame(content: bytes, place: str = "frame") -> NDArray[np.uint8]:
    """The frame (P, P, 3) uint8 inside PNG bytes. Raises DataError for anything but a square RGB PNG."""
    try:
        with Image.open(BytesIO(content), formats=("PNG",)) as image:
            mode, frame = image.mode, np.array(image)
    except (OSError, ValueError, SyntaxError) as error:  # PIL raises SyntaxError for a broken PNG
        raise DataError(f"{place} is not a readable PNG ({error}): collect or label again") from error
    if mode != "RGB" or frame.shape[0] != frame.shape[1]:
        raise DataError(f"{place} is {mode} {frame.shape}, a frame is RGB (pixels, pixels, 3)")
    return frame


def encode_embedding(embedding: NDArray[np.float16], key: str) -> bytes:
    """A float16 unit vector (D,) as npy. Raises DataError for another dtype, shape or length."""
    content = _encode_array(embedding, np.float16, f"{key}.{EMBEDDING}")
    _check_unit_norm(embedding, key)
    return content


def decode_embedding(content: bytes, key: str) -> NDArray[np.float16]:
    """The float16 unit vector (D,) inside npy bytes."""
    embedding = _decode_array(content, np.float16, f"{key}.{EMBEDDING}")
    _check_unit_norm(embedding, key)
    return embedding


def _check_unit_norm(embedding: NDArray[np.float16], key: str) -> None:
    """One unit vector, or several one after the other (several CLIPs): the squared norm is their number."""
    squared = float(np.square(embedding.astype(np.float32)).sum())
    # float16 keeps a squared norm to about 2e-3; a unit vector has two numbers at least
    if not (abs(squared - round(squared)) < 2e-2 and 1 <= round(squared) <= max(1, len(embedding) // 2)):
        raise DataError(
            f"{key}.{EMBEDDING} has norm {squared**0.5:.4g}, an image embedding has norm 1 (of several CLIPs one "
            "after the other, the square root of their number): label again"
        )


def _encode_array(array: NDArray[Any], dtype: DTypeLike, place: str) -> bytes:
    _check_array(array, dtype, place)
    buffer = BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()


def _decode_array(content: bytes, dtype: DTypeLike, place: str) -> NDArray[Any]:
    try:
        # not np.load: that would also open zip archives
        array = np.lib.format.read_array(BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise DataError(f"{place} is not a readable array ({error}): collect or label again") from error
    _check_array(array, dtype, place)
    return np.asarray(array)


def _check_array(array: NDArray[Any], dtype: DTypeLike, place: str) -> None:
    if array.dtype != dtype or array.ndim != 1:
        raise DataError(f"{place}: given {array.dtype} {array.shape}, it must be {np.dtype(dtype)} with one dimension")
    if not np.isfinite(array).all():
        raise DataError(f"{place} holds a number that is not finite")


def member(members: Mapping[str, bytes], name: str, key: str) -> bytes:
    """One of a sample's members. Raises DataError naming the key when it is not there."""
    if name not in members:
        raise DataError(f"{key} has no {name} (it has {sorted(members)}): collect or label again")
    return members[name]
