"""A manifest comes back as it was written, and says what is wrong when it cannot."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from datamodules.errors import DataError
from datamodules.manifest import finished_collection, read_manifest
from datamodules.tasks import Camera, Prompts, RenderSettings
from tests.data_sets import COLLECTION, TASK, write_frames, write_labels

OTHER_PROMPTS = Prompts(goal=("something else",))


def test_a_manifest_survives_the_disk(tmp_path: Path) -> None:
    manifest = replace(
        read_manifest(write_labels(tmp_path)), task=replace(TASK, camera=Camera(distance=2.0, lookat=(1.0, 2.0, 3.0)))
    )
    manifest.write(tmp_path)
    assert read_manifest(tmp_path) == manifest
    assert read_manifest(tmp_path).digest == manifest.digest


def test_counts_are_those_of_the_data_set(tmp_path: Path) -> None:
    manifest = read_manifest(write_frames(tmp_path, episodes=10, steps=5, samples_per_shard=8))
    assert manifest.samples == 50
    assert [shard.samples for shard in manifest.shards] == [8] * 6 + [2]


def test_digest_follows_the_samples_and_not_prompts_or_costs(tmp_path: Path) -> None:
    manifest = read_manifest(write_labels(tmp_path))
    assert replace(manifest, prompts={"new": [1.0]}, teacher_queries=5).digest == manifest.digest
    assert replace(manifest, shards=manifest.shards[:-1]).digest != manifest.digest
    assert replace(manifest, collection={"seed": 8}).digest != manifest.digest


def test_a_folder_without_manifest_names_the_commands(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"manifest\.json is missing.*scripts\.collect_frames.*scripts\.label_frames"):
        read_manifest(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"schema_ver', "is not readable"),
        ("[]", "is not readable"),
        ('{"schema_version": 99}', "schema version 99, this code reads 2"),
        ('{"schema_version": 2, "shards": []}', "is not a manifest of this suite"),
    ],
)
def test_an_unreadable_manifest_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(DataError, match=message):
        read_manifest(tmp_path)


def test_a_manifest_with_a_missing_field_is_refused(tmp_path: Path) -> None:
    path = write_frames(tmp_path) / "manifest.json"
    content = json.loads(path.read_text())
    del content["shards"][0]["sha256"]
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="sha256"):
        read_manifest(tmp_path)


def test_a_finished_collection_is_known_again(tmp_path: Path) -> None:
    assert finished_collection(tmp_path, TASK, COLLECTION) is None
    write_frames(tmp_path)
    assert finished_collection(tmp_path, TASK, COLLECTION) == read_manifest(tmp_path)
    with_other_prompts = replace(TASK, prompts=OTHER_PROMPTS)
    assert finished_collection(tmp_path, with_other_prompts, COLLECTION) == read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("task", "collection", "named"),
    [
        (replace(TASK, name="walker"), COLLECTION, "task.name is 'cartpole_swingup', here it is 'walker'"),
        (replace(TASK, render=RenderSettings(frame_pixels=32)), COLLECTION, r"task\.render"),
        (TASK, {**COLLECTION, "seed": 8}, r"collection\.seed is 7, here it is 8"),
        (TASK, {**COLLECTION, "new": 1}, r"collection\.new is None, here it is 1"),
    ],
)
def test_a_folder_of_something_else_is_refused(tmp_path: Path, task: object, collection: object, named: str) -> None:
    write_frames(tmp_path)
    with pytest.raises(DataError, match=named):
        finished_collection(tmp_path, task, collection)  # type: ignore[arg-type]  # parametrized
