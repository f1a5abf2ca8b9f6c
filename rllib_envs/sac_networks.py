"""The networks of soft actor-critic as plain torch modules: an actor, and twin critics evaluated as one.

Haarnoja et al. 2018 (arXiv 1812.05905) for continuous actions, Christodoulou 2019 (arXiv 1910.07207) for discrete ones.
No Ray here: a saved policy is usable from any Python program.
"""

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from gymnasium import spaces
from torch import Tensor, nn

from rllib_envs.frame_encoder import FEATURES, FrameEncoder, frame_trunk

LOG_STD_RANGE = (-5.0, 2.0)
"""range of the log standard deviation before squashing; narrower than the paper's (-20, 2), as in CleanRL"""

DISCRETE_ENTROPY_SHARE = 0.5
"""share of log n that the policy over n discrete actions should keep; the paper's 0.98 (arXiv 1910.07207, section 4)
all but forbids to prefer one of two actions. Measured on Gymnasium's CartPole, exploring after 4,000 steps: with 0.5
the pole stays up for 201 steps at a temperature of 0.11, with 0.98 for 43 at a temperature of 16 that still rises"""

ActionSpace = spaces.Box | spaces.Discrete[Any]


class Actor(nn.Module):
    """Observations to a distribution over actions.

    Continuous: a squashed Gaussian, actions in (-1, 1). Discrete: a categorical distribution. `encoder` turns
    observations into features (N, F), states as they are; it learns from the critics' loss alone, so that only `act`
    takes observations.
    """

    def __init__(
        self,
        features: int,
        action_space: ActionSpace,
        hidden: Sequence[int],
        encoder: nn.Module | None = None,
        trunk: nn.Module | None = None,
    ) -> None:
        """Take features of this size: of `trunk(encoder(observations))`, where these are given."""
        super().__init__()
        self.encoder = encoder or nn.Identity()
        self.discrete = isinstance(action_space, spaces.Discrete)
        outputs = (
            int(action_space.n) if isinstance(action_space, spaces.Discrete) else 2 * math.prod(action_space.shape)
        )
        layers: list[nn.Module] = []
        for inputs, width in pairwise((features, *hidden)):
            layers += [nn.Linear(inputs, width), nn.ReLU()]
        trunks = [] if trunk is None else [trunk]
        self.network = nn.Sequential(*trunks, *layers, nn.Linear(hidden[-1], outputs))

    def act(self, observations: Tensor, explore: bool) -> Tensor:
        """Actions for N observations: (N, A) in (-1, 1), or (N,) numbers; the mode unless exploring."""
        features = self.encoder(observations)
        if self.discrete:
            logits = self.network(features)
            return torch.multinomial(logits.softmax(-1), 1).squeeze(-1) if explore else logits.argmax(-1)
        if explore:
            return self.sample(features)[0]
        return torch.tanh(self.network(features).chunk(2, dim=-1)[0])

    def sample(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Continuous: reparametrised actions (N, A) and their log probabilities (N,).

        log pi(a) = log N(u) - sum log(1 - tanh(u)^2), with log(1 - tanh(u)^2) = 2 (log 2 - u - softplus(-2u)), which
        does not overflow (arXiv 1812.05905, appendix C; the stable form is from TensorFlow Probability's Tanh).
        """
        mean, log_std = self.network(features).chunk(2, dim=-1)
        low, high = LOG_STD_RANGE
        log_std = low + 0.5 * (high - low) * (torch.tanh(log_std) + 1.0)
        noise = torch.randn_like(mean)
        raw = mean + log_std.exp() * noise
        squash = 2.0 * (math.log(2.0) - raw - F.softplus(-2.0 * raw))
        log_prob = (-0.5 * noise.square() - log_std - squash).sum(-1) - 0.5 * math.log(2.0 * math.pi) * mean.shape[-1]
        return torch.tanh(raw), log_prob

    def log_probs(self, features: Tensor) -> Tensor:
        """Discrete: log probabilities of every action, (N, actions)."""
        return F.log_softmax(self.network(features), dim=-1)


class TwinCritics(nn.Module):
    """Two critics of the same shape as one batch of two: three batched products in place of six small ones.

    Layer k holds a weight (2, inputs, outputs) and a bias (2, 1, outputs). A layer norm without parameters of its own
    after each hidden layer keeps Q from running away on actions that the data does not hold (Ball et al. 2023,
    arXiv 2302.02948, section 4.2).
    """

    def __init__(self, inputs: int, hidden: Sequence[int], outputs: int, trunk: nn.Module | None = None) -> None:
        """Take inputs of this size: features, of `trunk(features)` where it is given, and continuous actions."""
        super().__init__()
        self.trunk = trunk or nn.Identity()
        sizes = (inputs, *hidden, outputs)
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        for fan_in, fan_out in pairwise(sizes):
            bound = fan_in**-0.5  # torch.nn.Linear's default initialisation, drawn for each critic on its own
            self.weights.append(nn.Parameter(torch.empty(2, fan_in, fan_out).uniform_(-bound, bound)))
            self.biases.append(nn.Parameter(torch.empty(2, 1, fan_out).uniform_(-bound, bound)))

    def forward(self, features: Tensor, actions: Tensor | None = None) -> Tensor:
        """Features (N, F) and, where they are continuous, actions (N, A) to both critics' values, (2, N, outputs)."""
        inputs: Tensor = self.trunk(features)
        if actions is not None:
            inputs = torch.cat((inputs, actions), dim=-1)
        hidden = inputs.expand(2, *inputs.shape)
        last = len(self.weights) - 1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            hidden = torch.baddbmm(bias, hidden, weight)
            if layer < last:
                width = hidden.shape[-1:]
                # the scale of 1 and shift of 0 spell out the default, for which torch's kernel takes twice as long
                hidden = F.layer_norm(hidden, width, hidden.new_ones(width), hidden.new_zeros(width)).relu_()
        return hidden


@dataclass(frozen=True)
class SacNetworks:
    """Everything that SAC trains: actor, twin critics, their slow copies, and the entropy temperature."""

    actor: Actor
    critics: TwinCritics
    target_critics: TwinCritics
    """the critics' slow copies; they take no gradients"""
    log_temperature: nn.Parameter
    """natural logarithm of the entropy's weight, a scalar"""


def make_actor(observation_shape: Sequence[int], action_space: ActionSpace, hidden: Sequence[int]) -> Actor:
    """An actor for states of shape (O,) or for stacked frames of shape (P, P, C)."""
    if len(observation_shape) == 1:
        return Actor(observation_shape[0], action_space, hidden)
    encoder = FrameEncoder(observation_shape[0], observation_shape[-1])
    return Actor(FEATURES, action_space, hidden, encoder, frame_trunk(encoder.outputs))


def make_networks(
    observation_shape: Sequence[int], action_space: ActionSpace, hidden: Sequence[int], initial_temperature: float
) -> SacNetworks:
    """Networks for states or stacked frames (`make_actor`); the slow copies start equal to the critics."""
    actor = make_actor(observation_shape, action_space, hidden)
    trunk, features = None, observation_shape[0]
    if isinstance(actor.encoder, FrameEncoder):
        trunk, features = frame_trunk(actor.encoder.outputs), FEATURES
    if isinstance(action_space, spaces.Discrete):
        inputs, outputs = features, int(action_space.n)
    else:
        inputs, outputs = features + math.prod(action_space.shape), 1
    critics = TwinCritics(inputs, hidden, outputs, trunk)
    return SacNetworks(
        actor=actor,
        critics=critics,
        target_critics=deepcopy(critics).requires_grad_(False),
        log_temperature=nn.Parameter(torch.tensor(math.log(initial_temperature))),
    )


def action_size(action_space: ActionSpace) -> int:
    """Numbers that one stored action takes: its dimensions, or 1 for the number of a discrete action."""
    return 1 if isinstance(action_space, spaces.Discrete) else math.prod(action_space.shape)


def target_entropy(action_space: ActionSpace) -> float:
    """The entropy that the temperature aims for, in nats.

    Continuous: minus the number of action dimensions (arXiv 1812.05905, appendix D). Discrete:
    `DISCRETE_ENTROPY_SHARE` of log n, the entropy of a fair die.
    """
    if isinstance(action_space, spaces.Discrete):
        return DISCRETE_ENTROPY_SHARE * math.log(int(action_space.n))
    return -float(math.prod(action_space.shape))
