"""Is a data set what its manifest says? Every shard compared, every sample decoded, every problem named."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path

from rich.console import Console
from rich.table import Table

from datamodules.errors import DataError
from datamodules.manifest import Manifest, ShardEntry, read_manifest
from datamodules.progress import Report, progress_bar, silent
from datamodules.records import EMBEDDING, FRAME, TEACHER_FRAME, Members, Sample, decode
from datamodules.results import write_result
from datamodules.shards import SHARD_PATTERN, Damage, DamagedShardError, load_shard, owners_of, remedy_for, unpack
from datamodules.storage import list_files

MOST_LINES = 100
"""of problems on the screen; result.json lists all"""


@dataclass(frozen=True)
class Verification:
    """What was found in one data set."""

    shards: int
    """in the manifest"""
    samples: int
    """in the manifest"""
    damaged: tuple[Damage, ...]
    """shards that are not what the manifest says"""
    unknown: tuple[str, ...]
    """shards that lie there and are not in the manifest"""
    broken: tuple[Damage, ...]
    """samples against the schema or there twice, each with its shard, which is as it was written"""

    @property
    def whole(self) -> bool:
        """Nothing is wrong."""
        return not (self.damaged or self.unknown or self.broken)


def verify_data(place: Path | str, report: Report = silent) -> Verification:
    """Compare every shard with the manifest and decode every sample of those that are whole.

    Args:
        place: folder or address of a finished data set, labelled or not.
        report: called with the samples done and to do.

    Raises:
        DataError: there is no manifest, or it cannot be read.
    """
    manifest = read_manifest(place)
    owners, seen = owners_of(manifest), dict[str, str]()
    damaged, broken, done = [], [], 0
    for shard in manifest.shards:
        try:
            content = load_shard(place, shard, owners)
        except DamagedShardError as error:
            damaged.append(error.damage)
        else:
            broken += [Damage(shard.name, reason) for reason in _problems(content, shard, place, manifest, seen)]
        done += shard.samples
        report(done, manifest.samples, f"{len(damaged)} damaged shards, {len(broken)} broken samples")
    known = set(owners.values())
    unknown = [name for name in list_files(place) or () if fnmatch(name, SHARD_PATTERN) and name not in known]
    return Verification(len(manifest.shards), manifest.samples, tuple(damaged), tuple(unknown), tuple(broken))


def _problems(
    content: bytes, shard: ShardEntry, place: Path | str, manifest: Manifest, seen: dict[str, str]
) -> Iterator[str]:
    """What is wrong with the samples of a whole shard; `seen` notes in which shard each key was met first."""
    try:
        for key, members in unpack(content, shard, place):
            if key in seen:
                yield f"sample {key} is there twice, first in {seen[key]}"
            seen.setdefault(key, shard.name)
            try:
                _check_sample(decode(key, members), members, manifest)
            except DataError as error:
                yield str(error)
    except DataError as error:  # the samples are miscounted
        yield str(error)


def _check_sample(sample: Sample, members: Members, manifest: Manifest) -> None:
    """Raise DataError where a sample is not what the manifest announces."""
    if sample.task != manifest.task.name:
        raise DataError(f"{sample.key} is of task {sample.task!r}, the manifest says {manifest.task.name!r}")
    render, teacher = manifest.task.render, manifest.teacher
    expected: Mapping[str, tuple[int, ...]] = (
        {TEACHER_FRAME: (render.teacher_pixels,) * 2}
        if teacher is None
        else {FRAME: (render.frame_pixels,) * 2, EMBEDDING: (teacher.dim,)}
    )
    arrays = {FRAME: sample.frame, TEACHER_FRAME: sample.teacher_frame, EMBEDDING: sample.embedding}
    for name, shape in expected.items():
        array = arrays[name]
        if array is None:
            raise DataError(f"{sample.key} has no {name} (it has {sorted(members)})")
        if array.shape[:2] != shape:
            raise DataError(f"{sample.key}.{name} has shape {array.shape}, the manifest says {shape}")


def verify_place(place: str, out: Path) -> Path:
    """What scripts.verify_data does: verify with a progress bar, print what was found, write result.json.

    Raises DataError, after all that, where anything is wrong; the message says what to do next.
    """
    manifest = read_manifest(place)
    with progress_bar("verify", "samples") as report:
        found = verify_data(place, report)
    result = write_result(out, asdict(found), {"data": place})
    if found.whole:
        print(f"all {found.shards:,} shards whole, {found.samples:,} samples decoded")
        return result
    _print_table(place, found)
    raise DataError(f"{_counted(found)} in {place}; details: {result}\n{_remedy(place, manifest, found)}")


def _print_table(place: str, found: Verification) -> None:
    table = Table("shard", "problem", title=place, title_justify="left")
    problems = [(damage.shard, damage.reason) for damage in (*found.damaged, *found.broken)]
    problems += [(name, "not in the manifest") for name in found.unknown]
    for shard, reason in problems[:MOST_LINES]:
        table.add_row(shard, reason)
    if len(problems) > MOST_LINES:
        table.add_row("...", f"and {len(problems) - MOST_LINES:,} more")
    Console().print(table)


def _counted(found: Verification) -> str:
    counts = {
        f"of {found.shards} shards damaged": len(found.damaged),
        f"of {found.samples:,} samples against the schema or there twice": len(found.broken),
        "shards that the manifest does not know": len(found.unknown),
    }
    return ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)


def _remedy(place: str, manifest: Manifest, found: Verification) -> str:
    steps = []
    if found.damaged:
        without = "; or fit without them: --data.damaged skip" if manifest.teacher else ""
        steps.append(remedy_for(place, manifest) + without)
    if found.broken:
        steps.append(f"broken samples were written like that: remove {place} and make it again")
    if found.unknown:
        steps.append("shards that the manifest does not know are never read: they can be removed")
    return "\n".join(steps)
