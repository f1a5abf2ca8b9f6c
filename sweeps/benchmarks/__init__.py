"""Benchmarks: each module measures its peers side by side in one run with `measure()`; here is what they share.

`measure()` returns `medians` (names end with their unit) and `ratios` ({what_over_what: number}), and may add more.
"""

import time
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from datamodules.errors import UnknownNameError
from datamodules.results import write_result

FOLDER = Path("runs/benchmarks")
WARM_UP_ROUNDS = 3


def run_benchmark(name: str, folder: Path = FOLDER) -> Path:
    """Measure, print a table, write `folder/NAME/result.json` and return its path.

    Raises UnknownNameError for a benchmark that does not exist.
    """
    names = [module.name for module in iter_modules(__path__)]
    if name not in names:
        raise UnknownNameError("benchmark", name, names)
    # Imported by name: each benchmark brings its own heavy libraries.
    figures: dict[str, Any] = import_module(f"{__name__}.{name}").measure()
    print_figures(name, figures)
    return write_result(folder / name, figures, {"benchmark": name})


def print_figures(title: str, figures: Mapping[str, Any]) -> None:
    """Print the groups of figures (`medians`, `ratios`) as one table on stdout."""
    table = Table("", "", title=title, show_header=False, title_justify="left")
    for group, values in figures.items():
        if isinstance(values, Mapping):
            table.add_section()
            for name, value in values.items():
                table.add_row(f"{group} {name}", f"{value:,.3f}" if isinstance(value, float) else str(value))
    Console().print(table)


def interleaved_medians(
    peers: Mapping[str, Callable[[], object]],
    rounds: int,
    before: Callable[[int], object] = lambda number: None,
    warm_up_rounds: int = WARM_UP_ROUNDS,
) -> dict[str, float]:
    """Median milliseconds of one call of each peer; the peers take turns, so they share the machine's moods.

    `before(number)` prepares a round and is not timed, and neither are a few rounds before those that count and each
    peer's first call in a turn: it pays for taking over from the other one.
    """
    times: dict[str, list[float]] = {name: [] for name in peers}
    for number in range(warm_up_rounds + rounds):
        before(number)
        for name, peer in peers.items():
            peer()
            start = time.perf_counter()
            peer()
            times[name].append((time.perf_counter() - start) * 1000)
    return {name: median(taken[warm_up_rounds:]) for name, taken in times.items()}
