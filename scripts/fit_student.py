"""Fit a student to labelled frames, log it in MLflow, export it, and show on one page how faithful it is.

    python -m scripts.fit_student fit --config conf/student/default.yaml --data.labels runs/x/labels

The student goes beside the labels unless `--out` says where; its page is `student.html` there. `fit --help` lists
every setting. Stopped and started
again, it goes on from its last epoch.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from datamodules.errors import SettingsError
from datamodules.progress import progress_bar
from scripts.command import present, require_files


def main(argv: Sequence[str] | None = None) -> Path:
    """Run `python -m scripts.fit_student fit ...`; returns the path of result.json."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments in (["--help"], ["-h"]):
        print(__doc__)
        sys.exit(0)

    def fit() -> Path:
        if arguments[:1] != ["fit"]:
            raise SettingsError(f"the first word must be 'fit'; usage: {__doc__}")
        require_files(arguments)
        from lightning_modules.fit_cli import FitCLI
        from sweeps.student_page import present_fit

        fitted = FitCLI(arguments, progress_bar("fit", "batches"), reading=progress_bar("read", "frames"))
        if fitted.trainer.is_global_zero:
            print(present_fit(fitted))
        return fitted.out / "result.json"

    return present(fit, arguments)


if __name__ == "__main__":
    main()
