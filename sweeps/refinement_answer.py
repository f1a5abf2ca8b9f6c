"""What a comparison says of its refinements, in words: which way of choosing questions earns them."""

from dataclasses import dataclass

from sweeps.answer import duration
from sweeps.comparison import Comparison
from sweeps.comparison_answer import clear, digits_of, figure, interval, percent
from sweeps.refinement_comparison import RefinedArm, baseline_of, refined_arms, teacher_share
from sweeps.run_statistics import Estimate

UNREFINED, TEACHER = "student", "teacher"
"""arms beside which refined ones stand"""
Cell = tuple[str, str] | None
"""a figure, and what stands small below it; None where there is nothing"""


@dataclass(frozen=True)
class RefinedRow:
    """One line of the table, in words."""

    name: str
    strategy: str
    queries: str
    score: Cell
    share: Cell
    error: Cell
    beats: Cell
    accepted: str
    seconds: Cell


def refinement_sentences(found: Comparison) -> list[str]:
    """Whether refinement helps at all, and which strategy is worth its queries; none without refinements."""
    refined = refined_arms(found)
    return [sentence for sentence in (_helps(found, refined), _earns(found, refined)) if sentence]


def refined_rows(found: Comparison) -> list[RefinedRow]:
    """A line for every arm with refinements."""
    refined = refined_arms(found)
    baseline = baseline_of(refined)
    teacher = next((arm for arm in found.arms if arm.name == TEACHER), None)
    return [
        RefinedRow(
            each.arm.name,
            each.strategy,
            f"{each.queries:,.0f}",
            _shown(each.arm.overall, digits_of(found)),
            _share(teacher_share(found, each, teacher) if teacher else None),
            _shown(each.last_error, 3),
            _share(
                found.improvement.get((each.arm.name, baseline.arm.name)) if baseline and baseline is not each else None
            ),
            f"{each.accepted} of {each.made}",
            (duration(each.seconds), f"{percent(each.share)} of the training"),
        )
        for each in refined
    ]


def _helps(found: Comparison, refined: list[RefinedArm]) -> str:
    """Refined students against the bare one."""
    if not refined or UNREFINED not in {arm.name for arm in found.arms}:
        return ""
    better = [each.arm.name for each in refined if clear(found, each.arm.name, UNREFINED)]
    if not better:
        return (
            "These runs do not show that any refinement helps: none clearly beats the student that is left as it was."
        )
    rest = [each.arm.name for each in refined if each.arm.name not in better]
    return (
        f"Refinement helps: {', '.join(better)} clearly beat{'s' * (len(better) == 1)} the student that is left as it "
        f"was{f'; {_and(rest)} not clearly' * bool(rest)}."
    )


def _earns(found: Comparison, refined: list[RefinedArm]) -> str:
    """Strategies against questions asked at random."""
    baseline = baseline_of(refined)
    if baseline is None or len(refined) < 2:
        return ""
    others = [each.arm.name for each in refined if each is not baseline and each.queries >= baseline.queries / 2]
    better = [name for name in others if clear(found, name, baseline.arm.name)]
    worse = [name for name in others if clear(found, baseline.arm.name, name)]
    if not better and not worse:
        return (
            f"No strategy earns its name: on the final agents these runs cannot tell {_and(others)} from questions "
            "asked at random."
        )
    parts = []
    if better:
        parts.append(f"{_and(better)} clearly beat{'s' * (len(better) == 1)} questions asked at random")
    if worse:
        parts.append(f"{_and(worse)} {'is' if len(worse) == 1 else 'are'} clearly worse than questions asked at random")
    return f"{'; '.join(parts)}."


def _and(names: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def _shown(estimate: Estimate | None, digits: int | None) -> Cell:
    return None if estimate is None else (figure(estimate, digits), interval(estimate, digits))


def _share(estimate: Estimate | None) -> Cell:
    if estimate is None:
        return None
    return percent(estimate.value), f"95 % {percent(estimate.low)} to {percent(estimate.high)}"
