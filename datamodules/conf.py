"""A conf file as the settings it holds, for Python code; commands read theirs through scripts/command.py."""

from pathlib import Path
from typing import TypeVar, cast

from jsonargparse import ArgumentError, ArgumentParser

from datamodules.errors import DataError, SettingsError

Settings = TypeVar("Settings")


def read_conf(kind: type[Settings], path: Path | str) -> Settings:
    """Read a YAML file as one settings dataclass, as in `read_conf(Task, "conf/tasks/cartpole_swingup.yaml")`.

    Raises DataError when there is no such file, SettingsError when its content is not a valid `kind`.
    """
    if not Path(path).is_file():
        raise DataError(f"there is no file {str(path)!r}: files of this kind are under conf/, in the repository's root")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(kind, "settings", sub_configs=True)
    try:
        read = parser.instantiate(parser.parse_args([f"--settings={path}"]))
    except ArgumentError as error:
        raise SettingsError(f"{path} does not hold a {kind.__name__}: {error}") from error
    return cast(Settings, read.settings)
