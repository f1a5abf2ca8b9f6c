"""Refinements with everything real but the training: labels, teacher and student are small."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datamodules.errors import DataError, SettingsError
from datamodules.labelled_set import LabelledSet
from datamodules.shards import read_samples, verify
from lightning_modules.drift import read_clouds
from lightning_modules.gate import Exam, Marks
from lightning_modules.losses import HeadName
from lightning_modules.reward_function import StudentReward
from lightning_modules.student_files import load_student, read_card
from lightning_modules.teacher import ClipTeacher
from rllib_envs.agent_files import AgentCard
from rllib_envs.refinement import Refiner
from rllib_envs.refinement_check import check_refinement
from rllib_envs.refinement_records import latest_student, read_record, read_records, refinement_folder
from rllib_envs.refinement_settings import RefinementSettings
from rllib_envs.simulators import make_simulator
from rllib_envs.student_versions import teacher_reward
from rllib_envs.visits import StateDrawer, Visits
from tests.lightning_modules.clips import write_clip
from tests.rllib_envs.refinable import REFINEMENT, TASK, refinable

DRAW = StateDrawer(TASK)


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> AgentCard:
    return refinable(tmp_path_factory.mktemp("refinable"))


@pytest.fixture(scope="module")
def visits() -> Visits:
    """States all over the rail and around the hinge."""
    simulator = make_simulator(TASK)
    generator = np.random.default_rng(0)
    states, frames = [], []
    for _ in range(60):
        simulator.random_state(generator)
        states.append(simulator.state())
        frames.append(simulator.render(TASK.render.frame_pixels))
    simulator.close()
    return Visits(np.stack(states), np.stack(frames), np.zeros(60, np.float32), np.repeat([7, 3, 5], 20))


def refiner(card: AgentCard, out: Path, **changes: object) -> Refiner:
    assert card.refinement is not None
    assert card.teacher is not None
    changed = replace(card, refinement=replace(card.refinement, **changes))  # type: ignore[arg-type]
    settings = card.teacher
    return Refiner(changed, out, DRAW, lambda: ClipTeacher(settings))


class KilledError(Exception):
    """Stands for the moment in which the process is killed."""


def kill(*arguments: object, **named: object) -> None:
    raise KilledError


def asked_of(out: Path) -> list[str]:
    return [sample.key for sample in read_samples(out / "refinements/labels")]


def test_a_refinement_repairs_a_poor_student_and_writes_down_why(
    card: AgentCard, visits: Visits, tmp_path: Path
) -> None:
    record = refiner(card, tmp_path).refine(1, 0, 512, visits)
    assert record.accepted, record.reason
    assert (record.audited, record.asked, record.steps) == (4, 10, 512)
    assert record.audited_error_before is not None
    assert record.audited_error_after is not None
    assert record.held_out_error_after is not None
    assert record.held_out_error_after < record.held_out_error_before
    assert np.isfinite(record.drift)
    assert record == read_record(tmp_path, 1)
    assert len(asked_of(tmp_path)) == 14

    refined = latest_student(tmp_path)
    assert refined == refinement_folder(tmp_path, 1) / "student"
    network, new = load_student(refined)
    assert card.student is not None
    old = read_card(card.student)
    assert new.targets[0].scales == old.targets[0].scales  # a reward of version 1 is on the scale of version 0
    assert new.fidelity.mse != old.fidelity.mse
    assert network.training is False
    clouds = read_clouds(refinement_folder(tmp_path, 1))
    assert (len(clouds.visited), len(clouds.asked)) == (60, 14)


def test_what_was_seen_is_told_episode_by_episode(card: AgentCard, visits: Visits, tmp_path: Path) -> None:
    record = refiner(card, tmp_path).refine(1, 0, 512, visits)
    assert [episode.visited for episode in record.episodes] == [20, 20, 20]
    assert sum(episode.audited for episode in record.episodes) == record.audited == 4
    assert [episode.audited_error is None for episode in record.episodes] == [
        not episode.audited for episode in record.episodes
    ]
    # the mean over all audited frames is that of the episodes', each counted as often as it was audited
    whole = sum(each.audited * (each.audited_error or 0.0) for each in record.episodes) / 4
    assert record.audited_error_before == pytest.approx(whole, abs=1e-4)
    # of equally many frames each, the median of all lies between the medians of the parts
    drifts = [episode.drift for episode in record.episodes]
    assert min(drifts) - 1e-3 <= record.drift <= max(drifts) + 1e-3
    apart = refiner(card, tmp_path / "apart").refine(1, 0, 512, visits.at(np.arange(20)))
    assert apart.episodes[0].drift == record.episodes[0].drift


@pytest.mark.parametrize(("head", "strategy"), [("reward", "spread"), ("embedding", "mixed")])
def test_ensembles_and_embedding_heads_are_refined_again_and_again(
    visits: Visits, tmp_path: Path, head: HeadName, strategy: str
) -> None:
    pair = refinable(tmp_path, members=2, head=head)
    check_refinement(pair)
    refining = refiner(pair, tmp_path / "agent", strategy=strategy)
    first = refining.refine(1, 0, 512, visits)
    second = refining.refine(2, 1, 1024, visits)
    assert first.accepted
    assert second.accepted
    assert second.held_out_error_before == first.held_out_error_after  # it went on from the first one's student
    student = StudentReward.load(refining.students.folder(2), "torch", task=TASK.name, prompts=TASK.prompts)
    assert student.members(visits.frames).shape == (60, 2)


def test_a_refinement_that_forgets_too_much_is_rejected(card: AgentCard, visits: Visits, tmp_path: Path) -> None:
    record = refiner(card, tmp_path, learning_rate=1.0, tolerance=0.0).refine(1, 0, 512, visits)
    assert not record.accepted
    assert "grew" in record.reason
    assert latest_student(tmp_path) is None
    assert not (refinement_folder(tmp_path, 1) / "student").exists()
    assert len(asked_of(tmp_path)) == 14  # what it was told is kept


def test_a_student_that_diverges_is_rejected_and_the_training_goes_on(
    card: AgentCard, visits: Visits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks, seen = Exam.marks, list[Marks]()

    def diverging(self: Exam, student: Any) -> Marks:
        seen.append(marks(self, student) if not seen else Marks(float("nan"), float("inf"), float("nan")))
        return seen[-1]

    monkeypatch.setattr(Exam, "marks", diverging)
    record = refiner(card, tmp_path).refine(1, 0, 512, visits)
    assert not record.accepted
    assert record == read_record(tmp_path, 1)
    assert (record.held_out_error_after, record.audited_error_after) == (None, None)
    assert record.held_out_error_before == seen[0].held_out


def test_the_budget_holds_over_all_refinements_and_ends_them(card: AgentCard, visits: Visits, tmp_path: Path) -> None:
    refining = refiner(card, tmp_path)
    steps, done = 0, 0
    while refining.due(steps := steps + 500, done):
        record = refining.refine(done + 1, 0, steps, visits)
        done += 1
        assert refining.queries == sum(each.audited + each.asked for each in read_records(tmp_path)) <= 40
        assert record.asked > 0
    assert done == 3
    assert refining.queries == 40 == len(asked_of(tmp_path))
    # 14 and 14; of the 12 that are left an audit takes 4
    assert [(each.audited, each.asked) for each in read_records(tmp_path)] == [(4, 10), (4, 10), (4, 8)]


def test_a_refinement_that_has_spent_the_budget_is_still_due_after_a_stop(
    card: AgentCard, visits: Visits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("rllib_envs.refinement.why_worse", kill)
        with pytest.raises(KilledError):
            refiner(card, tmp_path, query_budget=14).refine(1, 0, 512, visits)
    again = refiner(card, tmp_path, query_budget=14)
    assert again.queries == 14
    assert again.due(520, 0)
    assert again.refine(1, 0, 520, visits).asked == 10
    assert not again.due(5000, 1)


def test_overrating_is_student_less_teacher_on_the_audited_frames(
    card: AgentCard, visits: Visits, tmp_path: Path
) -> None:
    record = refiner(card, tmp_path, learning_rate=1.0, tolerance=0.0, audited=6).refine(1, 0, 512, visits)
    assert not record.accepted  # so it is the old student's
    audit = [sample for sample in read_samples(tmp_path / "refinements/labels") if "audit" in sample.policy]
    frames = np.stack([sample.frame for sample in audit if sample.frame is not None])
    embeddings = np.stack([sample.embedding for sample in audit if sample.embedding is not None])
    assert card.student is not None
    student = read_card(card.student)
    labels = LabelledSet(str(card.labels))
    teacher = teacher_reward(card, card.student, student, labels).standardised(embeddings)
    expected = float((StudentReward.load(card.student, "torch")(frames) - teacher).mean())
    assert record.overrated == pytest.approx(expected, abs=1e-3)


def test_nothing_is_due_between_two_refinements(card: AgentCard, tmp_path: Path) -> None:
    refining = refiner(card, tmp_path)
    assert [refining.due(steps, done) for steps, done in ((499, 0), (500, 0), (999, 1), (1000, 1))] == [
        False,
        True,
        False,
        True,
    ]


def test_below_the_thresholds_the_teacher_is_only_asked_for_the_audit(
    card: AgentCard, visits: Visits, tmp_path: Path
) -> None:
    record = refiner(card, tmp_path / "calm", least_drift=1e6, least_error=1e6).refine(1, 0, 512, visits)
    assert not record.accepted
    assert "below the thresholds" in record.reason
    assert (record.audited, record.asked) == (4, 0)
    record = refiner(card, tmp_path / "moved", least_drift=1e-6, least_error=1e6).refine(1, 0, 512, visits)
    assert record.asked == 10


@pytest.mark.parametrize(
    "moment",
    [
        "refinement.choose_queries",
        "refinement.why_worse",
        "student_versions.save_student",
        "refinement.clouds_of",
        "refinement.write_json",
    ],
)
def test_a_refinement_killed_anywhere_loses_and_doubles_nothing(
    card: AgentCard, visits: Visits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(f"rllib_envs.{moment}", kill)
        with pytest.raises(KilledError):
            refiner(card, tmp_path).refine(1, 0, 512, visits)
    before = asked_of(tmp_path)
    assert read_record(tmp_path, 1) is None
    assert latest_student(tmp_path) is None
    later = visits.at(np.arange(60)[::-1])  # the agent has gone other ways
    again = refiner(card, tmp_path)
    record = again.refine(1, 0, 540, later)
    after = asked_of(tmp_path)
    assert record.accepted
    assert after[: len(before)] == before
    assert len(after) == len(set(after)) == again.queries == 14
    assert again.refine(1, 0, 560, visits) == record  # decided once
    assert [path.name for path in sorted((tmp_path / "refinements").iterdir())] == ["000001", "labels"]
    labels = LabelledSet(str(tmp_path / "refinements/labels"))
    verify(labels.place, labels.manifest)


def refused(card: AgentCard, **changes: object) -> None:
    check_refinement(replace(card, **changes))  # type: ignore[arg-type]


def test_what_does_not_fit_together_is_named_before_any_work(card: AgentCard, tmp_path: Path) -> None:
    check_refinement(card)
    with pytest.raises(SettingsError, match="the reward is 'teacher': only a student"):
        refused(card, reward="teacher")
    with pytest.raises(SettingsError, match="add --labels"):
        refused(card, labels=None)
    with pytest.raises(SettingsError, match="'spread' and the student is a single one"):
        refused(card, refinement=replace(REFINEMENT, strategy="spread"))
    with pytest.raises(SettingsError, match="query_budget is 1: it must be at least 2"):
        refused(card, refinement=RefinementSettings(query_budget=1))
    with pytest.raises(DataError, match="the same camera and render settings"):
        refused(card, task=replace(TASK, render=replace(TASK.render, teacher_pixels=64)))
    with pytest.raises(DataError, match="give that one"):
        refused(card, teacher=write_clip(tmp_path, "another-clip", seed=1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"every_steps": 0}, r"refinement\.every_steps is 0: it must lie between 1"),
        ({"audited": 1}, r"refinement\.audited is 1: it must lie between 2"),
        ({"learning_rate": 0.0}, r"refinement\.learning_rate is 0\.0: it must lie above 0"),
        ({"least_drift": -1.0}, r"refinement\.least_drift is -1\.0: it must lie above 0"),
    ],
)
def test_settings_out_of_range_are_named(changes: dict[str, float], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        RefinementSettings(**changes)  # type: ignore[arg-type]
