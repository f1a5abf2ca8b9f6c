"""The closed form against the projection of the paper, written out in numpy."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from datamodules.errors import SettingsError
from lightning_modules.rewards import ROWS, EmbeddingReward, Standardisation, goal_baseline_reward


def unit(generator: np.random.Generator, rows: int, dim: int = 16) -> np.ndarray:
    vectors = generator.normal(size=(rows, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def projected(s: np.ndarray, goal: np.ndarray, baseline: np.ndarray, alpha: float) -> np.ndarray:
    """Rocamonde et al. 2024, Definition 1, as their code has it: r = 1 - 1/2 ||(s - g) P||^2."""
    g, b = goal.mean(axis=0), baseline.mean(axis=0)
    d = g - b
    p = alpha * np.outer(d, d) / (d @ d) + (1 - alpha) * np.eye(len(g))
    return 1 - 0.5 * (((s - g) @ p) ** 2).sum(axis=1)


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.25, 0.5, 0.75, 0.99, 1.0])
@pytest.mark.parametrize(("goals", "baselines"), [(1, 1), (3, 2), (60, 100)])
def test_closed_form_equals_the_projection(alpha: float, goals: int, baselines: int) -> None:
    generator = np.random.default_rng(0)
    s, goal, baseline = unit(generator, 20), unit(generator, goals), unit(generator, baselines)
    reward = goal_baseline_reward(s, goal, baseline, alpha)
    assert reward.dtype == np.float32
    np.testing.assert_allclose(reward, projected(s, goal, baseline, alpha), atol=1e-6)


@pytest.mark.parametrize("stored", [np.float16, np.float32])
def test_stored_embeddings_of_any_number_are_scored_as_they_are(stored: type, tmp_path: Path) -> None:
    """More frames than are widened at a time, read from a file as a data set's cache is."""
    generator = np.random.default_rng(6)
    np.save(tmp_path / "embeddings.npy", unit(generator, 2 * ROWS + 7, 32).astype(stored))
    embeddings = np.load(tmp_path / "embeddings.npy", mmap_mode="r")
    goal, baseline = unit(generator, 2, 32), unit(generator, 1, 32)
    expected = projected(
        *(values.astype(np.float64) for values in (embeddings, goal, baseline)),
        0.5,
    )
    # the formula takes s to have norm 1, which float16 keeps to 1e-3: (1 - |s|^2) / 2 is the difference
    slack = 0.5 * 0.25 * (1 - (embeddings.astype(np.float64) ** 2).sum(axis=1))
    np.testing.assert_allclose(
        goal_baseline_reward(embeddings, goal, baseline, 0.5), expected - slack, rtol=0, atol=1e-7
    )


def test_scoring_makes_no_copy_of_all_embeddings() -> None:
    generator = np.random.default_rng(7)
    embeddings = unit(generator, 20 * ROWS, 64).astype(np.float16)
    goal, baseline = unit(generator, 1, 64), unit(generator, 1, 64)
    tracemalloc.start()
    goal_baseline_reward(embeddings, goal, baseline, 0.5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < embeddings.nbytes  # four times as much would be a float64 copy


def test_alpha_zero_with_one_goal_is_the_cosine_similarity() -> None:
    generator = np.random.default_rng(1)
    s, goal = unit(generator, 8), unit(generator, 1)
    np.testing.assert_allclose(
        goal_baseline_reward(s, goal, np.empty((0, 16), np.float32), 0.0), s @ goal[0], atol=1e-6
    )


def test_no_frames_give_no_rewards() -> None:
    generator = np.random.default_rng(2)
    reward = goal_baseline_reward(np.empty((0, 16), np.float32), unit(generator, 1), unit(generator, 1), 0.5)
    assert reward.shape == (0,)


@pytest.mark.parametrize(
    ("goals", "baselines", "alpha", "message"),
    [(1, 1, 1.5, "between 0 and 1"), (0, 1, 0.0, "at least one goal"), (1, 0, 0.5, "no baseline")],
)
def test_settings_that_give_no_reward_are_refused(goals: int, baselines: int, alpha: float, message: str) -> None:
    generator = np.random.default_rng(3)
    with pytest.raises(SettingsError, match=message):
        goal_baseline_reward(unit(generator, 2), unit(generator, goals), unit(generator, baselines), alpha)


def test_a_baseline_that_is_the_goal_is_refused() -> None:
    sentence = unit(np.random.default_rng(4), 1)
    with pytest.raises(SettingsError, match="same embedding"):
        goal_baseline_reward(sentence, sentence, sentence, 0.5)


def test_standardised_rewards_have_zero_mean_and_unit_deviation() -> None:
    raw = np.random.default_rng(5).normal(0.3, 0.01, size=1000).astype(np.float32)
    scaled = Standardisation.fit(raw).apply(raw)
    assert scaled.dtype == np.float32
    assert scaled.mean() == pytest.approx(0, abs=1e-4)
    assert scaled.std() == pytest.approx(1, abs=1e-4)


def test_the_scale_is_that_of_the_fit_and_not_of_what_it_is_applied_to() -> None:
    scale = Standardisation.fit(np.array([0.0, 2.0], np.float32))
    np.testing.assert_allclose(scale.apply(np.array([5.0], np.float32)), [4.0])


def test_constant_rewards_are_only_shifted() -> None:
    np.testing.assert_allclose(
        Standardisation.fit(np.full(4, 0.7, np.float32)).apply(np.array([0.9], np.float32)), [0.2], atol=1e-6
    )


def test_an_empty_training_split_is_refused() -> None:
    with pytest.raises(SettingsError, match="training split is empty"):
        Standardisation.fit(np.empty(0, np.float32))


def combined(generator: np.random.Generator, alpha: float = 0.5) -> tuple[np.ndarray, EmbeddingReward]:
    """200 embeddings of two CLIPs (16 and 6 numbers) and a reward of both."""
    embeddings, goal, baseline = (
        np.concatenate([unit(generator, rows, 16), unit(generator, rows, 6)], axis=1) for rows in (200, 3, 2)
    )
    return embeddings, EmbeddingReward(goal, baseline, alpha, (16, 6))


def test_the_reward_of_one_clip_is_the_formulas() -> None:
    generator = np.random.default_rng(8)
    s, goal, baseline = unit(generator, 50), unit(generator, 3), unit(generator, 2)
    reward = EmbeddingReward(goal, baseline, 0.5, (16,))
    raw = goal_baseline_reward(s, goal, baseline, 0.5)
    np.testing.assert_array_equal(reward.raw(s), raw)
    frozen = reward.frozen_to(s[:40])
    assert frozen.standardisation == Standardisation.fit(raw[:40])
    np.testing.assert_array_equal(frozen.standardised(s), Standardisation.fit(raw[:40]).apply(raw))


def test_the_reward_of_several_clips_is_the_mean_of_what_each_says_on_its_own_scale() -> None:
    embeddings, reward = combined(np.random.default_rng(9))
    frozen = reward.frozen_to(embeddings[:150])
    mean = np.zeros(200)
    for part in (slice(0, 16), slice(16, 22)):
        raw = projected(embeddings[:, part], reward.goal[:, part], reward.baseline[:, part], 0.5)
        mean += (raw - raw[:150].mean()) / raw[:150].std()
    np.testing.assert_allclose(frozen.raw(embeddings), mean / mean[:150].std(), atol=1e-4)
    np.testing.assert_array_equal(frozen.standardised(embeddings), frozen.raw(embeddings))
    assert frozen.raw(embeddings[:150]).mean() == pytest.approx(0, abs=1e-5)
    assert frozen.raw(embeddings[:150]).std() == pytest.approx(1, abs=1e-5)


def test_neither_clip_drowns_the_other_at_any_alpha() -> None:
    """The raw range moves with the CLIP and with alpha; each still has the same say."""
    for alpha in (0.0, 0.5, 1.0):
        embeddings, reward = combined(np.random.default_rng(10), alpha)
        rewards = reward.frozen_to(embeddings).raw(embeddings)
        says = [
            goal_baseline_reward(embeddings[:, part], reward.goal[:, part], reward.baseline[:, part], alpha)
            for part in (slice(0, 16), slice(16, 22))
        ]
        first, second = (np.corrcoef(rewards, each)[0, 1] for each in says)
        assert first == pytest.approx(second, abs=1e-4)
