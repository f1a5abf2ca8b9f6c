"""A comparison as tables: Markdown, LaTeX, and plain text for a terminal."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datamodules.results import write_atomically
from sweeps.answer import duration
from sweeps.audit_verdict import shown
from sweeps.comparison import ArmFigures, Comparison
from sweeps.comparison_answer import NAMES, digits_of, figure, interval
from sweeps.comparison_figures import draw_comparison
from sweeps.run_statistics import Estimate

PAPER = "paper"


@dataclass(frozen=True)
class Table:
    """Words in rows and columns."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """A table of GitHub's Markdown."""
        rule = ["---", *["---:"] * (len(self.columns) - 1)]
        return "".join(f"| {' | '.join(row)} |\n" for row in (self.columns, rule, *self.rows))

    def latex(self) -> str:
        """A table for LaTeX's package booktabs."""
        head, *body = (" & ".join(map(_latex, row)) + r" \\" for row in (self.columns, *self.rows))
        lines = [
            rf"\begin{{tabular}}{{l{'r' * (len(self.columns) - 1)}}}",
            r"\toprule",
            head,
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
        ]
        return "\n".join(lines) + "\n"

    def plain(self) -> str:
        """Columns of a width, for a terminal."""
        widths = [max(len(row[column]) for row in (self.columns, *self.rows)) for column in range(len(self.columns))]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in (self.columns, *self.rows)
        )


def table_of(found: Comparison) -> Table:
    """One row an arm: over all tasks, task by task, and what a trial costs."""
    digits, tasks = digits_of(found), found.files.tasks
    overall = any(arm.overall for arm in found.arms) and len(tasks) > 1
    followed = found.measure != "fidelity" and any(map(_fidelity, found.arms))
    columns = [
        ", ".join(found.files.varied) or "arm",
        *([f"IQM {NAMES[found.measure]}"] if overall else []),
        *tasks,
        *(["student's Spearman"] if followed else []),
        "trials",
        "compute",
        "teacher queries",
    ]

    def row(arm: ArmFigures) -> list[str]:
        return [
            arm.name,
            *([_cell(arm.overall, digits)] if overall else []),
            *(_cell(arm.tasks[task].final if task in arm.tasks else None, _task_digits(found)) for task in tasks),
            *([_fidelity(arm)] if followed else []),
            f"{arm.finished} of {arm.trials}",
            duration(arm.costs.compute) if arm.costs else "",
            f"{arm.costs.queries:,.0f}" if arm.costs else "",
        ]

    return Table(columns, [row(arm) for arm in found.arms])


def write_paper(found: Comparison) -> Path:
    """`paper/`: the table as Markdown and LaTeX, every figure as PDF. Returns the folder."""
    folder = found.files.folder / PAPER
    table = table_of(found)
    write_atomically(folder / "table.md", table.markdown().encode())
    write_atomically(folder / "table.tex", table.latex().encode())
    for name, drawing in draw_comparison(found).items():
        write_atomically(folder / f"{name}.pdf", drawing.pdf())
    return folder


def _task_digits(found: Comparison) -> int | None:
    return 3 if found.measure == "fidelity" else None


def _fidelity(arm: ArmFigures) -> str:
    return "" if arm.costs is None or arm.costs.fidelity is None else shown(arm.costs.fidelity, 3)


def _cell(estimate: Estimate | None, digits: int | None) -> str:
    return "" if estimate is None else f"{figure(estimate, digits)} ({interval(estimate, digits)})"


def _latex(cell: str) -> str:
    for plain, escaped in (("\\", r"\textbackslash "), ("_", r"\_"), ("%", r"\%"), ("&", r"\&"), ("#", r"\#")):
        cell = cell.replace(plain, escaped)
    return cell.replace("\N{MINUS SIGN}", "$-$").replace("\N{NO-BREAK SPACE}", "~")
