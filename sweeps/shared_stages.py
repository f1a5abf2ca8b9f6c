"""Frames, labels and students that trials have in common: equal inputs, one folder, made once under a lock.

    shared/frames-0a1b2c3d4e5f/         what a stage made; every trial that needs it links to it
    shared/frames-0a1b2c3d4e5f.json     its figures and seconds, written when it is finished
    shared/frames-0a1b2c3d4e5f.lock     locked while a trial makes it
    shared/random-0a1b2c3d4e5f.json     returns of a task's random policy

A trial that is killed over it lets go of the lock, and the next one goes on from where it was.
"""

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from datamodules.differences import as_json
from datamodules.locks import try_lock
from datamodules.results import read_json, write_json
from sweeps.journal import Made, Stage

SHAREABLE = ("collect", "label", "fit")
"""stages that no agent takes part in"""
DIGEST_CHARACTERS = 12
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class SharedStage:
    """A stage whose folder other trials may have made already, be making, or take over."""

    root: Path
    """the folder of all that is shared"""
    name: str
    """this one's folder in it"""

    def make(self, stage: Stage, trial: Path, work: Callable[[], dict[str, Any]], waiting: Callable[[], None]) -> Made:
        """Link the trial to the shared folder and make it, unless that is done; `waiting` is called while others do."""
        self._link(trial / stage.folder)
        while (lock := try_lock(self._beside("lock"))) is None:
            waiting()
            time.sleep(POLL_SECONDS)
        with lock:
            before = self._made()
            if before is not None and set(stage.adds) <= set(before["adds"]):
                return Made(before["figures"], before["seconds"], self.name)
            start = time.monotonic()
            figures = work()
            seconds = time.monotonic() - start + (before["seconds"] if before else 0.0)
            adds = sorted({*stage.adds, *(before["adds"] if before else ())})
            write_json(
                self._beside("json"),
                {"inputs": stage.inputs, "adds": adds, "figures": figures, "seconds": round(seconds, 2)},
            )
            return Made(figures, seconds, self.name)

    def _made(self) -> dict[str, Any] | None:
        record = self._beside("json")
        return read_json(record) if record.exists() and any((self.root / self.name).iterdir()) else None

    def _link(self, place: Path) -> None:
        (self.root / self.name).mkdir(parents=True, exist_ok=True)
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.is_symlink():
            place.symlink_to(os.path.relpath(self.root / self.name, place.parent), target_is_directory=True)

    def _beside(self, ending: str) -> Path:
        return self.root / f"{self.name}.{ending}"


def shared_stages(root: Path | None, trial: Path, stages: Sequence[Stage]) -> dict[str, SharedStage]:
    """The stages, by name, that a trial shares: all that make data, but those it has a folder of its own for."""
    if root is None:
        return {}
    shared, above = {}, ""
    for stage in stages:
        if stage.name not in SHAREABLE:
            continue
        above = _digest(above, stage.name, stage.inputs)
        place = trial / stage.folder
        if place.is_symlink() or not place.exists():
            shared[stage.name] = SharedStage(root, f"{stage.folder}-{above[:DIGEST_CHARACTERS]}")
    return shared


def shared_numbers(
    root: Path | None,
    name: str,
    inputs: Mapping[str, Any],
    make: Callable[[], list[float]],
    waiting: Callable[[], None],
) -> list[float]:
    """What `make` returns, made once for equal inputs; `waiting` is called while another trial does.

    Without a root nothing is shared.
    """
    if root is None:
        return make()
    root.mkdir(parents=True, exist_ok=True)
    path = root / f"{name}-{_digest('', name, inputs)[:DIGEST_CHARACTERS]}.json"
    while (lock := try_lock(path.with_suffix(".lock"))) is None:
        waiting()
        time.sleep(POLL_SECONDS)
    with lock:
        if not path.exists():
            write_json(path, {"inputs": inputs, "numbers": make()})
    numbers: list[float] = read_json(path)["numbers"]
    return numbers


def _digest(above: str, name: str, inputs: Mapping[str, Any]) -> str:
    """Of a stage's inputs and, through `above`, of those of the stages before it."""
    return sha256(json.dumps([above, name, as_json(inputs)], sort_keys=True).encode()).hexdigest()
