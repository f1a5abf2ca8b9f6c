"""Run a sweep: many trials that answer one question, as many at once as the machine has slots for.

    python -m scripts.launch_sweep --config conf/sweeps/rewards.yaml --dry-run
    python -m scripts.launch_sweep --config conf/sweeps/rewards.yaml

`--dry-run` prints the trials and what they will cost. Stopped? The same command goes on: finished trials stay, others
go on with their first unfinished stage. Ctrl-C once lets every trial end at its next step, twice stops at once. Ends
with a table, comparison.html and result.json; exit code 1 says that a trial failed.
"""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from scripts.command import run
from sweeps.settings import SweepConfig

FLAGS = {"--dry-run": "--dry_run"}


def main(argv: Sequence[str] | None = None) -> Path:
    """Run the command."""
    arguments = [FLAGS.get(word, word) for word in (sys.argv[1:] if argv is None else argv)]
    failed = False

    def launch(sweep: SweepConfig) -> Path:
        nonlocal failed
        if sweep.dry_run:
            from sweeps.estimate import print_estimate

            return print_estimate(sweep)
        from sweeps.launch import launch_sweep  # torch and ray load only after the settings proved right
        from sweeps.sweep_report import conclude_sweep

        result = launch_sweep(sweep, shlex.join(["python", "-m", "scripts.launch_sweep", *arguments]))
        failed = conclude_sweep(result)
        return result

    path = run(SweepConfig, arguments, then=launch)
    if failed:
        sys.exit(1)
    return path


if __name__ == "__main__":
    main()
