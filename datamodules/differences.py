"""Is this folder ours? Two nested settings compared, and the first key that differs, in words."""

import json
from collections.abc import Mapping
from typing import Any

from datamodules.results import plain


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings to dotted keys: {'sac': {'gamma': .99}} becomes {'sac.gamma': .99}."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def as_json(content: Mapping[str, Any]) -> dict[str, Any]:
    """As it will be read back: tuples become lists, dataclasses mappings, paths strings."""
    read: dict[str, Any] = json.loads(json.dumps(content, default=plain))
    return read


def first_difference(there: Mapping[str, Any], here: Mapping[str, Any]) -> str | None:
    """The first setting, by name, with another value there than here, as "there sac.gamma is 0.99, here it is 0.9".

    A difference in a key called `name` comes first, because it says most. None where all settings are the same.
    """
    before, now = flatten(as_json(there)), flatten(as_json(here))
    differing = [key for key in sorted(before.keys() | now.keys()) if before.get(key) != now.get(key)]
    if not differing:
        return None
    key = min(differing, key=lambda name: (not name.endswith(".name"), name.count("."), name))
    return f"there {key} is {before.get(key)!r}, here it is {now.get(key)!r}"
