"""A checkpoint folder that is always whole: the new one is written beside the old one and takes its name at the end."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CURRENT, WRITTEN, PREVIOUS = "checkpoint", ".checkpoint.part", ".checkpoint.previous"


@contextmanager
def replace_checkpoint(folder: Path) -> Iterator[Path]:
    """Yield an empty folder to write into; it becomes `folder/checkpoint` when the block ends without an error."""
    folder = folder.resolve()  # RLlib takes a relative path for a URI without a scheme
    written, current, previous = folder / WRITTEN, folder / CURRENT, folder / PREVIOUS
    shutil.rmtree(written, ignore_errors=True)
    written.mkdir(parents=True)
    yield written
    if current.exists():
        shutil.rmtree(previous, ignore_errors=True)
        current.rename(previous)
    written.rename(current)
    shutil.rmtree(previous, ignore_errors=True)


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint, also after a stop between the two renames of `replace_checkpoint`."""
    return next((path for path in (folder.resolve() / CURRENT, folder.resolve() / PREVIOUS) if path.exists()), None)
