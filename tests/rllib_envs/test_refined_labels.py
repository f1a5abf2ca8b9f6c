"""Questions to a real small CLIP: within the budget, kept before they are used, never asked twice."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from datamodules.frames_datamodule import FramesDataModule
from datamodules.labelled_set import LabelledSet
from datamodules.shards import read_samples, verify
from lightning_modules.teacher import ClipTeacher
from rllib_envs.agent_files import AgentCard
from rllib_envs.refined_labels import RefinedLabels
from rllib_envs.simulators import make_simulator
from rllib_envs.visits import StateDrawer, Visits
from tests.rllib_envs.refinable import TASK, refinable


class KilledError(Exception):
    """Stands for the moment in which the process is killed."""


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> AgentCard:
    return refinable(tmp_path_factory.mktemp("refinable"))


@pytest.fixture
def ask(card: AgentCard, tmp_path: Path) -> Callable[..., RefinedLabels]:
    def make(budget: int = 20, teacher: Callable[[], ClipTeacher] | None = None) -> RefinedLabels:
        assert card.teacher is not None
        settings = card.teacher
        like = LabelledSet(str(card.labels)).manifest
        return RefinedLabels(tmp_path / "labels", like, {"seed": 5}, budget, teacher or (lambda: ClipTeacher(settings)))

    return make


def visits(count: int, seed: int = 0) -> Visits:
    simulator = make_simulator(TASK)
    simulator.reset(seed)
    states, frames = [], []
    for step in range(count):
        simulator.step(np.array([np.sin(step)]))
        states.append(simulator.state())
        frames.append(simulator.render(TASK.render.frame_pixels))
    return Visits(np.stack(states), np.stack(frames), np.arange(count, dtype=np.float32), np.zeros(count, np.int64))


DRAW = StateDrawer(TASK)


def test_answers_are_the_teachers_of_the_states_drawn_at_its_size(
    ask: Callable[..., RefinedLabels], card: AgentCard
) -> None:
    labels, seen = ask(), visits(5)
    answers = labels.ask(0, seen, DRAW, "refinement 1, random", 7)
    np.testing.assert_array_equal(answers.frames, seen.frames)
    assert card.teacher is not None
    expected = ClipTeacher(card.teacher).embed_frames(DRAW(seen.states, TASK.render.teacher_pixels))
    np.testing.assert_allclose(answers.embeddings, expected, atol=1e-3)
    assert labels.queries == 5
    assert labels.affordable == 15


def test_the_budget_is_never_exceeded(ask: Callable[..., RefinedLabels]) -> None:
    labels = ask(budget=8)
    labels.ask(0, visits(6), DRAW, "audit", 0)
    with pytest.raises(ValueError, match="3 frames are too many: 2 can be afforded"):
        labels.ask(1, visits(3), DRAW, "random", 0)
    assert labels.queries == 6
    assert len(labels.ask(1, visits(2), DRAW, "random", 0)) == 2
    assert labels.affordable == 0
    assert ask(budget=8).affordable == 0  # and after a stop


def test_a_kill_between_asking_and_keeping_costs_its_queries_and_nothing_else(
    ask: Callable[..., RefinedLabels], card: AgentCard
) -> None:
    class Killed(ClipTeacher):
        def embed_frames(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
            raise KilledError

    assert card.teacher is not None
    settings = card.teacher
    labels = ask(teacher=lambda: Killed(settings))
    with pytest.raises(KilledError):
        labels.ask(0, visits(6), DRAW, "audit", 0)
    again = ask()
    assert not again.has(0)
    assert again.queries == 6  # the teacher may have scored them
    again.ask(0, visits(6), DRAW, "audit", 0)
    assert again.queries == 12


def test_an_answer_without_its_entry_in_the_manifest_is_taken_up(
    ask: Callable[..., RefinedLabels], tmp_path: Path
) -> None:
    ask().ask(0, visits(3), DRAW, "audit", 0)
    (tmp_path / "labels/manifest.json").unlink()  # killed between the shard and the manifest
    again = ask()
    assert again.has(0)
    assert len(again.answers([0])) == 3
    again.ask(1, visits(2, seed=1), DRAW, "random", 0)
    labels = LabelledSet(str(tmp_path / "labels"))
    verify(labels.place, labels.manifest)
    assert [sample.key for sample in read_samples(labels.place)] == [f"{n:06d}-000000" for n in range(5)]


def test_ten_answers_are_a_data_set_that_a_fit_takes_beside_the_first(
    ask: Callable[..., RefinedLabels], card: AgentCard, tmp_path: Path
) -> None:
    labels, seen = ask(), visits(10)
    labels.ask(0, seen, DRAW, "refinement 1, random", 7)
    samples = list(read_samples(tmp_path / "labels"))
    assert [sample.true_reward for sample in samples] == [*range(10)]
    assert {(sample.policy, sample.seed, sample.task) for sample in samples} == {("refinement 1, random", 7, "pole")}
    np.testing.assert_array_equal(np.stack([sample.state for sample in samples]), seen.states)
    data = FramesDataModule([str(card.labels), str(tmp_path / "labels")], batch_size=8)
    data.prepare_data()
    data.setup("fit")
    assert len(data.rows("train", 1)) == 8
    assert len(data.rows("validation", 1)) == len(data.rows("test", 1)) == 1
    assert data.manifests[1].teacher_queries == 10
