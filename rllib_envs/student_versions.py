"""The students that reward one agent in turn: the one it began with, and what refinements have made of it."""

from dataclasses import replace
from pathlib import Path

from datamodules.labelled_set import LabelledSet
from lightning_modules.fidelity import measure_fidelity
from lightning_modules.fine_tuning import TunableStudent
from lightning_modules.fitted_labels import FittedLabels
from lightning_modules.reward_function import reward_of_student
from lightning_modules.rewards import EmbeddingReward
from lightning_modules.student_embeddings import StudentEmbeddings
from lightning_modules.student_files import StudentCard, load_student, save_student
from rllib_envs.agent_files import AgentCard
from rllib_envs.refinement_records import student_version


class StudentVersions:
    """Students by version: 0 is the one that the training began with, others have the number of their refinement."""

    def __init__(self, card: AgentCard, out: Path, labels: FittedLabels) -> None:
        """Name an agent.

        Args:
            card: the agent's, in which check_refinement found nothing wrong.
            out: its folder.
            labels: what the first student was fitted to.
        """
        assert card.student is not None, "check_refinement comes first"
        self._card, self._first, self._out, self._labels = card, card.student, out, labels

    def folder(self, version: int) -> Path:
        """Where a version lies, or will."""
        return student_version(self._out, version) if version else self._first

    def load(self, version: int) -> TunableStudent:
        """A version, to be fine-tuned."""
        network, card = load_student(self.folder(version))
        return TunableStudent(network, card, teacher_reward(self._card, self.folder(version), card, self._labels))

    def save(self, version: int, student: TunableStudent) -> None:
        """Keep a student, its fidelity measured anew on episodes that decided nothing; its scale stays as it was."""
        rows = self._labels.rows("test")
        test = self._labels.at(rows)
        rewards = student.see(test.frames).reward, student.teacher_reward(test.embeddings)
        fidelity = measure_fidelity(*rewards, self._labels.episodes(rows))
        card, name = student.card, self._card.task.name
        targets = tuple(
            replace(target, fidelity=fidelity) if target.task == name else target for target in card.targets
        )
        card = replace(card, targets=targets, fidelity=fidelity if len(targets) == 1 else card.fidelity)
        embeddings = None
        if card.head == "embedding":
            embeddings = StudentEmbeddings.read(self._first, card.tasks, card.teacher.dim)
        save_student(self.folder(version), student.network, card, embeddings)


def teacher_reward(
    card: AgentCard, folder: Path, student: StudentCard, labels: LabelledSet | FittedLabels
) -> EmbeddingReward:
    """What the task's prompts make of the teacher's embeddings, on the scale of a student in `folder`.

    Raises DataError where the labels do not know a sentence.
    """
    prompts = card.task.prompts
    scales = reward_of_student(folder, student, student.target_of(card.task.name), prompts).scales
    goal, baseline = (labels.prompt_embeddings(sentences) for sentences in (prompts.goal, prompts.baseline))
    return EmbeddingReward(goal, baseline, prompts.alpha, student.teacher.dims, scales)
