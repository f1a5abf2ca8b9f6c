"""Sentences added to labels by the bundled teacher: the right embeddings, and no frame looked at."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from datamodules.conf import read_conf
from datamodules.errors import DataError, SettingsError
from datamodules.locks import is_locked
from datamodules.manifest import Manifest, read_manifest
from datamodules.unfinished import folder_lock
from lightning_modules.labelling import label_frames
from lightning_modules.prompt_embeddings import add_sentences
from lightning_modules.settings import TeacherSettings
from lightning_modules.teacher import ClipTeacher
from tests.data_sets import write_frames, write_labels

BUNDLED = Path(__file__).parents[2] / "conf" / "teacher" / "bundled.yaml"


@pytest.fixture(scope="module")
def settings() -> TeacherSettings:
    return read_conf(TeacherSettings, BUNDLED)


@pytest.fixture(scope="module")
def teacher(settings: TeacherSettings) -> ClipTeacher:
    return ClipTeacher(settings)


@pytest.fixture
def labels(tmp_path: Path, teacher: ClipTeacher) -> Path:
    label_frames(write_frames(tmp_path / "frames", 3, 3), teacher, tmp_path / "labels")
    return tmp_path / "labels"


def test_sentences_are_added_once_and_shards_and_costs_stay(
    labels: Path, settings: TeacherSettings, teacher: ClipTeacher
) -> None:
    before, shards = read_manifest(labels), {path: path.read_bytes() for path in labels.glob("*.tar")}
    given = ["a pole upright", "a leaning pole", "a leaning pole"]
    returned = add_sentences(labels, before, settings, given)
    after = read_manifest(labels)
    assert after == returned
    assert list(after.prompts) == [*before.prompts, "a leaning pole"]
    np.testing.assert_allclose(after.prompts["a leaning pole"], teacher.embed_prompts(["a leaning pole"])[0], atol=1e-6)
    assert (after.digest, after.teacher_queries) == (before.digest, before.teacher_queries) == (before.digest, 9)
    assert {path: path.read_bytes() for path in labels.glob("*.tar")} == shards


def test_sentences_that_others_added_in_the_meantime_stay(labels: Path, settings: TeacherSettings) -> None:
    read_by_all = read_manifest(labels)
    add_sentences(labels, read_by_all, settings, ["a leaning pole"])
    first = read_manifest(labels)
    returned = add_sentences(labels, read_by_all, settings, ["a red pole", "a leaning pole"])
    assert list(returned.prompts) == [*read_by_all.prompts, "a leaning pole", "a red pole"]
    assert returned == read_manifest(labels)
    assert returned.prompts["a leaning pole"] == first.prompts["a leaning pole"]


def test_the_folder_is_locked_while_the_manifest_is_written_and_not_while_the_teacher_reads(
    labels: Path, settings: TeacherSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed, write = ClipTeacher.embed_prompts, Manifest.write
    locked: dict[str, bool] = {}

    def watched_embed(teacher: ClipTeacher, sentences: Sequence[str]) -> NDArray[np.float32]:
        locked["teacher"] = is_locked(folder_lock(labels))
        return embed(teacher, sentences)

    def watched_write(manifest: Manifest, folder: Path) -> None:
        locked["write"] = is_locked(folder_lock(labels))
        write(manifest, folder)

    monkeypatch.setattr(ClipTeacher, "embed_prompts", watched_embed)
    monkeypatch.setattr(Manifest, "write", watched_write)
    add_sentences(labels, read_manifest(labels), settings, ["a leaning pole"])
    assert locked == {"teacher": False, "write": True}
    assert not is_locked(folder_lock(labels))


def test_nothing_missing_loads_no_teacher(labels: Path) -> None:
    manifest: Manifest = read_manifest(labels)
    nowhere = TeacherSettings(model="ViT-B-32", weights="/nowhere/weights.pt")
    assert add_sentences(labels, manifest, nowhere, ["a pole upright"]) is manifest


def test_another_teacher_is_refused_and_nothing_is_written(tmp_path: Path, settings: TeacherSettings) -> None:
    labels = write_labels(tmp_path / "labels")  # by a teacher called tiny/known
    before = (labels / "manifest.json").read_bytes()
    with pytest.raises(DataError, match=r"labelled by tiny/known .*not by bundled_model/bundled"):
        add_sentences(labels, read_manifest(labels), settings, ["a leaning pole"])
    assert (labels / "manifest.json").read_bytes() == before


def test_a_sentence_too_long_is_refused(labels: Path, settings: TeacherSettings) -> None:
    with pytest.raises(SettingsError, match="at most 77"):
        add_sentences(labels, read_manifest(labels), settings, ["a very long pole " * 40])
