"""The networks, held against torch's own layers and distributions."""

import math

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn
from torch.distributions import Independent, Normal, TanhTransform, TransformedDistribution

from rllib_envs.sac_networks import (
    LOG_STD_RANGE,
    Actor,
    TwinCritics,
    action_size,
    make_networks,
    target_entropy,
)

ARM = spaces.Box(-1.0, 1.0, (2,))
BUTTONS: spaces.Discrete[np.int64] = spaces.Discrete(3)


def separate(critics: TwinCritics, which: int) -> nn.Sequential:
    """One of the two critics as an ordinary network with the same weights."""
    layers: list[nn.Module] = []
    for weight, bias in zip(critics.weights, critics.biases, strict=True):
        linear = nn.Linear(weight.shape[1], weight.shape[2])
        with torch.no_grad():
            linear.weight.copy_(weight[which].T)
            linear.bias.copy_(bias[which, 0])
        layers += [linear, nn.LayerNorm(weight.shape[2], elementwise_affine=False), nn.ReLU()]
    return nn.Sequential(*layers[:-2])


def test_twin_critics_equal_two_separate_networks() -> None:
    torch.manual_seed(0)
    critics = TwinCritics(7, (16, 12), 3)
    inputs = torch.randn(5, 7)
    together = critics(inputs)
    assert together.shape == (2, 5, 3)
    for which in (0, 1):
        torch.testing.assert_close(together[which], separate(critics, which)(inputs))
    assert not torch.allclose(together[0], together[1])


def test_log_probability_is_that_of_a_squashed_gaussian() -> None:
    torch.manual_seed(0)
    actor = Actor(4, ARM, (16,)).double()
    observations = torch.randn(64, 4, dtype=torch.float64)
    actions, log_probs = actor.sample(observations)
    mean, raw = actor.network(observations).chunk(2, dim=-1)
    low, high = LOG_STD_RANGE
    deviation = (low + (high - low) * (torch.tanh(raw) + 1) / 2).exp()
    gaussian = Independent(Normal(mean, deviation), 1)
    squashed = TransformedDistribution(gaussian, [TanhTransform()])
    assert (actions.abs() < 1).all()
    torch.testing.assert_close(log_probs, squashed.log_prob(actions), rtol=1e-6, atol=1e-6)


def test_log_probability_stays_finite_at_the_limits_of_the_actions() -> None:
    actor = Actor(1, ARM, (4,))
    nn.init.constant_(actor.network[-1].bias, 30.0)
    assert torch.isfinite(actor.sample(torch.zeros(8, 1))[1]).all()


def test_without_exploring_the_action_is_the_mode() -> None:
    torch.manual_seed(0)
    observations = torch.randn(6, 4)
    arm = Actor(4, ARM, (16,))
    mean = arm.network(observations)[:, :2]
    torch.testing.assert_close(arm.act(observations, explore=False), mean.tanh())
    buttons = Actor(4, BUTTONS, (16,))
    assert (buttons.act(observations, explore=False) == buttons.network(observations).argmax(-1)).all()


def test_exploring_presses_buttons_as_often_as_their_probabilities_say() -> None:
    torch.manual_seed(0)
    actor = Actor(4, BUTTONS, (16,))
    observation = torch.randn(1, 4)
    pressed = actor.act(observation.expand(20_000, 4), explore=True).bincount(minlength=3) / 20_000
    # standard deviation of a share at most sqrt(.25 / 20000) = .0035
    torch.testing.assert_close(pressed, actor.network(observation).softmax(-1)[0], atol=0.018, rtol=0)


def test_slow_copies_start_equal_and_take_no_gradients() -> None:
    networks = make_networks((4,), ARM, (8, 8), initial_temperature=0.5)
    assert networks.log_temperature.item() == pytest.approx(math.log(0.5))
    for slow, fast in zip(networks.target_critics.parameters(), networks.critics.parameters(), strict=True):
        assert torch.equal(slow, fast)
        assert slow.data_ptr() != fast.data_ptr()
        assert not slow.requires_grad


def test_sizes_and_entropy_targets_follow_the_actions() -> None:
    assert (action_size(ARM), action_size(BUTTONS)) == (2, 1)
    assert target_entropy(ARM) == -2.0
    assert target_entropy(BUTTONS) == pytest.approx(0.5 * math.log(3))
    assert make_networks((4,), BUTTONS, (8,), 1.0).critics(torch.zeros(1, 4)).shape == (2, 1, 3)
    assert make_networks((4,), ARM, (8,), 1.0).critics(torch.zeros(1, 4), torch.zeros(1, 2)).shape == (2, 1, 1)
