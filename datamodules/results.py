"""`result.json`: what every command leaves in its output folder, and JSON files in general."""

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from datamodules.whole_files import whole_file

VERSIONED_PACKAGES = (
    "torch",
    "timm",
    "open_clip_torch",
    "ray",
    "mujoco",
    "dm_control",
    "gymnasium",
    "numpy",
    "onnxruntime",
    "openvino",
)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that readers see all of it or nothing. NoRoomError: the disk is full."""
    with whole_file(path) as stream:
        stream.write(content)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON atomically; dataclasses and paths are written as plain values, NaN is refused."""
    write_atomically(path, (json.dumps(content, indent=2, default=plain, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object."""
    content = json.loads(path.read_text())
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds {type(content).__name__}, not a JSON object")
    return content


def write_result(folder: Path, figures: Mapping[str, Any], settings: Mapping[str, Any]) -> Path:
    """Write `result.json` with figures, settings and versions; figures stand at the top level.

    Returns the path, which commands print as their last line.
    """
    path = folder / "result.json"
    write_json(path, {**figures, "settings": settings, "versions": versions()})
    return path


def versions() -> dict[str, str]:
    """Versions of Python, this project and the packages that can change a figure."""
    found = {"python": platform.python_version()}
    for package in VERSIONED_PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # an extra that is not installed cannot have changed a figure
            continue
    return found


def plain(value: Any) -> Any:
    """What `json.dumps` asks for values it does not know: dataclasses, paths, arrays. TypeError for the rest."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
