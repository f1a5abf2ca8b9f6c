"""The networks of proximal policy optimisation as plain torch modules: a policy and a value function.

Schulman et al. 2017 (arXiv 1707.06347); layers and their first weights as in Huang et al. 2022 ("The 37 implementation
details of proximal policy optimization"). No Ray here: a saved policy is usable from any Python program.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from gymnasium import spaces
from torch import Tensor, nn

from rllib_envs.sac_networks import ActionSpace

FIRST_POLICY_GAIN = 0.01
"""of the policy's last layer: all actions are about as likely at the start"""


class PpoActor(nn.Module):
    """Observations to a distribution over actions.

    Continuous: a Gaussian whose deviation does not depend on the observation. Discrete: a categorical distribution.
    """

    def __init__(self, observation_size: int, action_space: ActionSpace, hidden: Sequence[int]) -> None:
        super().__init__()
        self.discrete = isinstance(action_space, spaces.Discrete)
        outputs = int(action_space.n) if isinstance(action_space, spaces.Discrete) else math.prod(action_space.shape)
        self.network = tanh_network((observation_size, *hidden, outputs), FIRST_POLICY_GAIN)
        self.log_std = None if self.discrete else nn.Parameter(torch.zeros(outputs))

    def forward(self, observations: Tensor) -> Tensor:
        """Observations (N, O) to logits (N, A), or to means beside log deviations, (N, 2 A)."""
        outputs: Tensor = self.network(observations)
        return outputs if self.log_std is None else torch.cat([outputs, self.log_std.expand_as(outputs)], dim=-1)

    def act(self, observations: Tensor, explore: bool) -> Tensor:
        """Actions for observations (N, O): (N, A) in -1 to 1, or (N,) numbers; the mode unless exploring."""
        outputs: Tensor = self.network(observations)
        if self.log_std is None:
            return torch.multinomial(outputs.softmax(-1), 1).squeeze(-1) if explore else outputs.argmax(-1)
        noise = self.log_std.exp() * torch.randn_like(outputs) if explore else 0.0
        return (outputs + noise).clamp(-1.0, 1.0)


def value_network(observation_size: int, hidden: Sequence[int]) -> nn.Sequential:
    """Observations (N, O) to values (N, 1)."""
    return tanh_network((observation_size, *hidden, 1), 1.0)


def tanh_network(widths: Sequence[int], last_gain: float) -> nn.Sequential:
    """Linear layers with tanh between them and orthogonal first weights."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        linear = nn.Linear(inputs, outputs)
        nn.init.orthogonal_(linear.weight, last_gain if len(layers) == 2 * len(widths) - 4 else math.sqrt(2.0))
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.Tanh()]
    return nn.Sequential(*layers[:-1])
