"""Measure this project beside its peers on this machine.

rendering, agents, learning, refinement, rewards, loading, fitting, backbones or teacher:

    python -m scripts.benchmark rendering

Prints a table and writes runs/benchmarks/NAME/result.json with `ratios`. Each takes one to six minutes,
but learning half an hour.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from scripts.command import Formatter, Parser, command_name, present
from sweeps.benchmarks import FOLDER, run_benchmark


def main(argv: Sequence[str] | None = None) -> Path:
    """Run one benchmark by name."""
    arguments = list(sys.argv[1:] if argv is None else argv)

    def measure() -> Path:
        parser = Parser(prog=command_name(), description=__doc__, formatter_class=Formatter)
        parser.add_argument("name", help="what to measure")
        parser.add_argument("--out", type=Path, default=FOLDER, help="folder for the results")
        given = parser.parse_args(arguments)
        return run_benchmark(given.name, given.out)

    return present(measure, arguments)


if __name__ == "__main__":
    main()
