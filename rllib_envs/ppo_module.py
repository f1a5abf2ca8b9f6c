"""PPO's networks as RLlib sees them: an RLModule that acts on an env runner and is trained by RLlib's own learner."""

import math
from typing import Any

from gymnasium import spaces
from ray.rllib.core.columns import Columns
from ray.rllib.core.distribution.torch.torch_distribution import TorchCategorical, TorchDiagGaussian
from ray.rllib.core.rl_module.apis import InferenceOnlyAPI, ValueFunctionAPI
from ray.rllib.core.rl_module.torch import TorchRLModule
from torch import Tensor

from rllib_envs.ppo_networks import PpoActor, value_network


class PpoModule(TorchRLModule, InferenceOnlyAPI, ValueFunctionAPI):  # type: ignore[misc]  # ray ships no types
    """`PpoActor` and a value function behind RLlib's forward methods."""

    def setup(self) -> None:
        """Build the networks from `model_config`: hidden."""
        size, hidden = math.prod(self.observation_space.shape), self.model_config["hidden"]
        self.actor = PpoActor(size, self.action_space, hidden)
        self.critic = value_network(size, hidden)
        discrete = isinstance(self.action_space, spaces.Discrete)
        self.action_dist_cls = TorchCategorical if discrete else TorchDiagGaussian

    def get_non_inference_attributes(self) -> list[str]:
        """What an env runner does not need; RLlib removes it there."""
        return ["critic"]

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Tensor]:
        return {Columns.ACTION_DIST_INPUTS: self.actor(batch[Columns.OBS])}

    def compute_values(self, batch: dict[str, Any], embeddings: Any = None) -> Tensor:
        """Values (N,) of the observations in a batch."""
        values: Tensor = self.critic(batch[Columns.OBS]).squeeze(-1)
        return values
