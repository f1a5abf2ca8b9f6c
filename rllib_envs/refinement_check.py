"""Mistakes in the choice of a refinement, found before any work starts."""

from datamodules.errors import DataError, SettingsError
from datamodules.labelled_set import LabelledSet
from lightning_modules.query_choice import NEEDS_MEMBERS
from lightning_modules.student_files import read_card
from rllib_envs.agent_files import AgentCard
from rllib_envs.agent_reward import load_teacher
from rllib_envs.refinement_settings import RefinementSettings
from rllib_envs.settings import SacSettings
from rllib_envs.student_versions import teacher_reward


def check_refinement(card: AgentCard) -> None:
    """Check that the agent's student, labels and teacher belong together and can be refined; loads the teacher once.

    Raises:
        SettingsError: something is missing, or the strategy needs an ensemble.
        DataError: the labels are of another task, render settings or teacher, or the student learned from another one.
    """
    if card.refinement is None:
        return
    if card.reward != "student":
        raise SettingsError(f"a refinement is given and the reward is {card.reward!r}: only a student can be refined")
    if not isinstance(card.learning, SacSettings) or card.observations != "state":
        raise SettingsError(
            "a refinement is given to an agent that learns by PPO or sees pixels: only the replay of SAC with "
            "observations 'state' is rewarded again; leave the refinement out, or choose that"
        )
    if card.labels is None or card.teacher is None or card.student is None:
        raise SettingsError(
            "a refinement is given without labels or teacher: add --labels with the labels that the student was fitted "
            "to, and --teacher with the file of the teacher that made them"
        )
    student = read_card(card.student)
    check_strategy(card.refinement, student.members)
    clips = len(card.teacher.clips)
    if card.refinement.query_budget < 2 * clips:
        raise SettingsError(
            f"refinement.query_budget is {card.refinement.query_budget}: it must be at least {2 * clips}, because each "
            f"frame costs {clips} and one is for measuring, one for learning"
        )
    labels = LabelledSet(str(card.labels))
    there, here = labels.manifest.task, card.task
    if (there.name, there.render, there.camera) != (here.name, here.render, here.camera):
        raise DataError(
            f"the labels in {card.labels} are of task {there.name!r} with other frames than task {here.name!r} has: "
            "give labels that were collected with the same camera and render settings"
        )
    if labels.teacher.digest != student.teacher.digest:
        raise DataError(
            f"the labels in {card.labels} were made by {labels.teacher.name} and the student in {card.student} learned "
            f"from {student.teacher.name}: give the labels that it was fitted to"
        )
    teacher_reward(card, card.student, student, labels)
    entry = load_teacher(card.teacher).entry
    if (entry.digest, entry.precision) != (labels.teacher.digest, labels.teacher.precision):
        raise DataError(
            f"the teacher given is {entry.name} (digest {entry.digest[:12]}, {entry.precision}) and the labels in "
            f"{card.labels} were made by {labels.teacher.name} (digest {labels.teacher.digest[:12]}, "
            f"{labels.teacher.precision}): give that one"
        )


def check_strategy(refinement: RefinementSettings, members: int) -> None:
    """Raise SettingsError where the strategy asks for a spread and the student is a single one."""
    if refinement.strategy in NEEDS_MEMBERS and members == 1:
        raise SettingsError(
            f"refinement.strategy is {refinement.strategy!r} and the student is a single one, which has no spread: fit "
            "an ensemble (model.members 2 or more), or choose another strategy"
        )
