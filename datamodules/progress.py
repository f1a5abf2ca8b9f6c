"""Progress of anything longer than a few seconds: bars on a terminal, a line now and then in a log."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as RemainingColumn

Report = Callable[[int, int, str], None]
"""Called as report(done, total, note); cheap enough to call at every step."""

SECONDS_BETWEEN_LINES = 10.0


def silent(done: int, total: int, note: str = "") -> None:
    """A Report that says nothing (tests, inner loops)."""


@contextmanager
def progress_bar(label: str, unit: str) -> Iterator[Report]:
    """Show one labelled bar with rate and remaining time while the block runs; yields its `Report`."""
    with ProgressDisplay({label: unit}) as display, display.running(label) as report:
        yield report


class ProgressDisplay:
    """A list of named bars, all shown from the start: waiting, running (rate, time left), done, or done before.

    On a terminal the list is live on stderr; elsewhere each bar prints a plain line every ten seconds and at its end.
    """

    def __init__(self, units: dict[str, str]) -> None:
        """Args: units: what each bar counts, by bar name, in the order to show, as {'collect': 'frames'}."""
        self._units = units
        self._rows: dict[str, TaskID] = {}
        self._live: Progress | None = None
        if sys.stderr.isatty():
            self._live = Progress(
                TextColumn("{task.description:<10}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeElapsedColumn(),
                RemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=Console(stderr=True),
            )
            for name in units:
                self._rows[name] = self._live.add_task(name, total=None, start=False, rate="", note="waiting")

    def __enter__(self) -> "ProgressDisplay":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live:
            self._live.stop()

    def done_before(self, name: str, note: str) -> None:
        """Mark a bar whose work an earlier run finished."""
        if self._live:
            self._live.update(self._rows[name], total=1, completed=1, note=note)
        else:
            self._print(f"{name}: {note}")

    @contextmanager
    def running(self, name: str) -> Iterator[Report]:
        """Run one bar while the block runs; yields its `Report`."""
        start = time.monotonic()
        last_line = start
        first: tuple[float, int] | None = None
        finished = False
        if self._live:
            self._live.start_task(self._rows[name])
            self._live.update(self._rows[name], note="")

        def report(done: int, total: int, note: str = "") -> None:
            nonlocal first, last_line, finished
            now = time.monotonic()
            # The rate counts from the first report: work that goes on after a stop starts far from 0.
            first = first or ((now, done) if done < total else (start, 0))
            rate = (done - first[1]) / max(now - first[0], 1e-9)
            if self._live:
                shown = f"{rate:,.1f} {self._units[name]}/s"
                self._live.update(self._rows[name], completed=done, total=total, rate=shown, note=note)
                return
            just_finished = done >= total and not finished
            if not just_finished and now - last_line < SECONDS_BETWEEN_LINES:
                return
            last_line, finished = now, done >= total
            left = f"{(total - done) / rate:.0f} s left" if rate > 0 else "time left unknown"
            counted = f"{done:,}/{total:,} {self._units[name]}"
            self._print(f"{name}: {counted}, {rate:,.1f}/s, {now - start:.0f} s passed, {left} {note}".rstrip())

        yield report
        if self._live:
            self._live.update(self._rows[name], note=f"done in {time.monotonic() - start:.0f} s")
            self._live.stop_task(self._rows[name])
        else:
            self._print(f"{name}: done in {time.monotonic() - start:.0f} s")

    @staticmethod
    def _print(line: str) -> None:
        print(line, file=sys.stderr, flush=True)
