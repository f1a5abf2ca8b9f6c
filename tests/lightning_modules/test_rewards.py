"""The closed form against the projection of the paper, written out in numpy."""

import numpy as np
import pytest

from datamodules.errors import SettingsError
from lightning_modules.rewards import Standardisation, goal_baseline_reward


def unit(generator: np.random.Generator, rows: int, dim: int = 16) -> np.ndarray:
    vectors = generator.normal(size=(rows, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def projected(s: np.ndarray, goal: np.ndarray, baseline: np.ndarray, alpha: float) -> np.ndarray:
    """Rocamonde et al. 2024, Definition 1, as their code has it: r = 1 - 1/2 ||(s - g) P||^2."""
    g, b = goal.mean(axis=0), baseline.mean(axis=0)
    d = g - b
    p = alpha * np.outer(d, d) / (d @ d) + (1 - alpha) * np.eye(len(g))
    return 1 - 0.5 * (((s - g) @ p) ** 2).sum(axis=1)


@pytest.mark.parametrize("alpha", [0.0, 0.25, 0.5, 1.0])
@pytest.mark.parametrize(("goals", "baselines"), [(1, 1), (3, 2)])
def test_closed_form_equals_the_projection(alpha: float, goals: int, baselines: int) -> None:
    generator = np.random.default_rng(0)
    s, goal, baseline = unit(generator, 20), unit(generator, goals), unit(generator, baselines)
    reward = goal_baseline_reward(s, goal, baseline, alpha)
    assert reward.dtype == np.float32
    np.testing.assert_allclose(reward, projected(s, goal, baseline, alpha), atol=1e-6)


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
