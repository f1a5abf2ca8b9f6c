"""How every command reads its arguments, shows mistakes and ends: help that teaches, plain errors, fixed exit codes."""

import re
import shlex
import sys
from argparse import Action, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from difflib import SequenceMatcher, get_close_matches
from inspect import getdoc, isclass
from pathlib import Path
from typing import Any, NoReturn

from jsonargparse import (
    ArgumentError,
    ArgumentParser,
    DefaultHelpFormatter,
    Namespace,
    auto_cli,
    set_parsing_settings,
)
from jsonargparse._actions import _ActionConfigLoad

from datamodules.errors import DataError, SuiteError, mistake_behind

MISTAKE = 2
INTERRUPTED = 130  # 128 + SIGINT, what a shell reports for Ctrl-C


def run(function: Callable[..., Any], argv: Sequence[str] | None = None, then: Callable[[Any], Path] = Path) -> Path:
    """Read the arguments of `function` from its signature, call it, and print the path of its result as the last line.

    Settings dataclasses in the signature become YAML files and flags; their field docstrings become `--help`. Flags win
    over files wherever they stand, and a file given for one of the dataclasses replaces all that `--config` says of it.
    `function` may be such a dataclass itself: then its fields are the flags, and `then` does the work with it.
    `argv` defaults to the process's own arguments. Returns the path.

    Exits with code 2 after a user's mistake (one plain message on stderr) and 130 after Ctrl-C.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)

    def parse_and_call() -> Path:
        require_files(arguments)
        set_parsing_settings(docstring_parse_attribute_docstrings=True)
        result = auto_cli(
            function,
            args=files_first(arguments),
            as_positional=False,
            config_help="a YAML file with the arguments of this command",
            parser_class=Parser,
            prog=command_name(),
            usage=f"{command_name()} [options]",
            description=description_of(function),
            formatter_class=Formatter,
            allow_abbrev=False,
        )
        return then(result)

    return present(parse_and_call, arguments)


def present(command: Callable[[], Path], arguments: Sequence[str]) -> Path:
    """Call `command` and show its outcome: the path of its result, or a message and an exit code without a traceback.

    For commands that read their own arguments, as LightningCLI does; `run` is for all others.
    """
    try:
        result = command()
    except KeyboardInterrupt:
        print(f"\nstopped; to go on, repeat: {command_name()} {shlex.join(arguments)}", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except Exception as failure:
        mistake = mistake_behind(failure)
        if mistake is None:
            raise
        print(f"error: {mistake}", file=sys.stderr)
        sys.exit(MISTAKE)
    sys.stderr.flush()
    print(result, flush=True)
    return result


def require_files(arguments: Sequence[str]) -> None:
    """Raise DataError, offering the closest existing files, if an argument names a YAML file that is not there."""
    for argument in arguments:
        value = argument.partition("=")[2] if argument.startswith("-") else argument
        if value.endswith((".yaml", ".yml")) and not Path(value).is_file():
            hint = did_you_mean(closest_files(Path(value))) or "run commands from the repository's root"
            raise DataError(f"there is no file {value!r}: {hint}")


def files_first(arguments: Sequence[str]) -> list[str]:
    """YAML files to the front, `--config` before `--task` before `--task.prompts`: what comes later wins."""
    files: list[tuple[str, list[str]]] = []
    others: list[str] = []
    rest = list(arguments)
    while rest:
        name, _, value = rest[0].partition("=")
        alone = len(rest) < 3 or rest[2].startswith("-")  # not the first of several values
        given = rest[:1] if value else rest[:2] if alone else []
        if name.startswith("--") and given and given[-1].endswith((".yaml", ".yml")):
            files.append((name, given))
            rest = rest[len(given) :]
        else:
            others.append(rest.pop(0))
    files.sort(key=lambda file: (file[0] != "--config", file[0].count(".")))
    return [word for _, given in files for word in given] + others


def closest_files(path: Path) -> list[str]:
    """Up to three YAML files beside `path` or under conf/, those named like it first, then those in like folders."""

    def likeness(file: Path) -> tuple[float, float]:
        return SequenceMatcher(None, path.stem, file.stem).ratio(), SequenceMatcher(None, str(path), str(file)).ratio()

    known = {*path.parent.glob("*.y*ml"), *Path("conf").glob("**/*.y*ml")}
    return [str(file) for file in sorted(known, key=likeness, reverse=True) if likeness(file)[0] > 0.5][:3]


def did_you_mean(offers: Sequence[str]) -> str:
    """The question that offers names, or nothing when there are none."""
    return f"did you mean {' or '.join(map(repr, offers))}?" if offers else ""


def command_name() -> str:
    """How this process was started, as a user types it: `python -m scripts.collect_frames`."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return f"python -m {spec.name}" if spec else Path(sys.argv[0]).name


def description_of(function: Callable[..., Any]) -> str:
    """The docstring of a command without its list of arguments, which `--help` shows on its own.

    A settings dataclass says nothing of the command that reads it, so there the script's own docstring is taken.
    """
    source = sys.modules["__main__"] if isclass(function) else function
    return re.split(r"\n\s*Args:\s*\n", getdoc(source) or "")[0].rstrip()


class Formatter(RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Help that keeps the lines of a description, so that commands in it can be copied."""


class WholeGroup(_ActionConfigLoad):
    """A file for a group of settings, as `--task FILE`: the task is that of the file, and nothing of another one stays.

    jsonargparse would merge the two: a pendulum with the camera and the baseline of the cart-pole in `--config`.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """As jsonargparse does, on defaults in place of what was read before."""
        if args and isinstance(args[1].get(self.dest), Namespace):
            parser, namespace = args[:2]
            namespace[self.dest] = parser.get_defaults().get(self.dest)
        return super().__call__(*args, **kwargs)  # type: ignore[no-untyped-call]


class Parser(ArgumentParser):
    """A parser whose errors are one readable message instead of pages of usage; a bare `--flag` means true."""

    def add_argument(self, *args: Any, **kwargs: Any) -> Action:
        """As jsonargparse does, but a truth value may be left out."""
        action: Action = super().add_argument(*args, **kwargs)
        if kwargs.get("type") is bool:
            action.nargs, action.const = "?", True
        return action

    def parse_args(self, *args: Any, **kwargs: Any) -> Any:
        """As jsonargparse does, but files replace groups of settings (`WholeGroup`)."""
        for action in self._actions:
            if isinstance(action, _ActionConfigLoad):
                action.__class__ = WholeGroup
        return super().parse_args(*args, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise a SuiteError with the message, the closest option names and the way to the help."""
        if not self.exit_on_error:  # jsonargparse asks a question of its own and handles the answer
            raise ArgumentError(None, message) from ex
        mistake = mistake_behind(ex)
        if mistake is not None:
            raise mistake
        offer = did_you_mean(self.closest_names(message))
        raise SuiteError("\n".join(filter(None, (message, offer, f"all options: {self.prog} --help")))) from ex

    def closest_names(self, message: str) -> list[str]:
        """Names that look like the one the message complains about: options, or the values of a Literal."""
        if message.startswith("unrecognized arguments"):
            known = [name for action in self._actions for name in action.option_strings]
            return [name for given in re.findall(r"--[\w.]+", message) for name in get_close_matches(given, known, n=2)]
        literal = re.search(r"Literal\[(.+)\]\. Got value: (\S+)", message)
        return get_close_matches(literal[2], re.findall(r"'(.+?)'", literal[1])) if literal else []
