"""MLflow runs of trials that another process ended: closed, so that none looks as if it still ran."""

from collections.abc import Iterable

from lightning_modules.runs import STATUS_KILLED, end_run
from sweeps.journal import Journal
from sweeps.settings import SweepConfig
from sweeps.space import TRIALS


def end_runs(sweep: SweepConfig, trials: Iterable[str]) -> None:
    """End the runs of these trials of a sweep as killed, where they have one."""
    for name in trials:
        folder = sweep.out / TRIALS / name
        if (run_id := Journal(folder).run_id) is not None:
            end_run(sweep.base.tracking.uri, run_id, STATUS_KILLED)
