"""Progress of anything longer than a few seconds: a bar on a terminal, a line now and then in a log."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Report = Callable[[int, int, str], None]
"""Called as report(done, total, note); cheap enough to call at every step."""

SECONDS_BETWEEN_LINES = 10.0


def silent(done: int, total: int, note: str = "") -> None:
    """A Report that says nothing (tests, inner loops)."""


@contextmanager
def progress_bar(label: str, unit: str) -> Iterator[Report]:
    """Show one labelled bar with rate and remaining time while the block runs.

    Yields a `Report`. On a terminal it is a live bar on stderr; elsewhere a plain line every ten seconds and at the end.
    """
    start = time.monotonic()
    if sys.stderr.isatty():
        from rich.console import Console

        columns = (
            TextColumn("{task.description:<12}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:>9} " + unit + "/s"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=Console(stderr=True)) as display:
            row = display.add_task(label, total=None, rate="-", note="")

            def report(done: int, total: int, note: str = "") -> None:
                rate = done / max(time.monotonic() - start, 1e-9)
                display.update(row, completed=done, total=total, rate=f"{rate:,.1f}", note=note)

            yield report
        return

    last_line = start

    def report_line(done: int, total: int, note: str = "") -> None:
        nonlocal last_line
        now = time.monotonic()
        if done < total and now - last_line < SECONDS_BETWEEN_LINES:
            return
        last_line = now
        rate = done / max(now - start, 1e-9)
        left = (total - done) / rate if rate > 0 else float("nan")
        print(
            f"{label}: {done:,}/{total:,} {unit} ({rate:,.1f}/s, {now - start:.0f} s passed, {left:.0f} s left) {note}".rstrip(),
            file=sys.stderr,
            flush=True,
        )

    yield report_line
