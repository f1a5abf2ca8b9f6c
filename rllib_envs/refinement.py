"""An agent has wandered: ask the teacher about a few of the states it visits, and repair its student.

A process that is killed anywhere goes on with what is on disk: no question is asked twice once it is answered, and a
refinement that has its record is taken over as it was decided. Neither Ray nor the replay buffer is known here.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datamodules.labelled_set import LabelledSet
from datamodules.results import write_json
from datamodules.splits import Split, episodes_of
from lightning_modules.drift import clouds_of, drift
from lightning_modules.fidelity import measure_fidelity
from lightning_modules.fine_tuning import Labelled, Seen, TunableStudent
from lightning_modules.gate import Exam, why_worse
from lightning_modules.query_choice import Candidates, choose_queries
from lightning_modules.reward_function import Teacher, reward_of_student
from lightning_modules.rewards import EmbeddingReward
from lightning_modules.student_embeddings import StudentEmbeddings
from lightning_modules.student_files import StudentCard, load_student, save_student
from rllib_envs.agent_files import AgentCard
from rllib_envs.refined_labels import RefinedLabels
from rllib_envs.refinement_records import (
    LABELS,
    RECORD,
    REFINEMENTS,
    RefinementRecord,
    read_record,
    refinement_folder,
    student_version,
)
from rllib_envs.visits import Draw, Visits

CANDIDATES = 1024
"""visited frames, drawn at random, that a refinement measures drift on and chooses among"""
REPLAYED = 2048
"""labelled frames, drawn at random by each refinement, that stand for all: in feature space and in fine-tuning"""
HELD_OUT = 1024
"""held-out frames, evenly spread, on which the gate compares students"""

Places = NDArray[np.int64]


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
        assert card.student is not None, "check_refinement comes first"
        assert card.labels is not None, "check_refinement comes first"
        self.settings, self._student = card.refinement, card.student
        self._card, self._out, self._draw = card, out, draw
        self._offline = LabelledSet(str(card.labels))
        self._labels = RefinedLabels(
            out / REFINEMENTS / LABELS,
            self._offline.manifest,
            {"refinement": asdict(self.settings), "seed": card.seed},
            self.settings.query_budget,
            teacher,
        )

    @property
    def queries(self) -> int:
        """Teacher queries so far, audits included."""
        return self._labels.queries

    def student(self, version: int) -> Path:
        """The folder of a version of the student; 0 is the one that the training began with."""
        return student_version(self._out, version) if version else self._student

    def due(self, steps: int, done: int) -> bool:
        """Whether it is time for another refinement after `done`: not before its step, nor with nothing left to ask."""
        if steps < (done + 1) * self.settings.every_steps:
            return False
        return self._labels.affordable > 0 or read_record(self._out, done + 1) is not None

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
        generator = np.random.default_rng([self._card.seed, number])
        student, earlier = self._load(version), self._earlier_answers(number)
        replayed, held_out = self._replayed(generator), self._held_out()
        known = Labelled.together(replayed, earlier)
        seen, labelled = student.see(visits.frames), student.see(known.frames).features
        moved = drift(seen.features, student.see(held_out.frames).features, labelled)
        looked = time.perf_counter()

        order = generator.permutation(len(visits.states))
        # at most half of what is left measures, the rest teaches
        audited = order[: min(self.settings.audited, self._labels.affordable // 2)]
        audit = self._ask(2 * number - 2, visits, audited, f"refinement {number}, audit")
        exam = Exam(held_out, audit)
        before = exam.marks(student)
        answers, reason = audit.at(order[:0]), self._needless(moved, before.audited)
        if not reason:
            chosen = self._choose(seen, np.sort(order[len(audited) :]), labelled, generator)
            answers = self._ask(2 * number - 1, visits, chosen, f"refinement {number}, {self.settings.strategy}")
        asked = time.perf_counter()

        after, new = None, Labelled.together(earlier, answers)
        if not reason and not len(new):
            reason = "nothing to learn from: the query budget is spent"
        if not reason:
            tuned = self._fine_tuned(student, new, replayed, generator)
            after = exam.marks(tuned)
            reason = why_worse(before, after, self.settings.tolerance)
            if not reason:
                self._save(number, tuned)
        fitted = time.perf_counter()

        folder = refinement_folder(self._out, number)
        asked_about = student.see(Labelled.together(audit, answers).frames).features
        clouds_of(labelled, seen.features, asked_about).write(folder)
        record = RefinementRecord(
            number=number,
            steps=steps,
            accepted=not reason,
            reason=reason or "accepted",
            drift=moved,
            teacher_drift=_teacher_drift(audit, held_out, known),
            audited=len(audit),
            asked=len(answers),
            audited_error_before=before.audited,
            audited_error_after=None if after is None else after.audited,
            overrated=(before if reason or after is None else after).overrated,
            held_out_error_before=before.held_out,
            held_out_error_after=None if after is None else after.held_out,
            look_seconds=round(looked - started, 3),
            ask_seconds=round(asked - looked, 3),
            fit_seconds=round(fitted - asked, 3),
        )
        write_json(folder / RECORD, asdict(record))
        return record

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
        asked = Visits(visits.states[places], visits.frames[places], visits.true_rewards[places])
        return self._labels.ask(question, asked, self._draw, policy, self._card.seed)

    def _earlier_answers(self, number: int) -> Labelled:
        """Those of all refinements before this one."""
        return self._labels.answers(list(range(2 * number - 2)))

    def _choose(
        self, seen: Seen, places: Places, labelled: NDArray[np.float32], generator: np.random.Generator
    ) -> Places:
        """Those of the places that the strategy wants answers for, as many as can be afforded."""
        candidates = Candidates(seen.reward[places], seen.spread[places], seen.features[places])
        count = min(self.settings.queries, self._labels.affordable)
        return places[choose_queries(self.settings.strategy, candidates, labelled, count, generator)]

    def _fine_tuned(
        self, student: TunableStudent, new: Labelled, replayed: Labelled, generator: np.random.Generator
    ) -> TunableStudent:
        steps, learning_rate = self.settings.gradient_steps, self.settings.learning_rate
        return student.fine_tuned(new, replayed, steps=steps, learning_rate=learning_rate, generator=generator)

    def _load(self, version: int) -> TunableStudent:
        folder = self.student(version)
        network, card = load_student(folder)
        return TunableStudent(network, card, teacher_reward(self._card, folder, card, self._offline))

    def _save(self, number: int, student: TunableStudent) -> None:
        """With the fidelity measured anew, on episodes that decided nothing."""
        card, test = student.card, self._rows("test")
        labelled = self._labelled(test)
        fidelity = measure_fidelity(
            student.see(labelled.frames).reward,
            student.teacher_reward(labelled.embeddings),
            self._offline.decoded.episode[test],
        )
        targets = tuple(
            replace(target, fidelity=fidelity) if target.task == self._card.task.name else target
            for target in card.targets
        )
        card = replace(card, targets=targets, fidelity=fidelity if len(targets) == 1 else card.fidelity)
        embeddings = None
        if card.head == "embedding":
            embeddings = StudentEmbeddings.read(self._student, card.tasks, card.teacher.dim)
        save_student(self.student(number), student.network, card, embeddings)

    def _replayed(self, generator: np.random.Generator) -> Labelled:
        rows = self._rows("train")
        return self._labelled(np.sort(generator.choice(rows, min(REPLAYED, len(rows)), replace=False)))

    def _held_out(self) -> Labelled:
        rows = self._rows("validation")
        return self._labelled(rows[np.linspace(0, len(rows) - 1, min(HELD_OUT, len(rows))).astype(np.int64)])

    def _rows(self, split: Split) -> Places:
        episode = self._offline.decoded.episode
        return np.flatnonzero(np.isin(episode, sorted(episodes_of(episode, split))))

    def _labelled(self, rows: Places) -> Labelled:
        decoded = self._offline.decoded
        return Labelled(decoded.frames, decoded.embeddings).at(rows)


def teacher_reward(card: AgentCard, folder: Path, student: StudentCard, labels: LabelledSet) -> EmbeddingReward:
    """What the task's prompts make of the teacher's embeddings, on the scale of a student in `folder`.

    Raises DataError where the labels do not know a sentence.
    """
    prompts = card.task.prompts
    scales = reward_of_student(folder, student, student.target_of(card.task.name), prompts).scales
    goal, baseline = (labels.prompt_embeddings(sentences) for sentences in (prompts.goal, prompts.baseline))
    return EmbeddingReward(goal, baseline, prompts.alpha, student.teacher.dims, scales)


def _teacher_drift(audit: Labelled, held_out: Labelled, known: Labelled) -> float | None:
    if not len(audit):
        return None
    return drift(*(part.embeddings.astype(np.float32) for part in (audit, held_out, known)))
