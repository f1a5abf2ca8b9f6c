"""PPO's networks: what they give, and that the mode is what a greedy policy does."""

import numpy as np
import pytest
import torch
from gymnasium import spaces

from rllib_envs.ppo_networks import PpoActor, value_network

BOX = spaces.Box(-1.0, 1.0, (3,), np.float32)
DISCRETE = spaces.Discrete(4)


def test_a_greedy_policy_takes_the_mean_within_its_bounds() -> None:
    actor = PpoActor(5, BOX, (8,))
    observations = torch.randn(6, 5)
    means, log_deviations = actor(observations).chunk(2, dim=-1)
    assert not log_deviations.any()  # the standard deviation starts at 1
    torch.testing.assert_close(actor.act(observations, explore=False), means)
    with torch.no_grad():
        actor.network[-1].bias[:] = torch.tensor([7.0, 0.0, -7.0])
    actions = actor.act(observations, explore=False)
    assert (actions[:, 0] == 1.0).all()
    assert (actions[:, 2] == -1.0).all()


def test_a_greedy_policy_takes_the_most_likely_of_discrete_actions() -> None:
    actor = PpoActor(5, DISCRETE, (8,))
    observations = torch.randn(6, 5)
    with torch.no_grad():
        actor.network[-1].bias[2] = 9.0
    assert actor.act(observations, explore=False).tolist() == [2] * 6


@pytest.mark.parametrize("space", [BOX, DISCRETE], ids=["continuous", "discrete"])
def test_all_actions_are_about_as_likely_at_the_start_and_exploring_varies_them(space: spaces.Box) -> None:
    torch.manual_seed(0)
    actor = PpoActor(5, space, (8, 8))
    observations = torch.randn(500, 5)
    assert actor.network(observations).abs().max() < 0.2
    actions = actor.act(observations, explore=True)
    assert len(torch.unique(actions)) > 3
    assert actions.abs().max() <= 3
    assert value_network(5, (8, 8))(observations).shape == (500, 1)


def test_hidden_layers_start_orthogonal() -> None:
    actor = PpoActor(8, BOX, (8, 8))
    first = actor.network[0].weight.detach()
    torch.testing.assert_close(first @ first.T, 2.0 * torch.eye(8), atol=1e-4, rtol=1e-4)
