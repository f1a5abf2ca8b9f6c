"""Labelling as the command does it: checked before any weights are loaded, in this process or by workers."""

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from datamodules.errors import SettingsError
from datamodules.progress import progress_bar
from datamodules.results import write_result
from lightning_modules.label_folder import LabelFolder
from lightning_modules.label_source import FrameSource
from lightning_modules.labelling import label_frames, wanted_sentences
from lightning_modules.settings import TeacherSettings
from lightning_modules.teacher import ClipTeacher, check_prompts


def label_folder(
    frames: Path,
    settings: TeacherSettings,
    out: Path,
    prompts: Sequence[str],
    *,
    workers: int | None = None,
    follow: bool = False,
) -> Path:
    """What scripts.label_frames does: check, load the teacher, label with a progress bar, write `result.json`."""
    check_request(frames, settings, out, prompts, workers=workers, follow=follow)
    with progress_bar("label", "frames") as report:
        if needs_ray(settings, workers):
            from lightning_modules.label_workers import label_with_workers  # it imports Ray

            result = label_with_workers(frames, settings, out, prompts, workers=workers, report=report, follow=follow)
        else:
            result = label_frames(frames, ClipTeacher(settings), out, prompts, report, follow=follow)
    given = {"frames": frames, "teacher": settings, "prompts": list(prompts), "workers": workers, "follow": follow}
    return write_result(out, asdict(result), given)


def check_request(
    frames: Path,
    teacher: TeacherSettings,
    out: Path,
    prompts: Sequence[str] = (),
    *,
    workers: int | None = None,
    follow: bool = False,
) -> None:
    """Check what can be checked before the teacher's weights are loaded.

    Raises:
        DataError: `frames` is not finished (and not to be followed), or already labelled, or `out` does not hold labels
            of these frames.
        SettingsError, UnknownNameError, MissingDependencyError: as `teacher.check_prompts` and `find_teacher`.
    """
    if workers is not None and workers < 1:
        raise SettingsError(f"workers is {workers}: it must be at least 1")
    source = FrameSource(frames, follow)
    LabelFolder(out, source).check()
    check_prompts(teacher, wanted_sentences(source.task, prompts))


def needs_ray(settings: TeacherSettings, workers: int | None) -> bool:
    """Whether more than this process is wanted: a cluster, several workers, or a machine with several GPUs."""
    if "RAY_ADDRESS" in os.environ:
        return True
    if workers is None:
        return settings.device != "cpu" and torch.cuda.device_count() > 1
    return workers > 1
