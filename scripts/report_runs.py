"""A sweep, or trials put together by hand, on one page: tables, curves, intervals, costs, and what to pick."""

import shlex
import sys
from pathlib import Path

from scripts.command import run
from scripts.evaluate_students import with_lists


def report_runs(
    sweep: Path | None = None,
    trials: list[Path] | None = None,
    out: Path | None = None,
    question: str = "Which of these trials is best?",
) -> Path:
    """Compare the finished trials of a sweep, also while it runs, or any finished trials.

    python -m scripts.report_runs --sweep runs/sweeps/rewards

    python -m scripts.report_runs --trials runs/demo runs/demo-1 runs/other --out runs/compared

    Writes comparison.html, paper/ (tables as Markdown and LaTeX, figures as PDF) and figures/result.json. What the
    trials differ in, but their tasks and seeds, is what is compared. Takes some seconds.

    Args:
        sweep: a folder that scripts.launch_sweep filled
        trials: folders of finished trials, separated by spaces
        out: folder for the page of `--trials`; empty: runs/comparison
        question: the title of the page of `--trials`
    """
    from sweeps import sweep_report  # matplotlib loads only after the arguments proved right

    command = shlex.join(["python", "-m", "scripts.report_runs", *sys.argv[1:]])
    return sweep_report.report_runs(sweep, trials or [], out, question, command)


if __name__ == "__main__":
    run(report_runs, with_lists(sys.argv[1:]))
