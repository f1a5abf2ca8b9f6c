"""The suite's own errors: what was given, what is allowed, and what to do next, in one message."""

from collections.abc import Iterable
from difflib import get_close_matches


class SuiteError(Exception):
    """A user's mistake or a missing piece: commands print its message without a traceback and exit with code 2."""


class SettingsError(SuiteError):
    """A setting is outside its range, or two settings contradict each other."""


class DataError(SuiteError):
    """A data set is missing, damaged, or belongs to something else."""


class UnknownNameError(SuiteError):
    """A name that is not among those allowed; the message offers the closest ones."""

    def __init__(self, kind: str, given: str, allowed: Iterable[str], hint: str = "") -> None:
        names = sorted(set(allowed))
        close = get_close_matches(given, names, n=3, cutoff=0.4)
        offer = f"did you mean {' or '.join(map(repr, close))}?" if close else f"known: {', '.join(names[:30])}"
        super().__init__(f"unknown {kind} {given!r}: {offer}{' ' + hint if hint else ''}")


class MissingDependencyError(SuiteError):
    """Something outside Python is missing (GL, weights, network); the message names what to install or place where."""


class StoppedError(SuiteError):
    """Work was asked to stop; what is finished is kept, and the same command goes on."""


def mistake_behind(failure: BaseException | None) -> SuiteError | None:
    """The SuiteError that `failure` is or was raised from: jsonargparse and RLlib wrap what our own code raises."""
    while failure is not None and not isinstance(failure, SuiteError):
        failure = failure.__cause__
    return failure
