"""Which sentences an audit compares, free of torch so that any conf file loads anywhere."""

from collections import Counter
from dataclasses import dataclass

from datamodules.errors import SettingsError
from datamodules.tasks import Prompts

ALPHAS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Candidate:
    """A goal and a baseline that somebody thinks of training with, or a control that should fail."""

    name: str
    """what tables and the page call it; no two candidates share one"""
    goal: tuple[str, ...]
    """goal sentences, as in a task's prompts (at least one)"""
    baseline: tuple[str, ...] = ()
    """baseline sentences; without any, alphas must be [0]"""
    alphas: tuple[float, ...] = ()
    """the alphas to try with this candidate (each 0 to 1); empty: those of the whole list"""
    control: bool = False
    """a sentence that should fail, as the opposite of the goal: measured with the others, never recommended"""

    @property
    def sentences(self) -> tuple[str, ...]:
        """Every sentence whose text embedding is needed."""
        return (*self.goal, *self.baseline)


@dataclass(frozen=True)
class PromptList:
    """The candidates that an audit compares."""

    candidates: tuple[Candidate, ...]
    """what to compare (at least one)"""
    alphas: tuple[float, ...] = ALPHAS
    """strengths of the projection to try with each candidate that names none of its own (each 0 to 1)"""

    def __post_init__(self) -> None:
        if not self.candidates:
            raise SettingsError("candidates is empty: give at least one, with a name and goal sentences")
        names = Counter(candidate.name for candidate in self.candidates)
        twice = [name for name, count in names.items() if count > 1]
        if twice:
            raise SettingsError(f"two candidates are called {twice[0]!r}: give each a name of its own")
        for candidate in self.candidates:
            self._check(candidate)

    def alphas_of(self, candidate: Candidate) -> tuple[float, ...]:
        """The alphas to try with a candidate, ascending, none twice."""
        return tuple(sorted(set(candidate.alphas or self.alphas)))

    def _check(self, candidate: Candidate) -> None:
        place = f"candidate {candidate.name!r}"
        if not candidate.name.strip():
            raise SettingsError(f"the candidate with goal {list(candidate.goal)} has an empty name: give it one")
        alphas = self.alphas_of(candidate)
        if not alphas:
            raise SettingsError(f"{place} has no alpha to try: give alphas at least one number between 0 and 1")
        if alphas[-1] > 0 and not candidate.baseline:
            raise SettingsError(
                f"{place} has no baseline, and alpha {alphas[-1]:g} needs one: add a baseline, or give the candidate "
                "`alphas: [0]`"
            )
        for alpha in alphas:
            try:
                Prompts(candidate.goal, candidate.baseline, alpha)
            except SettingsError as error:
                raise SettingsError(f"{place}: {error}") from error


def own_prompts(prompts: Prompts) -> PromptList:
    """The list of a task's own prompts alone, at its own alpha and the usual ones."""
    alphas = (*ALPHAS, prompts.alpha) if prompts.baseline else (0.0,)
    return PromptList((Candidate("task", prompts.goal, prompts.baseline),), tuple(sorted(set(alphas))))
