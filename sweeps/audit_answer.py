"""What an audit says in words: which sentence with which alpha, or none; on what frames; and what to beware of."""

from collections.abc import Sequence
from dataclasses import dataclass

from lightning_modules.reward_audit import Bounds
from sweeps.audit import Audit, AuditedAlpha, AuditedCandidate
from sweeps.audit_verdict import COINCIDING, FEWEST_EPISODES, ORDER, Verdict, shown

FEW_SUCCESSES = 20
"""fewer successes than this place the AUROC badly"""
MOST_NAMES = 3
"""more names than this make a sentence that nobody reads"""
HARDLY_MATTERS = 0.02
"""a difference in agreement that is not worth choosing an alpha for"""
CLEARLY_MORE = 20
"""frames of the top 100 by which one reward's successes must exceed another's to be worth a sentence"""


@dataclass(frozen=True)
class Answer:
    """The first lines of the page."""

    verdict: Verdict
    """that of the best candidate which is meant to work"""
    word: str
    """the verdict in a word or two"""
    title: str
    """what to do"""
    sentence: str
    """why, with the figures"""
    candidate: str
    """name of the candidate it speaks of"""
    alpha: float
    """and the alpha"""


def answer_of(found: Audit) -> Answer:
    """The answer for the whole list: its best candidate that is no control, at its best alpha."""
    best = found.best
    at, verdict = best.best, best.best.judgement.verdict
    goal, with_alpha = _quoted(best.candidate.goal), f"with alpha {at.alpha:g}"
    word, title = {
        "good": ("Yes.", f"Use {goal} {with_alpha}"),
        "weak": ("Perhaps.", f"The best there is, {goal} {with_alpha}, is weak"),
        "bad": ("No.", "None of these sentences is any good" if len(found.ranking) > 1 else f"Do not use {goal}"),
        "unknown": ("Not known.", "These frames cannot tell"),
    }[verdict]
    over = (
        f" over the baseline {_quoted(best.candidate.baseline)}" if best.candidate.baseline else " without a baseline"
    )
    which = f"The best is '{best.candidate.name}' {with_alpha},{over}."
    return Answer(
        verdict, word, title, " ".join((which, *at.judgement.reasons, *_others(found))), best.candidate.name, at.alpha
    )


def coverage_of(found: Audit) -> str:
    """The frames that every figure is measured over, in words: EPIC's coverage distribution."""
    truth, collection = found.truth, dict(found.manifest.collection)
    seed = collection.pop("seed", None)
    words = [f"the {truth.reward.size:,} frames of {truth.episodes:,} episodes"]
    policies = []
    if (share := collection.pop("noise_share", None)) is not None:
        policies.append(f"smooth noise in {share:.0%} of episodes and uniform random actions in the others")
    if (share := collection.pop("anywhere_share", None)) is not None:
        policies.append(f"started from widely drawn states in {share:.0%} and from resets in the others")
    collection.pop("frames", None)
    policies += [f"{key} {value}" for key, value in collection.items()]
    if policies:
        words.append(f"collected by policies that know nothing ({'; '.join(policies)})")
    if seed is not None:
        words.append(f"seed {seed}")
    return ", ".join(words)


def warnings_of(found: Audit) -> tuple[str, ...]:
    """What to beware of, for the audit as a whole; whole sentences."""
    return (*_of_the_data(found), *_of_the_view(found), *_of_the_controls(found))


def remarks_on(each: AuditedCandidate) -> tuple[str, ...]:
    """What a user of this candidate should know beside its verdict; whole sentences."""
    return (*_remarks_on_sentences(each), *_remarks_on_alpha(each))


def _quoted(sentences: Sequence[str]) -> str:
    more = f" (and {len(sentences) - 1} more)" if len(sentences) > 1 else ""
    return f"\N{LEFT DOUBLE QUOTATION MARK}{sentences[0]}\N{RIGHT DOUBLE QUOTATION MARK}{more}"


def _others(found: Audit) -> tuple[str, ...]:
    """How many are good, and which of them these frames cannot tell from the best."""
    ranking = found.ranking
    if len(ranking) < 2 or ranking[0].best.judgement.verdict != "good":
        return ()
    good = [each for each in ranking if each.best.judgement.verdict == "good"]
    close = [each.candidate.name for each in good[1:] if _hardly_differs(each.best, ranking[0].best)]
    count = f"{len(good)} of {len(ranking)} sentences are good"
    if not close:
        return (f"{count}.",)
    more = f" and {len(close) - MOST_NAMES} more" if len(close) > MOST_NAMES else ""
    return (f"{count}; these frames hardly tell {', '.join(map(repr, close[:MOST_NAMES]))}{more} from it.",)


def _hardly_differs(one: AuditedAlpha, other: AuditedAlpha) -> bool:
    """Whether every key figure of one lies inside the other's interval."""
    inside = [_inside(one.figures.spearman_within_episode, other.figures.spearman_bounds)]
    if one.figures.auroc is not None and other.figures.auroc_bounds is not None:
        inside.append(_inside(one.figures.auroc, other.figures.auroc_bounds))
    return all(inside)


def _inside(value: float, bounds: Bounds) -> bool:
    return bounds.low <= value <= bounds.high


def _of_the_data(found: Audit) -> tuple[str, ...]:
    truth, task = found.truth, found.manifest.task
    if truth.judged_episodes < FEWEST_EPISODES:
        return (
            f"The true reward changes inside {truth.judged_episodes} of {truth.episodes} episodes only: collect more, "
            "or from more widely drawn states (collect.anywhere_share).",
        )
    if truth.successes is None:
        return (
            "This task states no success_reward, so only the order of states is judged, not whether the top of the "
            "reward is the goal: look at the frames it likes best.",
        )
    if truth.successes == 0:
        return (
            f"No frame is a success (true reward of {task.success_reward:g} a simulator frame): no figure here can "
            "show that a reward is good. Collect from more widely drawn states (collect.anywhere_share).",
        )
    if truth.successes == truth.reward.size:
        return ("Every frame is a success: collect frames that are none, too.",)
    if truth.successes < FEW_SUCCESSES:
        return (f"Only {truth.successes} frames are successes: AUROC and the top of a reward are rough figures here.",)
    return ()


def _of_the_view(found: Audit) -> tuple[str, ...]:
    """What the sentences cannot be blamed for: what the embeddings do not show, or the sentences do not say."""
    linear, truth = found.linear, found.truth
    if not truth.varies:
        return ()
    if linear.spearman_within_episode < ORDER.bad * truth.attainable:
        return (
            "Even a reward fitted to the true reward orders these embeddings hardly better than chance (Spearman "
            f"inside an episode {shown(linear.spearman_within_episode)}): single frames, as this teacher sees them, do "
            "not show what the simulator pays for. No sentence can do much better; try another camera or teacher.",
        )
    best = found.best.best.figures
    if best.top_successes is None or linear.top_successes is None or found.best.best.judgement.verdict == "bad":
        return ()
    if linear.top_successes - best.top_successes < CLEARLY_MORE:
        return ()
    return (
        f"The true reward also counts what the best sentence does not say: fitted to it, a linear reading of the same "
        f"embeddings has {linear.top_successes} successes among its first {truth.top} frames, the sentence "
        f"{best.top_successes}. Say more in the sentence, or accept that the simulator measures something else, such "
        "as place or speed.",
    )


def _of_the_controls(found: Audit) -> tuple[str, ...]:
    working = [
        f"{each.candidate.name} ({each.best.judgement.verdict})"
        for each in found.candidates
        if each.candidate.control and each.best.judgement.verdict in ("good", "weak")
    ]
    if not working:
        return ()
    plural = "Controls that should fail do" if len(working) > 1 else "A control that should fail does"
    return (
        f"{plural} not: {', '.join(working)}. Single words may be enough for this teacher, or the frames differ in "
        "something that any sentence picks up; trust small differences between sentences less.",
    )


def _remarks_on_sentences(each: AuditedCandidate) -> tuple[str, ...]:
    if each.similarity is None or each.similarity < COINCIDING:
        return ()
    if not each.line_exists:
        return ("Goal and baseline have the same embedding: the teacher reads no difference, and only alpha 0 exists.",)
    return (
        f"Goal and baseline nearly coincide for the teacher (cosine {each.similarity:.3f}): with alpha above 0 the "
        "reward follows a difference that may be noise; word them further apart.",
    )


def _remarks_on_alpha(each: AuditedCandidate) -> tuple[str, ...]:
    """A best alpha at an end of those tried says something about the baseline, or that more should be tried."""
    tried, best = [at.alpha for at in each.alphas], each.best.alpha
    agreements = [at.judgement.agreement for at in each.alphas]
    verdicts = {at.judgement.verdict for at in each.alphas}
    if len(tried) < 2 or tried[0] < best < tried[-1]:
        return ()
    if len(verdicts) == 1 and max(agreements) - min(agreements) < HARDLY_MATTERS:
        return ("Alpha hardly matters here: choose any of those tried.",)
    ends = {
        0.0: "The best alpha is 0: the baseline adds nothing.",
        1.0: "The best alpha is 1, the end of the scale: only the line from baseline to goal is read, and how far a "
        "frame lies off that line no longer counts.",
    }
    further = "higher" if best == tried[-1] else "lower"
    return (ends.get(best, f"The best alpha is the {further[:-2]}est tried, {best:g}: try {further} ones."),)
