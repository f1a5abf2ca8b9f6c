"""What a trial's page shows of the refinements in its training: a table, the steps, and the picture of drift."""

from dataclasses import dataclass

from lightning_modules.drift import Clouds, read_clouds
from rllib_envs.refinement_records import RefinementRecord, read_records, refinement_folder
from sweeps.answer import number
from sweeps.trial_files import TrialFiles

NOT_ASKED = "\N{EN DASH}"


@dataclass(frozen=True)
class RefinementRow:
    """One line of the table, in words."""

    steps: str
    drift: str
    queries: str
    audited: str
    held_out: str
    outcome: str


def records_of(files: TrialFiles) -> tuple[RefinementRecord, ...]:
    """The refinements of a trial's agent, in order; none where its student was left as it was."""
    return tuple(read_records(files.folder / "agent"))


def refinement_rows(files: TrialFiles) -> list[RefinementRow]:
    """Every refinement with its figures."""
    return [
        RefinementRow(
            steps=f"{record.steps:,}",
            drift=f"{record.drift:.1f}",
            queries=f"{record.asked} + {record.audited}",
            audited=_change(record.audited_error_before, record.audited_error_after),
            held_out=_change(record.held_out_error_before, record.held_out_error_after),
            outcome=record.reason,
        )
        for record in records_of(files)
    ]


def refinement_summary(files: TrialFiles) -> str | None:
    """What the refinements cost, in a sentence; None where there were none."""
    found = files.training.get("refinement")
    if not found:
        return None
    seconds = found["seconds"]
    strategy = files.agent["refinement"]["strategy"]
    return (
        f"{found['teacher_queries']:,} of at most {found['query_budget']:,} teacher queries were spent on frames that "
        f"the agent visited, chosen by {strategy!r} or, to measure the error, at random. {found['accepted']} of "
        f"{found['made']} refinements were accepted, in {number(seconds['refine'])} seconds; rewarding every "
        f"transition in replay again took {number(seconds['relabel'])} more."
        + (" The training was ended because the agent exploited its student." if found["exploited"] else "")
    )


def farthest_clouds(files: TrialFiles) -> tuple[Clouds, RefinementRecord] | None:
    """The picture of the refinement with the largest drift; None where there was no refinement."""
    records = records_of(files)
    if not records:
        return None
    farthest = max(records, key=lambda record: record.drift)
    return read_clouds(refinement_folder(files.folder / "agent", farthest.number)), farthest


def _change(before: float | None, after: float | None) -> str:
    if before is None:
        return NOT_ASKED
    return f"{before:.3f}" if after is None else f"{before:.3f} \N{RIGHTWARDS ARROW} {after:.3f}"
