"""Sentences added to a labelled data set: its teacher embeds them, and no frame is looked at."""

from collections.abc import Sequence
from pathlib import Path

from datamodules.errors import DataError
from datamodules.manifest import Manifest, read_manifest
from lightning_modules.label_folder import hold_folder
from lightning_modules.settings import TeacherSettings
from lightning_modules.teacher import ClipTeacher, check_prompts


def add_sentences(labels: Path, manifest: Manifest, settings: TeacherSettings, sentences: Sequence[str]) -> Manifest:
    """Embed the sentences that the manifest lacks, and write it; returns it with every sentence in it.

    What others wrote there in the meantime stays.

    Raises:
        DataError: the data set was labelled by another teacher.
        NoRoomError: the disk is full.
        SettingsError, UnknownNameError, MissingDependencyError: as `teacher.check_prompts` and `ClipTeacher`.
    """
    missing = [sentence for sentence in dict.fromkeys(sentences) if sentence not in manifest.prompts]
    if not missing:
        return manifest
    check_prompts(settings, missing)
    teacher = ClipTeacher(settings)
    _check_teacher(labels, manifest, teacher)
    embeddings = dict(zip(missing, teacher.embed_prompts(missing).tolist(), strict=True))
    with hold_folder(labels):  # for a moment only: the teacher has done its work
        there = read_manifest(labels)
        _check_teacher(labels, there, teacher)
        grown = there.with_prompts(missing, lambda new: [embeddings[sentence] for sentence in new])
        if grown is not there:
            grown.write(labels)
    return grown


def _check_teacher(labels: Path, manifest: Manifest, teacher: ClipTeacher) -> None:
    labelled_by = manifest.teacher
    assert labelled_by is not None, "the caller checks it"
    if teacher.digest != labelled_by.digest:
        raise DataError(
            f"{labels} was labelled by {labelled_by.name} (digest {labelled_by.digest[:12]}), not by {teacher.name} "
            f"(digest {teacher.digest[:12]}): give that teacher, since embeddings of two teachers cannot be compared"
        )
