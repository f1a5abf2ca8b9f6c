"""Shard in, labelled shard out: the teacher looks at every frame once, and any sentence can be asked for later.

A shard is the unit of work. After each one `unfinished.json` (a manifest of what is there so far) is replaced, and a
run that was stopped goes on after the last finished shard. `manifest.json` comes last. The same frames and the same
teacher give the same bytes.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from datamodules.errors import DataError
from datamodules.manifest import MANIFEST, Manifest, ShardEntry, read_manifest
from datamodules.progress import Report, progress_bar, silent
from datamodules.records import (
    EMBEDDING,
    FIELDS,
    FRAME,
    STATE,
    TEACHER_FRAME,
    Members,
    decode_frame,
    encode_embedding,
    member,
)
from datamodules.results import write_result
from datamodules.shards import damage_of, read_shard, verify, write_shard
from lightning_modules.settings import TeacherSettings
from lightning_modules.teacher import ClipTeacher, check_prompts

UNFINISHED = "unfinished.json"
REMEDY = "choose another output folder, or remove that one"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelResult:
    """What one call of `label_frames` did."""

    samples: int
    """labelled samples in the folder"""
    teacher_queries: int
    """frames the teacher scored in this call; 0 where only sentences were added"""
    total_teacher_queries: int
    """frames the teacher scored for this folder, earlier calls included"""
    seconds: float
    """duration of this call"""
    prompts: tuple[str, ...]
    """every sentence whose text embedding the manifest now holds"""
    warnings: tuple[str, ...]
    """what may make the labels worse than they could be"""


def check_request(frames: Path, teacher: TeacherSettings, out: Path, prompts: Sequence[str] = ()) -> None:
    """Check what can be checked before the teacher's weights are loaded.

    Raises:
        DataError: `frames` is not finished, or already labelled, or `out` does not hold labels of these frames.
        SettingsError, UnknownNameError, MissingDependencyError: as `teacher.check_prompts` and `find_teacher`.
    """
    source = _read_source(frames)
    _read_earlier(out, frames, source)
    check_prompts(teacher, _sentences(source, prompts))


def label_frames(
    frames: Path, teacher: ClipTeacher, out: Path, prompts: Sequence[str] = (), report: Report = silent
) -> LabelResult:
    """Label a data set of frames, go on with a stopped run, repair damaged shards, or add sentences to a finished one.

    Args:
        frames: folder of collected frames.
        teacher: who labels.
        out: folder for the labelled shards.
        prompts: sentences to embed beside the goal and baseline prompts of the task.
        report: called with the frames done and to do in this call.

    Raises:
        DataError: `frames` is unfinished or damaged, or `out` belongs to other frames or another teacher.
        SettingsError: a sentence is empty or too long for the teacher.
    """
    start, queries_before = time.monotonic(), teacher.queries
    source = _read_source(frames)
    sentences = _sentences(source, prompts)
    teacher.check_prompts(sentences)
    labels = _earlier_work(out, frames, source, teacher)
    warnings = _warnings(source, teacher)

    kept = {shard.name: shard for shard in labels.shards if damage_of(out, shard) is None}
    waiting = tuple(shard for shard in source.shards if shard.name not in kept)
    verify(frames, replace(source, shards=waiting))
    total = sum(shard.samples for shard in waiting)
    earlier_queries = labels.teacher_queries

    def progress() -> None:
        report(teacher.queries - queries_before, total, f"{len(kept)} of {len(source.shards)} shards finished")

    out.mkdir(parents=True, exist_ok=True)
    for shard in waiting:
        kept[shard.name] = write_shard(out / shard.name, _label_shard(frames, shard, teacher, progress))
        labels = replace(
            labels,
            shards=tuple(kept[shard.name] for shard in source.shards if shard.name in kept),
            teacher_queries=earlier_queries + teacher.queries - queries_before,
        )
        labels.write(out, UNFINISHED)
    labels = _add_prompts(labels, teacher, sentences)
    labels.write(out)
    (out / UNFINISHED).unlink(missing_ok=True)
    return LabelResult(
        samples=labels.samples,
        teacher_queries=teacher.queries - queries_before,
        total_teacher_queries=labels.teacher_queries,
        seconds=time.monotonic() - start,
        prompts=tuple(labels.prompts),
        warnings=warnings,
    )


def _read_source(frames: Path) -> Manifest:
    source = read_manifest(frames)
    if source.teacher is not None:
        raise DataError(f"{frames} is labelled already, by {source.teacher.name}: give the folder of collect_frames")
    return source


def _sentences(source: Manifest, extra: Sequence[str]) -> list[str]:
    return list(dict.fromkeys((*source.task.prompts.goal, *source.task.prompts.baseline, *extra)))


def _read_earlier(out: Path, frames: Path, source: Manifest) -> Manifest | None:
    """What an earlier call left in `out`, if anything. DataError: `out` holds no labels, or those of other frames."""
    name = next((name for name in (UNFINISHED, MANIFEST) if (out / name).exists()), None)
    if name is None:
        return None
    there = read_manifest(out, name)
    if there.teacher is None:
        raise DataError(f"{out} holds frames without labels: {REMEDY}")
    if there.source != source.digest:
        raise DataError(
            f"{out} holds labels of other frames (task {there.task.name!r}), not those in {frames}: {REMEDY}"
        )
    return there


def _earlier_work(out: Path, frames: Path, source: Manifest, teacher: ClipTeacher) -> Manifest:
    """What an earlier call left in `out`, or a manifest without shards. DataError: `out` belongs to something else."""
    ours = teacher.entry
    there = _read_earlier(out, frames, source)
    if there is None or there.teacher is None:
        return Manifest(task=source.task, collection=source.collection, shards=(), teacher=ours, source=source.digest)
    if there.teacher.digest != ours.digest:
        raise DataError(
            f"{out} belongs to the teacher {there.teacher.name} (weights {there.teacher.digest[:12]}), "
            f"not to {ours.name} (weights {ours.digest[:12]}): {REMEDY}"
        )
    return there


def _warnings(source: Manifest, teacher: ClipTeacher) -> tuple[str, ...]:
    pixels, simulator = source.task.render.teacher_pixels, source.task.simulator
    warnings = []
    if pixels < teacher.input_pixels:
        warnings.append(
            f"frames for the teacher are {pixels} pixels wide but {teacher.name} looks at {teacher.input_pixels}: it "
            f"sees them blown up and blurred; set render.teacher_pixels to {teacher.input_pixels} in the task and "
            "collect again"
        )
    known = teacher.simulators
    if known and simulator not in known and simulator.split("-")[0] not in known:  # dm_control: DOMAIN-TASK
        warnings.append(
            f"{teacher.name} was trained on frames of {', '.join(known)} and has never seen {simulator!r}: its labels "
            "will mean nothing there; take a real CLIP (conf/teacher/vit_b32.yaml)"
        )
    for warning in warnings:
        log.warning(warning)
    return tuple(warnings)


def _label_shard(
    frames: Path, shard: ShardEntry, teacher: ClipTeacher, progress: Callable[[], None]
) -> Iterator[tuple[str, Members]]:
    """The labelled samples of a shard: the student's frame is copied as it is, the teacher's becomes an embedding."""
    samples = list(read_shard(frames, shard))
    for start in range(0, len(samples), teacher.batch_size):
        batch = samples[start : start + teacher.batch_size]
        pictures = [
            decode_frame(member(members, TEACHER_FRAME, key), f"{key}.{TEACHER_FRAME}") for key, members in batch
        ]
        embeddings = teacher.embed_frames(np.stack(pictures)).astype(np.float16)
        for (key, members), embedding in zip(batch, embeddings, strict=True):
            yield (
                key,
                {
                    FRAME: member(members, FRAME, key),
                    EMBEDDING: encode_embedding(embedding, key),
                    STATE: member(members, STATE, key),
                    FIELDS: member(members, FIELDS, key),
                },
            )
        progress()


def _add_prompts(labels: Manifest, teacher: ClipTeacher, sentences: Sequence[str]) -> Manifest:
    missing = [sentence for sentence in sentences if sentence not in labels.prompts]
    if not missing:
        return labels
    embeddings = teacher.embed_prompts(missing).tolist()
    return replace(labels, prompts={**labels.prompts, **dict(zip(missing, embeddings, strict=True))})


def label_folder(frames: Path, settings: TeacherSettings, out: Path, prompts: Sequence[str]) -> Path:
    """What scripts.label_frames does: check, load the teacher, label with a progress bar, write `result.json`."""
    check_request(frames, settings, out, prompts)
    with progress_bar("label", "frames") as report:
        result = label_frames(frames, ClipTeacher(settings), out, prompts, report)
    return write_result(out, asdict(result), {"frames": frames, "teacher": settings, "prompts": list(prompts)})
