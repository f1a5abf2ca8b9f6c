"""The networks as RLlib sees them: an RLModule that acts on an env runner and is trained by `SacLearner`."""

from typing import Any

import torch
from gymnasium import spaces
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis import InferenceOnlyAPI
from ray.rllib.core.rl_module.torch import TorchRLModule
from torch import Tensor

from datamodules.errors import SettingsError
from rllib_envs.frames import shows_frames
from rllib_envs.sac_networks import SacNetworks, make_networks


class SacModule(TorchRLModule, InferenceOnlyAPI):  # type: ignore[misc]  # ray ships no types
    """`SacNetworks` behind RLlib's forward methods.

    RLlib's default SAC module builds an encoder and a head of its own for every net and stream; this one returns
    finished actions, so no distribution object is made a step either.
    """

    def setup(self) -> None:
        """Build the networks from `model_config`: hidden, initial_temperature, learning_starts."""
        for name, space, allowed, takes in (
            ("observation", self.observation_space, self._sees, "flat Box spaces, or stacked frames as uint8"),
            ("action", self.action_space, self._acts, "flat Box or Discrete spaces"),
        ):
            if not allowed(space):
                raise SettingsError(f"{name} space {space} is not supported: SAC here takes {takes}")
        config: dict[str, Any] = self.model_config
        networks = make_networks(
            self.observation_space.shape,
            self.action_space,
            config["hidden"],
            config["initial_temperature"],
        )
        # Attributes of the module itself: RLlib 2.60 cannot remove nested ones on env runners.
        self.actor, self.log_temperature = networks.actor, networks.log_temperature
        self.critics, self.target_critics = networks.critics, networks.target_critics
        self._random_steps: int = config["learning_starts"]

    @staticmethod
    def _sees(space: Any) -> bool:
        return isinstance(space, spaces.Box) and (len(space.shape) == 1 or shows_frames(space))

    @staticmethod
    def _acts(space: Any) -> bool:
        return isinstance(space, spaces.Discrete) or (isinstance(space, spaces.Box) and len(space.shape) == 1)

    def get_non_inference_attributes(self) -> list[str]:
        """What an env runner does not need; RLlib removes it there."""
        return ["critics", "target_critics", "log_temperature"]

    def networks(self) -> SacNetworks:
        """The networks to train; on a learner only."""
        return SacNetworks(self.actor, self.critics, self.target_critics, self.log_temperature)

    @torch.inference_mode()
    def _forward_inference(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Tensor]:
        return {Columns.ACTIONS: self.actor.act(batch[Columns.OBS], explore=False)}

    @torch.inference_mode()
    def _forward_exploration(self, batch: dict[str, Any], t: int = 0, **kwargs: Any) -> dict[str, Tensor]:
        """Uniformly random actions in the first `learning_starts` steps (as in SB3), then the policy's samples."""
        observations = batch[Columns.OBS]
        if t >= self._random_steps:
            return {Columns.ACTIONS: self.actor.act(observations, explore=True)}
        if isinstance(self.action_space, spaces.Discrete):
            return {Columns.ACTIONS: torch.randint(int(self.action_space.n), (len(observations),))}
        return {Columns.ACTIONS: torch.rand(len(observations), *self.action_space.shape) * 2.0 - 1.0}

    def _forward_train(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        raise NotImplementedError("SacLearner takes its gradient steps on `networks()`")
