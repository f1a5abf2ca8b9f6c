"""Diversity against numpy's singular values; the linear reading against targets that are, or are not, linear."""

import numpy as np
import pytest

from lightning_modules.embedding_space import best_linear_reading, diversity
from lightning_modules.fidelity import pearson


def test_components_are_those_of_a_singular_value_decomposition() -> None:
    generator = np.random.default_rng(0)
    embeddings = generator.normal(size=(200, 5)) * [5, 3, 1, 0.5, 0.1] + 7
    found = diversity(embeddings)
    centred = embeddings - embeddings.mean(axis=0)
    _, singular, axes = np.linalg.svd(centred, full_matrices=False)
    variances = singular**2
    np.testing.assert_allclose(np.abs(found.plane), np.abs(centred @ axes[:2].T), rtol=1e-6)
    assert found.shares == pytest.approx((variances[:2] / variances.sum()).tolist())
    assert found.effective_dimensions == pytest.approx(variances.sum() ** 2 / (variances**2).sum())


def test_states_on_a_line_have_one_dimension_and_on_a_circle_two() -> None:
    angle = np.linspace(0, 2 * np.pi, 100, endpoint=False)
    line = np.outer(np.linspace(-1, 1, 100), [0.6, 0.8])
    circle = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    assert diversity(line).effective_dimensions == pytest.approx(1.0)
    assert diversity(circle).effective_dimensions == pytest.approx(2.0)


def test_identical_frames_have_no_diversity() -> None:
    found = diversity(np.full((10, 4), 0.5, np.float16).astype(np.float32))
    assert found.shares == (0.0, 0.0)
    assert found.effective_dimensions == 0.0
    assert not found.plane.any()


def test_one_dimension_is_enough() -> None:
    found = diversity(np.array([[1.0], [2.0], [4.0]]))
    assert found.shares == (1.0, 0.0)
    assert not found.plane[:, 1].any()


def test_a_linear_truth_is_read_on_episodes_that_were_held_out() -> None:
    generator = np.random.default_rng(0)
    embeddings = generator.normal(size=(500, 8)).astype(np.float32)
    truth = embeddings @ np.arange(8) + 3.0
    reading = best_linear_reading(embeddings, truth, np.repeat(np.arange(20), 25))
    assert pearson(reading, truth) > 0.999


def test_noise_is_not_read_even_with_more_dimensions_than_frames() -> None:
    generator = np.random.default_rng(0)
    embeddings, truth = generator.normal(size=(200, 300)), generator.normal(size=200)
    reading = best_linear_reading(embeddings, truth, np.repeat(np.arange(20), 10))
    assert pearson(reading, truth) < 0.2  # fitted to its own frames it would be 1


def test_a_frame_never_helps_to_read_its_own_episode() -> None:
    """Every episode has an axis of its own: what is learned of one says nothing of the others."""
    episode = np.repeat(np.arange(10), 5)
    embeddings = np.eye(10)[episode]
    reading = best_linear_reading(embeddings, np.where(episode == 3, 100.0, 0.0), episode)
    assert reading[episode == 3].max() < 1.0


def test_a_single_episode_reads_as_nothing() -> None:
    assert not best_linear_reading(np.eye(4), np.arange(4.0), np.zeros(4)).any()
