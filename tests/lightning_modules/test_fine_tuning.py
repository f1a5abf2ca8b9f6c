"""A real student learns new squares without forgetting old ones."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lightning_modules.fine_tuning import Labelled, TunableStudent
from lightning_modules.gate import Exam, Marks, why_worse
from lightning_modules.losses import HeadName
from lightning_modules.rewards import EmbeddingReward, Standardisation
from tests.lightning_modules.students import DIM, GOAL, SENTENCES, frame_of, made_student, reward_of

SCALE = Standardisation(mean=0.3, std=0.05)


def squares(episodes: range) -> Labelled:
    """Ten squares an episode with the embeddings that their brightness makes."""
    keys = [(episode, step) for episode in episodes for step in range(10)]
    rewards = np.array([reward_of(*key) for key in keys])
    embeddings = rewards[:, None] * np.eye(DIM)[0] + np.sqrt(1 - rewards[:, None] ** 2) * np.eye(DIM)[2]
    return Labelled(np.stack([frame_of(*key) for key in keys]), embeddings.astype(np.float16))


def student_of(head: HeadName = "reward", members: int = 1) -> TunableStudent:
    network, card = made_student(head=head, members=members)
    goal = SENTENCES[GOAL][None].astype(np.float32)
    reward = EmbeddingReward(goal, goal[:0], 0.0, (DIM,), (SCALE,))
    return TunableStudent(network, card, reward)


@pytest.mark.parametrize(("head", "members"), [("reward", 1), ("reward", 2), ("embedding", 1)])
def test_fine_tuning_lowers_the_error_and_leaves_the_student_itself_as_it_was(head: HeadName, members: int) -> None:
    student, new, old = student_of(head, members), squares(range(2)), squares(range(2, 8))
    before = {name: value.clone() for name, value in student.network.state_dict().items()}
    tuned = student.fine_tuned(new, old, steps=60, learning_rate=3e-3, generator=np.random.default_rng(0))
    unseen = squares(range(8, 12))
    for labelled in (new, old, unseen):
        assert tuned.squared_error(labelled) < 0.5 * student.squared_error(labelled)
    for name, value in student.network.state_dict().items():
        assert torch.equal(value, before[name])
    statistics = [name for name in before if "running" in name]
    assert statistics
    assert all(torch.equal(tuned.network.state_dict()[name], before[name]) for name in statistics)


def test_what_a_student_sees_is_what_its_network_says() -> None:
    student, frames = student_of("embedding", 2), squares(range(14)).frames  # more than one batch
    seen = student.see(frames)
    with torch.inference_mode():
        from datamodules.pixels import to_model_input

        outputs = student.network(to_model_input(frames)).numpy()
    # alpha 0: the reward is the cosine similarity with the goal, standardised
    expected = (outputs @ SENTENCES[GOAL] - SCALE.mean) / SCALE.std
    np.testing.assert_allclose(seen.members, expected, atol=1e-3)
    np.testing.assert_allclose(seen.spread, expected.std(axis=1), atol=1e-3)
    assert len(seen.features) == len(frames)
    assert student.see(frames[:0]).members.shape == (0, 2)


def test_the_same_generator_gives_the_same_student() -> None:
    student, new, old = student_of(), squares(range(2)), squares(range(2, 4))
    first, second = (
        student.fine_tuned(new, old, steps=3, learning_rate=1e-3, generator=np.random.default_rng(5)) for _ in range(2)
    )
    np.testing.assert_array_equal(first.see(new.frames).reward, second.see(new.frames).reward)


def test_the_gate_rejects_what_forgets_or_learns_nothing() -> None:
    before = Marks(0.1, 0.5)
    assert why_worse(before, Marks(0.11, 0.4), 0.02) == ""
    assert "held-out labels grew from 0.1 to 0.13" in why_worse(before, Marks(0.13, 0.4), 0.02)
    assert "audited frames grew from 0.5 to 0.6" in why_worse(before, Marks(0.05, 0.6), 0.02)
    assert why_worse(Marks(0.1, None), Marks(0.1, None), 0.0) == ""
    assert "held-out" in why_worse(before, Marks(float("nan"), 0.4), 10.0)


def test_a_wrecked_student_fails_the_exam_that_a_tuned_one_passes() -> None:
    student, new, old = student_of(), squares(range(2)), squares(range(2, 8))
    exam = Exam(squares(range(8, 10)), squares(range(10, 11)))
    good = student.fine_tuned(new, old, steps=60, learning_rate=3e-3, generator=np.random.default_rng(0))
    assert why_worse(exam.marks(student), exam.marks(good), 0.0) == ""
    upside_down = replace(old, embeddings=(old.embeddings * np.where(np.arange(DIM) == 0, -1, 1)).astype(np.float16))
    bad = good.fine_tuned(upside_down, upside_down, steps=30, learning_rate=3e-3, generator=np.random.default_rng(0))
    assert "held-out" in why_worse(exam.marks(good), exam.marks(bad), 0.02)
