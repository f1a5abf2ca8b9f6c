"""An agent has wandered: ask the teacher about a few of the states it visits, and repair its student.

A process that is killed anywhere goes on with what is on disk: no question is asked twice once it is answered, and a
refinement that has its record is taken over as it was decided. Neither Ray nor the replay buffer is known here.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datamodules.results import write_json
from lightning_modules.drift import clouds_of, drifts
from lightning_modules.fine_tuning import Labelled, Seen, TunableStudent
from lightning_modules.fitted_labels import FittedLabels
from lightning_modules.gate import Exam, Marks, why_worse
from lightning_modules.query_choice import Candidates, choose_queries
from lightning_modules.reward_function import Teacher
from rllib_envs.agent_files import AgentCard
from rllib_envs.refined_labels import RefinedLabels
from rllib_envs.refinement_records import (
    LABELS,
    RECORD,
    REFINEMENTS,
    EpisodeRecord,
    RefinementRecord,
    read_record,
    refinement_folder,
)
from rllib_envs.student_versions import StudentVersions
from rllib_envs.visits import Draw, Visits

CANDIDATES = 1024
"""visited frames, drawn at random, that a refinement measures drift on and chooses among"""
REPLAYED = 2048
"""labelled frames, drawn at random by each refinement, that stand for all: in feature space and in fine-tuning"""
HELD_OUT = 1024
"""held-out frames, evenly spread, on which the gate compares students"""

Places = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class _View:
    """What a refinement begins with."""

    student: TunableStudent
    """the one that rewards the agent"""
    replayed: Labelled
    """some of the labels that it was fitted to"""
    earlier: Labelled
    """what refinements before this one were told"""
    known: Labelled
    """both"""
    held_out: Labelled
    """labels that it has not learned from"""
    seen: Seen
    """the visited frames, as it sees them"""
    known_features: NDArray[np.float32]
    """(L, F) of the known ones"""
    drifts: NDArray[np.float64]
    """(V,) of the visited ones"""

    @property
    def drift(self) -> float:
        return float(np.median(self.drifts))


@dataclass(frozen=True, eq=False)
class _Told:
    """What the teacher says."""

    exam: Exam
    """held-out labels, and answers that measure"""
    audited: Places
    """of the visits that these are about; none where they were given before the process was stopped, on others"""
    before: Marks
    """of the student as it is"""
    answers: Labelled
    """answers to learn from"""
    needless: str
    """why the student is not to be refined; empty where it is"""


class Refiner:
    """The refinements of one agent, those before a stop included."""

    def __init__(self, card: AgentCard, out: Path, draw: Draw, teacher: Callable[[], Teacher]) -> None:
        """Take up what is in `out`.

        Args:
            card: of an agent in which check_refinement found nothing wrong.
            out: the agent's folder.
            draw: draws states.
            teacher: loads the teacher; called when it is first asked.
        """
        assert card.refinement is not None, "check_refinement comes first"
        assert card.labels is not None, "check_refinement comes first"
        self.settings, self._seed, self._out, self._draw = card.refinement, card.seed, out, draw
        self._fitted_to = FittedLabels(card.labels)
        self.students = StudentVersions(card, out, self._fitted_to)
        self._labels = RefinedLabels(
            out / REFINEMENTS / LABELS,
            self._fitted_to.manifest,
            {"refinement": asdict(self.settings), "seed": card.seed},
            self.settings.query_budget,
            teacher,
        )

    @property
    def queries(self) -> int:
        """Teacher queries so far, audits included."""
        return self._labels.queries

    def due(self, steps: int, done: int) -> bool:
        """Whether it is time for another refinement after `done`: not before its step, nor with nothing left to ask."""
        if steps < (done + 1) * self.settings.every_steps:
            return False
        begun = self._labels.has(2 * done) or self._labels.has(2 * done + 1)  # before the process was stopped
        return begun or self._labels.affordable > 0

    def refine(self, number: int, version: int, steps: int, visits: Visits) -> RefinementRecord:
        """Look, audit, ask, fine-tune, decide; or read what was decided before the process was stopped.

        Args:
            number: of this refinement, from 1.
            version: of the student that rewards the agent now.
            steps: agent decisions so far.
            visits: some of the states that the agent has visited since the refinement before, CANDIDATES at most.
        """
        decided = read_record(self._out, number)
        if decided is not None:
            return decided
        started = time.perf_counter()
        generator = np.random.default_rng([self._seed, number])
        view = self._look(number, version, visits, generator)
        looked = time.perf_counter()
        told = self._question(number, visits, view, generator)
        asked = time.perf_counter()
        exam, answers, before = told.exam, told.answers, told.before
        after, reason = (None, told.needless) if told.needless else self._try(number, view, told, generator)
        fitted = time.perf_counter()

        folder = refinement_folder(self._out, number)
        asked_about = view.student.see(Labelled.together(exam.audit, answers).frames).features
        clouds_of(view.known_features, view.seen.features, asked_about).write(folder)
        record = RefinementRecord(
            number=number,
            steps=steps,
            accepted=not reason,
            reason=reason or "accepted",
            drift=view.drift,
            teacher_drift=_teacher_drift(exam, view.known),
            audited=len(exam.audit),
            asked=len(answers),
            audited_error_before=before.audited,
            audited_error_after=None if after is None else _finite(after.audited),
            overrated=(before if reason or after is None else after).overrated,
            held_out_error_before=before.held_out,
            held_out_error_after=None if after is None else _finite(after.held_out),
            look_seconds=round(looked - started, 3),
            ask_seconds=round(asked - looked, 3),
            fit_seconds=round(fitted - asked, 3),
            episodes=_episodes(visits, view, told),
        )
        write_json(folder / RECORD, asdict(record))
        return record

    def _look(self, number: int, version: int, visits: Visits, generator: np.random.Generator) -> "_View":
        """The frames visited, labelled and held out as the student sees them."""
        student, earlier = self.students.load(version), self._earlier_answers(number)
        replayed = self._fitted_to.drawn("train", REPLAYED, generator)
        held_out = self._fitted_to.spread("validation", HELD_OUT)
        known = Labelled.together(replayed, earlier)
        seen, known_features = student.see(visits.frames), student.see(known.frames).features
        moved = drifts(seen.features, student.see(held_out.frames).features, known_features)
        return _View(student, replayed, earlier, known, held_out, seen, known_features, moved)

    def _question(self, number: int, visits: Visits, view: "_View", generator: np.random.Generator) -> "_Told":
        """Ask about some frames to measure and, where that shows a need, about others to learn."""
        settings, order = self.settings, generator.permutation(len(visits.states))
        # at most half of what is left measures, the rest teaches
        audited = order[: min(settings.audited, self._labels.affordable // 2)]
        fresh = audited[:0] if self._labels.has(2 * number - 2) else audited
        exam = Exam(view.held_out, self._ask(2 * number - 2, visits, audited, f"refinement {number}, audit"))
        before, nothing = exam.marks(view.student), exam.audit.at(order[:0])
        if needless := self._needless(view.drift, before.audited):
            return _Told(exam, fresh, before, nothing, needless)
        chosen = self._choose(view, np.sort(order[len(audited) :]), generator)
        answers = self._ask(2 * number - 1, visits, chosen, f"refinement {number}, {settings.strategy}")
        nothing_new = not len(answers) and not len(view.earlier)
        needless = "nothing to learn from: the query budget is spent" if nothing_new else ""
        return _Told(exam, fresh, before, answers, needless)

    def _try(self, number: int, view: "_View", told: "_Told", generator: np.random.Generator) -> tuple[Marks, str]:
        """Fine-tune; returns the marks and why they are worse, or has the new student on disk."""
        tuned = view.student.fine_tuned(
            Labelled.together(view.earlier, told.answers),
            view.replayed,
            steps=self.settings.gradient_steps,
            learning_rate=self.settings.learning_rate,
            generator=generator,
        )
        after = told.exam.marks(tuned)
        worse = why_worse(told.before, after, self.settings.tolerance)
        if not worse:
            self.students.save(number, tuned)
        return after, worse

    def _needless(self, moved: float, error: float | None) -> str:
        """Why the student need not be refined now; empty where it is to be, as always without thresholds."""
        settings, passed = self.settings, []
        if settings.least_drift is not None:
            passed.append(moved >= settings.least_drift)
        if settings.least_error is not None and error is not None:
            passed.append(error >= settings.least_error)
        return "" if not passed or any(passed) else "not needed: below the thresholds of drift and audited error"

    def _ask(self, question: int, visits: Visits, places: Places, policy: str) -> Labelled:
        """The answers to a question; where it was answered before the process was stopped, those."""
        if self._labels.has(question):
            return self._labels.answers([question])
        return self._labels.ask(question, visits.at(places), self._draw, policy, self._seed)

    def _earlier_answers(self, number: int) -> Labelled:
        """Those of all refinements before this one."""
        return self._labels.answers(list(range(2 * number - 2)))

    def _choose(self, view: "_View", places: Places, generator: np.random.Generator) -> Places:
        """Those of the places that the strategy wants answers for, as many as can be afforded."""
        seen, count = view.seen, min(self.settings.queries, self._labels.affordable)
        candidates = Candidates(seen.reward[places], seen.spread[places], seen.features[places])
        return places[choose_queries(self.settings.strategy, candidates, view.known_features, count, generator)]


def _finite(error: float | None) -> float | None:
    """The error; None where fine-tuning diverged, which JSON cannot say."""
    return error if error is not None and np.isfinite(error) else None


def _teacher_drift(exam: Exam, known: Labelled) -> float | None:
    if not len(exam.audit):
        return None
    return float(
        np.median(drifts(*(part.embeddings.astype(np.float32) for part in (exam.audit, exam.held_out, known))))
    )


def _episodes(visits: Visits, view: _View, told: _Told) -> tuple[EpisodeRecord, ...]:
    """What was seen of each episode, in the order of the visits."""
    errors = np.square(view.student.errors(told.exam.audit)) if len(told.audited) else np.zeros(0)
    found = []
    for episode in dict.fromkeys(visits.episodes.tolist()):
        own, of_audited = visits.episodes == episode, visits.episodes[told.audited] == episode
        error = round(float(errors[of_audited].mean()), 5) if of_audited.any() else None
        drift = round(float(np.median(view.drifts[own])), 3)
        found.append(EpisodeRecord(int(own.sum()), drift, int(of_audited.sum()), error))
    return tuple(found)
