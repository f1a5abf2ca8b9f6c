"""Trials -> comparison.html, paper/ and comparison.json; the end of a sweep, and of scripts.report_runs."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from datamodules.errors import SettingsError
from datamodules.results import write_result
from sweeps.comparison import Comparison, compare, measure_of
from sweeps.comparison_answer import answer_of, gates_of, pick_of
from sweeps.comparison_page import write_comparison_page
from sweeps.comparison_tables import table_of, write_paper
from sweeps.sweep_files import FINISHED, SweepFiles, read_sweep, read_trials

FIGURES = "figures"
"""beside the page: result.json of scripts.report_runs"""


def write_report(files: SweepFiles) -> Comparison:
    """Write the page and the paper's tables and figures into the folder of `files`.

    Where only students are compared, how long each takes for a frame is measured first.
    """
    if files.finished and measure_of(files.finished) == "fidelity":
        from sweeps.student_latency import latencies_of  # torch, which no other comparison needs

        files = replace(files, latency=latencies_of(files))
    found = compare(files)
    write_comparison_page(found)
    write_paper(found)
    return found


def report_runs(sweep: Path | None, trials: Sequence[Path], out: Path | None, question: str, command: str) -> Path:
    """What scripts.report_runs does. Returns the path of `result.json`, in the folder `comparison`.

    Raises:
        SettingsError: neither a sweep nor trials are given, or both.
        DataError: one of them holds nothing to compare.
    """
    if (sweep is None) == (not trials):
        raise SettingsError("give either --sweep FOLDER, or --trials FOLDER FOLDER ...")
    files = read_sweep(sweep) if sweep is not None else read_trials(trials, out or Path("runs/comparison"), question)
    found = write_report(files)
    print_comparison(found)
    return write_result(
        files.folder / FIGURES,
        figures_of(found),
        {"sweep": sweep, "trials": list(trials), "question": question, "command": command},
    )


def conclude_sweep(result: Path) -> bool:
    """The page and the table at a sweep's end; returns whether a trial is missing."""
    files = read_sweep(result.parent)
    found = write_report(files)
    write_result(files.folder / FIGURES, figures_of(found), {"sweep": files.folder})
    print_comparison(found)
    missing = [trial for trial in files.trials if trial.status != FINISHED]
    for trial in missing:
        print(f"{trial.name}: {trial.status}{': ' * bool(trial.error)}{trial.error}", file=sys.stderr)
    if (mlflow := files.result.get("mlflow")) and mlflow["experiment_id"]:
        print(f"in MLflow: {address_of(mlflow['tracking_uri'], mlflow['experiment_id'])}", file=sys.stderr)
    return bool(missing)


def print_comparison(found: Comparison) -> None:
    """The table, the answer and the page's address, on stderr."""
    page = (found.files.folder / "comparison.html").resolve()
    print("", table_of(found).plain(), "", *answer_of(found), "", f"the page: {page}", sep="\n", file=sys.stderr)


def address_of(tracking_uri: str, experiment_id: str) -> str:
    """Where a browser shows the runs of a sweep side by side, grouped by what varies (`Run.share_view`)."""
    from lightning_modules.runs import VIEW  # mlflow takes seconds to load

    place = f"#/experiments/{experiment_id}/runs?viewStateShareKey={VIEW}"
    if tracking_uri.startswith("http"):
        return f"{tracking_uri.rstrip('/')}/{place}"
    return f"make ui STORE={tracking_uri}, then http://127.0.0.1:5000/{place}"


def figures_of(found: Comparison) -> dict[str, object]:
    """All figures of the page, as result.json holds them."""
    arms = {
        arm.name: {
            "trials": arm.trials,
            "finished": arm.finished,
            "interquartile_mean": arm.overall and asdict(arm.overall),
            "mean": arm.mean and asdict(arm.mean),
            "tasks": {task: asdict(figures) for task, figures in arm.tasks.items()},
            "costs": arm.costs and {**asdict(arm.costs), "compute": arm.costs.compute},
            "overoptimised": arm.overoptimised,
        }
        for arm in found.arms
    }
    content = {
        "question": found.files.question,
        "answer": answer_of(found),
        "pick": pick_of(found),
        "measure": found.measure,
        "gates": [asdict(gate) for gate in gates_of(found)],
        "arms": arms,
        "thresholds": dict(found.thresholds),
        "improvement": {
            f"{one} over {other}": {**asdict(value), "by_chance": found.chance[one, other]}
            for (one, other), value in found.improvement.items()
        },
    }
    plain: dict[str, object] = json.loads(json.dumps(content))
    return plain
