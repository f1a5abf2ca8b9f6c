"""A sweep's grid -> its trials, all of them checked before the first one starts."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, fields, is_dataclass
from itertools import product
from pathlib import Path
from types import NoneType
from typing import Any, Literal, cast, get_args, get_origin, get_type_hints

from jsonargparse import ArgumentError, ArgumentParser

from datamodules.conf import read_conf
from datamodules.differences import as_json
from datamodules.errors import SettingsError, UnknownNameError
from sweeps.settings import SweepConfig, TrialConfig

DECIDED = ("out", "shared", "tracking")
"""settings of a trial that the sweep gives it"""
LABEL_CHARACTERS = 40
"""longer values need a name: folders and tables carry it"""
ARM = "arm"
"""the key of a grid whose values set several settings each: some go together only in some ways"""
TRIALS, SHARED = "trials", "shared"
"""folders of a sweep"""


@dataclass(frozen=True)
class SweepTrial:
    """One point of the grid."""

    name: str
    """its folder below trials/, made of what is varied"""
    values: dict[str, str]
    """what is varied, by setting, as a table shows it"""
    config: TrialConfig
    """every setting"""


def trials_of(sweep: SweepConfig) -> list[SweepTrial]:
    """Every trial of a sweep, in the order of its grid, the last setting running fastest.

    Raises:
        UnknownNameError: the grid names a setting that a trial does not have.
        SettingsError: a value is not allowed there, or cannot name a folder; the message names the trial.
    """
    base = as_json(asdict(sweep.base))
    choices = [_choices(key, values) for key, values in sweep.grid.items()]
    varied = [key for key, values in sweep.grid.items() if len(values) > 1]
    trials = []
    for point in product(*choices):
        labels = {key: label for key, (label, _) in zip(sweep.grid, point, strict=True) if key in varied}
        name = trial_name(labels)
        content = json.loads(json.dumps(base))
        chosen = dict(zip(sweep.grid, point, strict=True))
        order = sorted(chosen, key=lambda key: (key == ARM, key.count(".")))  # groups first; an arm has the last word
        for key in order:
            _, settings = chosen[key]
            for each in sorted(settings, key=lambda name: name.count(".")):
                put(content, each, settings[each])
        content |= {"out": str(sweep.out / TRIALS / name), "shared": str(sweep.out / SHARED)}
        content["tracking"] |= {"experiment": sweep.name}
        trials.append(SweepTrial(name, labels, trial_config(content, name)))
    return trials


def trial_config(content: Mapping[str, Any], name: str) -> TrialConfig:
    """A trial from its nested settings. SettingsError: they are not those of a trial; `name` says which it was."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(TrialConfig, "trial")
    try:
        return cast(TrialConfig, parser.instantiate(parser.parse_object({"trial": dict(content)})).trial)
    except SettingsError as error:
        raise SettingsError(f"trial {name}: {error}") from error
    except ArgumentError as error:
        raise SettingsError(f"trial {name} is no valid trial: {error}") from error


def trial_name(labels: Mapping[str, str]) -> str:
    """The name of a trial's folder: `reward_student-seed_0`."""
    short = [key.rpartition(".")[2] for key in labels]
    keys = short if len(set(short)) == len(short) else list(labels)
    parts = [f"{key}_{label}" for key, label in zip(keys, labels.values(), strict=True)]
    return "-".join(re.sub(r"[^\w.]+", "_", part).strip("_") for part in parts) or "trial"


def put(content: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key of nested settings; a group, as `task`, is replaced as a whole."""
    *groups, last = key.split(".")
    for group in groups:
        if content.get(group) is None:
            content[group] = {}
        content = content[group]
    content[last] = deepcopy(value)  # trials that set more inside a group must not do so in each other's


def known_keys() -> dict[str, Any]:
    """Dotted key -> type of every setting that a sweep may vary, groups included."""
    return dict(_keys(TrialConfig, ""))


def check_key(key: str, place: str) -> None:
    """Raise UnknownNameError, naming the closest ones, unless a trial has this setting; the fit knows its own."""
    known = known_keys()
    if key not in known and not key.startswith("fit."):
        raise UnknownNameError(f"setting in {place}", key, [*known, "fit.model.backbone", "fit.data.data_fraction"])


def _keys(kind: type, prefix: str) -> Iterator[tuple[str, Any]]:
    hints = get_type_hints(kind)
    for field in fields(kind):
        if not prefix and field.name in DECIDED:
            continue
        kind_of_field = _without_none(hints[field.name])
        yield f"{prefix}{field.name}", kind_of_field
        if is_dataclass(kind_of_field):
            yield from _keys(cast(type, kind_of_field), f"{prefix}{field.name}.")


def _without_none(hint: Any) -> Any:
    """`Task` of `Task | None`."""
    kinds = [kind for kind in get_args(hint) if kind is not NoneType]
    return kinds[0] if NoneType in get_args(hint) and len(kinds) == 1 else hint


def _choices(key: str, values: Sequence[Any] | Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """(label, settings) of each value of a setting, with those that go with it, or of each arm."""
    if not values:
        raise SettingsError(f"grid.{key} has no values: give at least one, as {key}: [1]")
    if key == ARM:
        return _arms(values)
    check_key(key, "grid")
    if isinstance(values, Mapping):
        named = list(values.items())
    else:
        named = [(_label(key, value) if len(values) > 1 else "", value) for value in values]
    choices = [
        (str(label), _settings(value if _sets_more(key, value) else {key: value}, key)) for label, value in named
    ]
    labels = [label for label, _ in choices]
    if len(set(labels)) < len(labels):
        raise SettingsError(f"grid.{key} has a value twice ({', '.join(labels)}): each makes trials of its own")
    return choices


def _arms(arms: Sequence[Any] | Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """(name, settings) of each arm."""
    if not isinstance(arms, Mapping) or not all(isinstance(settings, Mapping) for settings in arms.values()):
        raise SettingsError(
            f"grid.{ARM} must give names to groups of settings, as {ARM}: {{small: {{sac.hidden: [64]}}, base: {{}}}}"
        )
    return [(str(name), _settings(settings, ARM)) for name, settings in arms.items()]


def _sets_more(key: str, value: Any) -> bool:
    """Whether a value is a group of settings that go with it, itself among them."""
    return isinstance(value, Mapping) and key in value


def _settings(settings: Mapping[str, Any], place: str) -> dict[str, Any]:
    """The settings of a group, files read. Raises UnknownNameError for one that a trial does not have."""
    kinds = known_keys()
    for key in settings:
        check_key(key, f"grid.{place}")
    return {key: _value(key, kinds.get(key), value) for key, value in settings.items()}


def _label(key: str, value: Any) -> str:
    if isinstance(value, str) and value.endswith((".yaml", ".yml")):
        return Path(value).stem
    label = value if isinstance(value, str) else json.dumps(value)
    if isinstance(value, Mapping) or len(label) > LABEL_CHARACTERS:
        raise SettingsError(
            f"grid.{key} holds {label[:LABEL_CHARACTERS]}..., which is too long to name a folder: give names to the "
            f"values, as {key}: {{short: ..., long: ...}}"
        )
    return label


def _value(key: str, kind: Any, value: Any) -> Any:
    if is_dataclass(kind) and isinstance(value, str):
        return as_json(asdict(cast(Any, read_conf(cast(type, kind), value))))
    if isinstance(value, bool) and get_origin(kind) is Literal and str(value).lower() in get_args(kind):
        return str(value).lower()  # YAML reads the reward `true` as a truth value
    return value
