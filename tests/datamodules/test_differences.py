"""Settings compared by dotted key."""

from dataclasses import dataclass
from pathlib import Path

from datamodules.differences import first_difference, flatten


@dataclass(frozen=True)
class Nets:
    hidden: tuple[int, ...]
    path: Path


def test_nested_settings_become_dotted_keys() -> None:
    assert flatten({"sac": {"gamma": 0.99, "nets": {"hidden": 256}}, "seed": 0}) == {
        "sac.gamma": 0.99,
        "sac.nets.hidden": 256,
        "seed": 0,
    }


def test_what_was_read_back_from_json_is_the_same() -> None:
    written = {"nets": {"hidden": [64, 64], "path": "runs/x"}, "seed": 0}
    assert first_difference(written, {"nets": Nets((64, 64), Path("runs/x")), "seed": 0}) is None


def test_the_first_differing_key_is_named_with_both_values() -> None:
    there = {"sac": {"gamma": 0.99, "tau": 0.005}}
    assert first_difference(there, {"sac": {"gamma": 0.9, "tau": 0.1}}) == "there sac.gamma is 0.99, here it is 0.9"


def test_another_name_says_more_than_what_follows_from_it() -> None:
    there = {"task": {"camera": {"distance": 5.0}, "name": "cartpole"}}
    here = {"task": {"camera": {"distance": None}, "name": "walker"}}
    assert first_difference(there, here) == "there task.name is 'cartpole', here it is 'walker'"


def test_a_setting_that_is_missing_differs() -> None:
    assert first_difference({}, {"seed": 1}) == "there seed is None, here it is 1"
