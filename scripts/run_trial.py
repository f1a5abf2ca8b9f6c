"""From a sentence to a trained agent: collect, label, fit, train, evaluate, and one page at the end.

    python -m scripts.run_trial --config conf/trials/demo.yaml --seed 1 --out runs/demo-1

The demo takes at most 12 minutes on 2 cores without a GPU. Stopped? The same command goes on where it was. Every
setting of every stage can be given in the file or as a flag, as --sac.total_steps 20000.
"""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from scripts.command import run
from sweeps.settings import TrialConfig


def main(argv: Sequence[str] | None = None) -> Path:
    """Run the command."""
    arguments = list(sys.argv[1:] if argv is None else argv)

    def run_all(config: TrialConfig) -> Path:
        from sweeps.trial import run_trial  # torch and ray load only after the settings proved right

        result = run_trial(config, shlex.join(["python", "-m", "scripts.run_trial", *arguments]))
        print(f"the page: {result.with_name('report.html').resolve()}", file=sys.stderr)
        return result

    return run(TrialConfig, arguments, then=run_all)


if __name__ == "__main__":
    main()
