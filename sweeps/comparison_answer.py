"""What a comparison says, in words: the answer, the plan's gates, what to pick. Every word follows from a figure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sweeps.answer import duration, number
from sweeps.audit_verdict import shown
from sweeps.comparison import ArmFigures, Comparison, ratio, scores_of
from sweeps.refinement_comparison import RefinedArm, queries_in_training, refined_arms, teacher_share
from sweeps.run_statistics import Estimate

ENOUGH_SEEDS = 5
"""fewer finished seeds of an arm on a task are called few: Agarwal et al. 2021 advise against claims from 3"""
CHANCE = 1 / 20
"""an order that chance alone brings about more often than this is no finding"""
SAME_COST = 1.1
"""times the least compute: seconds of trials that run beside others differ as much by chance"""
GATE_RETURN, GATE_COMPUTE = 0.9, 10.0
"""the plan: a student's agent reaches more than 90 % of its teacher's, at more than 10 times less compute"""
GATE_REFINED, GATE_QUERIES = 0.95, 500
"""a refined student's agent reaches 95 % of what the teacher in the loop does, on a 500th of its queries"""
NAMES = {"score": "normalised score", "true_return": "true return", "fidelity": "Spearman inside an episode"}

GateWord = Literal["pass", "open", "fail"]


@dataclass(frozen=True)
class Gate:
    """One of the plan's gates."""

    word: GateWord
    """open: the figure passes, its interval does not"""
    name: str
    figure: str
    """with its interval"""
    remark: str


def figure(estimate: Estimate, digits: int | None = None) -> str:
    """'.76', or as `number` writes it."""
    return number(estimate.value) if digits is None else shown(estimate.value, digits)


def interval(estimate: Estimate, digits: int | None = None) -> str:
    """'95 % .70 to .80'."""
    ends = [number(end) if digits is None else shown(end, digits) for end in (estimate.low, estimate.high)]
    return f"95\N{NO-BREAK SPACE}% {ends[0]} to {ends[1]}"


def percent(share: float) -> str:
    """'96 %', which no line break takes apart."""
    return f"{100 * share:.0f}\N{NO-BREAK SPACE}%"


def digits_of(found: Comparison) -> int | None:
    """Decimals of the figure that arms are compared by."""
    return None if found.measure == "true_return" else 3 if found.measure == "fidelity" else 2


def answer_of(found: Comparison) -> list[str]:
    """The first lines of the page."""
    files = found.files
    if not files.finished:
        return [f"Not known yet: of {len(files.trials)} trials none is finished."]
    return [
        sentence
        for sentence in (
            _best(found),
            _order(found),
            _students(found),
            *_gate_sentences(found),
            _few(found),
            _missing(found),
        )
        if sentence
    ]


def clear(found: Comparison, better: str, worse: str) -> bool:
    """Whether the runs of one arm beat those of another by more than chance.

    The interval of the probability of improvement has to lie above one half, and runs that are dealt out anew at random
    may make it as high in at most `CHANCE` of cases. Three runs against three on one task reach that where each of the
    one beats each of the other.
    """
    estimate = found.improvement.get((better, worse))
    return estimate is not None and estimate.low > 0.5 and found.chance[better, worse] <= CHANCE


def is_unbeaten(found: Comparison, arm: ArmFigures, others: Sequence[ArmFigures]) -> bool:
    """Whether none of the others clearly beats it."""
    return not any(clear(found, other.name, arm.name) for other in others if other is not arm)


def gates_of(found: Comparison) -> list[Gate]:
    """The plan's gates, where the sweep has a student's and a teacher's reward; else empty."""
    arms = {arm.name: arm for arm in found.arms}
    if found.measure == "fidelity" or not {"student", "teacher"} <= {name for name, arm in arms.items() if arm.costs}:
        return []
    if refined := refined_arms(found):  # its bare student is poor on purpose
        return [gate for gate in (_refinement_gate(found, refined, arms["teacher"]),) if gate]
    return [gate for gate in (_return_gate(found), _compute_gate(found, arms["student"], arms["teacher"])) if gate]


def pick_of(found: Comparison) -> list[str]:
    """What to pick and why: of those that no other beats clearly, references left out, the best of the cheapest."""
    ranked = [arm for arm in found.ranked if not arm.reference]
    if len(ranked) < 2:
        return []
    best = ranked[0]
    level = [arm for arm in ranked if is_unbeaten(found, arm, ranked)]
    if not level:
        return ["None to pick: each arm is clearly beaten by another."]
    least = min(map(_compute, level))
    pick = next(arm for arm in level if _compute(arm) <= SAME_COST * least)
    digits = digits_of(found)
    assert pick.overall is not None
    assert best.overall is not None
    worth = f"{NAMES[found.measure]} {figure(pick.overall, digits)}"
    sentences = [f"Pick {pick.name}: {worth} at {duration(_compute(pick))} a trial."]
    if pick is not best and best in level:
        sentences.append(
            f"{best.name} reaches {figure(best.overall, digits)}, which these runs cannot tell from it, at "
            f"{duration(_compute(best))}."
        )
    beaten = [arm for arm in ranked if arm not in level]
    by_best = [arm.name for arm in beaten if clear(found, best.name, arm.name)]
    by_others = [arm.name for arm in beaten if arm.name not in by_best]
    for names, others in ((by_best, best.name), (by_others, "others")):
        if names:
            sentences.append(f"Clearly beaten by {others}: {', '.join(names)}.")
    same = [arm.name for arm in level if arm is not pick and arm is not best]
    if same:
        sentences.append(f"These runs cannot tell {best.name} from {', '.join(same)} either.")
    return sentences


def _compute(arm: ArmFigures) -> float:
    return arm.costs.compute if arm.costs else float("inf")


def _best(found: Comparison) -> str:
    ranked, digits = found.ranked, digits_of(found)
    if not ranked:
        return (
            f"On {len(found.files.tasks)} tasks without a common scale there is no best over all: see the tasks one by "
            "one."
        )
    best = ranked[0]
    assert best.overall is not None
    runs = sum(figures.runs for figures in best.tasks.values())
    words = f"{NAMES[found.measure]} {figure(best.overall, digits)} ({interval(best.overall, digits)}, {runs} runs)"
    if len(ranked) == 1:
        return f"Only {best.name} is there: {words}; nothing finished stands beside it."
    second = ranked[1]
    assert second.overall is not None
    told = (
        "and its lead is more than chance"
        if clear(found, best.name, second.name)
        else f"but {_count(found, best.name, second.name)} cannot tell the two apart"
    )
    return (
        f"Best: {best.name}, {words}. Second: {second.name}, {figure(second.overall, digits)} "
        f"({interval(second.overall, digits)}), {told}."
    )


def _order(found: Comparison) -> str:
    rest = found.ranked[2:]
    digits = digits_of(found)
    parts = [f"{arm.name} {figure(arm.overall, digits)}" for arm in rest if arm.overall]
    return f"Then {', '.join(parts)}." if parts else ""


def _students(found: Comparison) -> str:
    """Whose students follow the teacher least and most, where it is the agents that are compared."""
    known = {arm.name: arm.costs.fidelity for arm in found.arms if arm.costs and arm.costs.fidelity is not None}
    if found.measure == "fidelity" or len(known) < 2:
        return ""
    least, most = min(known, key=known.__getitem__), max(known, key=known.__getitem__)
    low, high = shown(known[least], 3), shown(known[most], 3)
    if low == high:
        return f"All students follow the teacher equally well: Spearman {low} inside an episode."
    return f"Inside an episode, students follow the teacher with Spearman {low} ({least}) to {high} ({most})."


def _gate_sentences(found: Comparison) -> list[str]:
    words = {"pass": "passes", "open": "is open", "fail": "fails"}
    return [
        f"The project's target \N{LEFT DOUBLE QUOTATION MARK}{gate.name}\N{RIGHT DOUBLE QUOTATION MARK} "
        f"{words[gate.word]}: {gate.figure}."
        for gate in gates_of(found)
    ]


def _few(found: Comparison) -> str:
    if found.seeds >= ENOUGH_SEEDS:
        return ""
    return (
        f"The seeds are few ({found.seeds} finished of an arm on a task): intervals from so few are too narrow, and "
        f"{ENOUGH_SEEDS} are the least for a claim."
    )


def _missing(found: Comparison) -> str:
    missing = len(found.files.trials) - len(found.files.finished)
    if not missing:
        return ""
    return f"Of {len(found.files.trials)} trials {missing} did not finish: they are in none of these figures."


def _return_gate(found: Comparison) -> Gate | None:
    if found.measure == "true_return" and len(found.files.tasks) > 1:
        return None
    student, teacher = (scores_of(found.files, arm, found.measure) for arm in ("student", "teacher"))
    share = ratio(student, teacher)
    name = f"the student's agent reaches more than {percent(GATE_RETURN)} of the teacher's"
    if share is None:
        return Gate(
            "open", name, "not known", "both need finished runs on the same tasks, and the teacher a return above 0"
        )
    word: GateWord = "fail" if share.value <= GATE_RETURN else "pass" if share.low > GATE_RETURN else "open"
    lost = ("teacher", "random") in found.improvement and not clear(found, "teacher", "random")
    return Gate(
        word,
        name,
        f"{percent(share.value)} (95\N{NO-BREAK SPACE}% {percent(share.low)} to {percent(share.high)})",
        f"mean {NAMES[found.measure]} of the final agents, tasks alike"
        + ("; the teacher's own agents are not clearly better than those of a random reward, so it says little" * lost),
    )


def _compute_gate(found: Comparison, student: ArmFigures, teacher: ArmFigures) -> Gate | None:
    if not student.costs or not teacher.costs or student.costs.compute <= 0:
        return None
    times = teacher.costs.compute / student.costs.compute
    return Gate(
        "pass" if times > GATE_COMPUTE else "fail",
        f"total compute is more than {GATE_COMPUTE:g} times lower",
        f"{number(times)} times lower",
        f"seconds from nothing to an agent, without evaluations: {duration(teacher.costs.compute)} with the teacher in "
        f"the loop, {duration(student.costs.compute)} with a student, its data and its fit included; teacher queries "
        f"{queries_in_training(found, teacher):,.0f} and {student.costs.queries:,.0f}",
    )


def _refinement_gate(found: Comparison, refined: Sequence[RefinedArm], teacher: ArmFigures) -> Gate | None:
    """Of the best arm that asks few enough questions, or where none does, of the best."""
    asked = queries_in_training(found, teacher)
    most = asked / GATE_QUERIES
    known = [(share, arm) for arm in refined if (share := teacher_share(found, arm, teacher)) is not None]
    frugal = [(share, arm) for share, arm in known if arm.queries <= most]
    if not known:
        return None
    share, arm = max(frugal or known, key=lambda each: each[0].value)
    enough = share.value >= GATE_REFINED and bool(frugal)
    costs = arm.arm.costs
    return Gate(
        "fail" if not enough else "pass" if share.low >= GATE_REFINED else "open",
        f"a refined student's agent reaches at least {percent(GATE_REFINED)} of the teacher's, on at most 1/"
        f"{GATE_QUERIES} of its queries",
        f"{arm.arm.name}: {percent(share.value)} (95\N{NO-BREAK SPACE}% {percent(share.low)} to {percent(share.high)})"
        f" on 1/{asked / max(arm.queries, 1):,.0f} of the queries",
        f"interquartile mean {NAMES[found.measure]} of the final agents; {arm.queries:,.0f} queries in the training, "
        f"where the teacher in the loop is asked at {asked:,.0f} decisions"
        + (f"; with those that labelled the student's first frames {costs.queries:,.0f}" if costs else ""),
    )


def _count(found: Comparison, *names: str) -> str:
    arms = {arm.name: arm for arm in found.arms}
    runs: Sequence[int] = [sum(figures.runs for figures in arms[name].tasks.values()) for name in names]
    return f"{runs[0]} runs against {runs[1]}"
