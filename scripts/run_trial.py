"""From a sentence to a trained agent: every stage of one trial, resumable, one page at the end."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from scripts.command import run
from sweeps.settings import TrialConfig


def main(argv: Sequence[str] | None = None) -> Path:
    """Run `python -m scripts.run_trial --config conf/trials/demo.yaml`."""
    arguments = list(sys.argv[1:] if argv is None else argv)

    def run_all(config: TrialConfig) -> Path:
        from sweeps.trial import run_trial  # torch and ray load only after the settings proved right

        return run_trial(config, shlex.join(["python", "-m", "scripts.run_trial", *arguments]))

    return run(TrialConfig, arguments, then=run_all)


if __name__ == "__main__":
    main()
