"""The sample schema keeps what it is given and refuses the rest."""

import io
import json
import pickle
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from datamodules.errors import DataError
from datamodules.records import decode, encode, sample_key
from tests.data_sets import frame_of, sample_of


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@pytest.mark.parametrize("labelled", [False, True])
def test_a_sample_survives_its_members(labelled: bool) -> None:
    before = sample_of(12, 34, labelled)
    after = decode(before.key, encode(before))
    assert (after.key, after.task, after.policy, after.seed) == ("000012-000034", "cartpole_swingup", "random", 7)
    assert after.true_reward == 12.34
    np.testing.assert_array_equal(after.state, [12, 34, 1 / 3])
    np.testing.assert_array_equal(after.frame, frame_of(12, 34))
    if labelled:
        assert after.teacher_frame is None
        np.testing.assert_array_equal(after.embedding, before.embedding)
    else:
        assert after.embedding is None
        np.testing.assert_array_equal(after.teacher_frame, frame_of(12, 34, 24))


def test_members_are_files_that_other_tools_read() -> None:
    members = encode(sample_of(3, 4, labelled=True))
    assert list(members) == ["frame.png", "embedding.npy", "state.npy", "json"]
    np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(members["frame.png"]))), frame_of(3, 4))
    assert np.load(io.BytesIO(members["embedding.npy"]), allow_pickle=False).dtype == np.float16
    assert json.loads(members["json"])["true_reward"] == 3.04


def test_keys_sort_as_episodes_and_steps() -> None:
    assert sample_key(12, 340) == "000012-000340"
    assert sample_key(9, 999_999) < sample_key(10, 0)
    for episode, step in ((1_000_000, 0), (0, 1_000_000), (-1, 0)):
        with pytest.raises(DataError, match="between 0 and 999999"):
            sample_key(episode, step)


@pytest.mark.parametrize(
    "frame",
    [frame_of(0, 0).astype(np.float32), frame_of(0, 0)[:8], frame_of(0, 0)[:, :, :1], frame_of(0, 0)[None]],
    ids=["float", "not square", "grey", "batch"],
)
def test_frames_against_the_schema_are_refused(frame: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"000000-000000\.frame\.png: given .*uint8 \(pixels, pixels, 3\)"):
        encode(replace(sample_of(0, 0), frame=frame))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("embedding", np.ones(8, np.float16), "has norm 2.828"),
        ("embedding", np.full(8, 0.43, np.float16), "has norm 1.216"),
        ("embedding", np.zeros(8, np.float16), "has norm 0"),
        ("embedding", np.full(8, np.nan, np.float16), "not finite"),
        ("embedding", np.eye(8, dtype=np.float32)[0], "given float32"),
        ("state", np.zeros((2, 2)), "one dimension"),
        ("state", np.array([np.inf]), "not finite"),
        ("true_reward", float("nan"), "true_reward is nan"),
    ],
)
def test_fields_against_the_schema_are_refused(field: str, value: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        encode(replace(sample_of(0, 0), **{field: value}))


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_embeddings_of_several_clips_one_after_the_other_are_kept(parts: int) -> None:
    generator = np.random.default_rng(parts)
    vectors = [generator.normal(size=8 * (number + 1)) for number in range(parts)]
    embedding = np.concatenate([vector / np.linalg.norm(vector) for vector in vectors]).astype(np.float16)
    sample = replace(sample_of(0, 0, labelled=True), embedding=embedding)
    np.testing.assert_array_equal(decode(sample.key, encode(sample)).embedding, embedding)


def zip_archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.npy", npy(np.zeros(3)))
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [npy(np.array([{}], dtype=object)), pickle.dumps([1.0]), zip_archive(), npy(np.zeros(3))[:-1], b""],
    ids=["object array", "pickle", "zip", "cut short", "empty"],
)
def test_nothing_but_a_plain_array_is_read(content: bytes) -> None:
    members = encode(sample_of(1, 2)) | {"state.npy": content}
    with pytest.raises(DataError, match=r"000001-000002\.state\.npy is not a readable array"):
        decode("000001-000002", members)


def test_a_broken_picture_is_refused() -> None:
    members = encode(sample_of(1, 2))
    for content in (members["frame.png"][:200], b"GIF89a" + members["frame.png"], b""):
        with pytest.raises(DataError, match=r"000001-000002\.frame\.png is not a readable PNG"):
            decode("000001-000002", members | {"frame.png": content})


def test_members_under_another_key_are_refused() -> None:
    with pytest.raises(DataError, match=r"000001-000003\.json says it belongs to 000001-000002"):
        decode("000001-000003", encode(sample_of(1, 2)))


def test_a_missing_member_is_named() -> None:
    members = encode(sample_of(1, 2))
    del members["state.npy"]
    with pytest.raises(DataError, match=r"000001-000002 has no state\.npy"):
        decode("000001-000002", members)


def test_another_schema_version_is_refused() -> None:
    members = encode(sample_of(1, 2))
    fields = json.loads(members["json"]) | {"schema_version": 99}
    with pytest.raises(DataError, match="schema version 99"):
        decode("000001-000002", members | {"json": json.dumps(fields).encode()})
