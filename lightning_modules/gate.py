"""May a fine-tuned student take the place of the one before? Both sit the same exam, of frames that neither learned."""

from dataclasses import dataclass

from lightning_modules.fine_tuning import Labelled, TunableStudent


@dataclass(frozen=True)
class Marks:
    """Errors of a student; the squared ones in units of the reward's variance."""

    held_out: float
    """squared, on held-out labels"""
    audited: float | None
    """squared, on frames that the agent visits; None where the teacher was asked about none"""
    overrated: float | None = None
    """mean of student less teacher on these, in standard deviations of the reward: where an agent exploits its student,
    it visits what the student rates higher than the teacher does"""


@dataclass(frozen=True, eq=False)
class Exam:
    """Labelled frames that decide between two students."""

    held_out: Labelled
    """from the policies that the first labels came from: what may not be forgotten"""
    audit: Labelled
    """drawn at random from what the agent visits: what is to be learned; there may be none"""

    def marks(self, student: TunableStudent) -> Marks:
        """The errors of a student."""
        held_out = student.squared_error(self.held_out)
        if not len(self.audit):
            return Marks(held_out, None)
        return Marks(held_out, student.squared_error(self.audit), float(student.errors(self.audit).mean()))


def why_worse(before: Marks, after: Marks, tolerance: float) -> str:
    """Why a fine-tuned student must not take the place of the one before; empty where it may.

    Neither error may grow by more than `tolerance`. One that is not a number has grown.
    """
    compared = (
        ("held-out labels", before.held_out, after.held_out),
        ("audited frames", before.audited, after.audited),
    )
    for what, old, new in compared:
        if old is not None and new is not None and not new <= old + tolerance:
            return f"the squared error on {what} grew from {old:.3g} to {new:.3g}"
    return ""
