"""One gradient step of soft actor-critic: temperature, critics, actor, then the slow copies."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from datamodules.pixels import random_shift
from rllib_envs.frame_encoder import FrameEncoder, shift_of
from rllib_envs.sac_networks import ActionSpace, SacNetworks, target_entropy


@dataclass(frozen=True)
class Batch:
    """Transitions as tensors, column by column as in `rllib_envs.replay.Transitions`."""

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    next_observations: Tensor
    terminated: Tensor


class SacUpdate:
    """Trains `SacNetworks` in place (Haarnoja et al. 2018; for discrete actions Christodoulou 2019).

    From pixels as DrQ-v2 (Yarats et al. 2021, arXiv 2107.09645): every stack is shifted at random, its frames alike;
    the encoder learns from the critics' loss alone and has no slow copy, but the critics' trunk has one.
    """

    def __init__(
        self,
        networks: SacNetworks,
        action_space: ActionSpace,
        *,
        gamma: float,
        tau: float,
        actor_lr: float,
        critic_lr: float,
        temperature_lr: float,
    ) -> None:
        self.networks = networks
        self.gamma = gamma
        self.tau = tau
        self.target_entropy = target_entropy(action_space)
        self._critic_parameters: list[Tensor] = list(networks.critics.parameters())
        self._target_parameters: list[Tensor] = list(networks.target_critics.parameters())
        self._trained_by_critics: list[Tensor] = [*self._critic_parameters, *networks.actor.encoder.parameters()]
        self._actor_parameters: list[Tensor] = list(networks.actor.network.parameters())
        # fused: one kernel for all tensors; the default loop costs more than the gradients of nets this small
        self.optimizers = {
            "actor": torch.optim.Adam(self._actor_parameters, lr=actor_lr, fused=True),
            "critics": torch.optim.Adam(self._trained_by_critics, lr=critic_lr, fused=True),
            "temperature": torch.optim.Adam([networks.log_temperature], lr=temperature_lr, fused=True),
        }

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """Take one gradient step on everything; returns scalars for the log, detached."""
        losses = self._discrete_losses if self.networks.actor.discrete else self._continuous_losses
        features = self._encode(batch.observations)
        with torch.no_grad():
            next_features = self._encode(batch.next_observations)
        return losses(batch, features, next_features)

    def _encode(self, observations: Tensor) -> Tensor:
        encoder = self.networks.actor.encoder
        if isinstance(encoder, FrameEncoder):
            observations = random_shift(observations, shift_of(observations.shape[1]))
        features: Tensor = encoder(observations)
        return features

    def _continuous_losses(self, batch: Batch, features: Tensor, next_features: Tensor) -> dict[str, Tensor]:
        networks, seen = self.networks, features.detach()
        actions, log_probs = networks.actor.sample(seen)
        temperature = self._step_temperature(-log_probs.detach())
        with torch.no_grad():
            next_actions, next_log_probs = networks.actor.sample(next_features)
            next_q = networks.target_critics(next_features, next_actions).amin(0).squeeze(-1)
            targets = self._bootstrap(batch, next_q - temperature * next_log_probs)
        q = networks.critics(features, batch.actions).squeeze(-1)
        critic_loss = self._step_critics(q, targets)
        q_policy = networks.critics(seen, actions).amin(0).squeeze(-1)
        actor_loss = self._step_actor((temperature * log_probs - q_policy).mean())
        return self._scalars(critic_loss, actor_loss, temperature, -log_probs.detach().mean(), q)

    def _discrete_losses(self, batch: Batch, features: Tensor, next_features: Tensor) -> dict[str, Tensor]:
        networks, seen = self.networks, features.detach()
        log_probs = networks.actor.log_probs(seen)
        probs = log_probs.exp()
        entropies = -(probs * log_probs).sum(-1).detach()
        temperature = self._step_temperature(entropies)
        with torch.no_grad():
            next_log_probs = networks.actor.log_probs(next_features)
            next_q = networks.target_critics(next_features).amin(0)
            next_values = (next_log_probs.exp() * (next_q - temperature * next_log_probs)).sum(-1)
            targets = self._bootstrap(batch, next_values)
        chosen = batch.actions.long().expand(2, *batch.actions.shape)
        q = networks.critics(features).gather(-1, chosen).squeeze(-1)
        critic_loss = self._step_critics(q, targets)
        with torch.no_grad():
            q_policy = networks.critics(seen).amin(0)
        actor_loss = self._step_actor((probs * (temperature * log_probs - q_policy)).sum(-1).mean())
        return self._scalars(critic_loss, actor_loss, temperature, entropies.mean(), q)

    def _bootstrap(self, batch: Batch, next_values: Tensor) -> Tensor:
        """r + gamma V(s'), without V(s') where the task ended; a time limit is no end."""
        return batch.rewards + self.gamma * (1.0 - batch.terminated) * next_values

    def _step_temperature(self, entropies: Tensor) -> Tensor:
        """Raise the temperature when the policy's entropy lies below its target; returns it as it was before."""
        temperature = self.networks.log_temperature.detach().exp()
        loss = self.networks.log_temperature * (entropies.mean() - self.target_entropy)
        self._apply("temperature", loss, [self.networks.log_temperature])
        return temperature

    def _step_critics(self, q: Tensor, targets: Tensor) -> Tensor:
        loss = 0.5 * F.mse_loss(q, targets.expand_as(q), reduction="sum") / targets.numel()
        self._apply("critics", loss, self._trained_by_critics)
        torch._foreach_lerp_(self._target_parameters, self._critic_parameters, self.tau)
        return loss.detach()

    def _step_actor(self, loss: Tensor) -> Tensor:
        self._apply("actor", loss, self._actor_parameters)
        return loss.detach()

    def _apply(self, optimizer: str, loss: Tensor, parameters: list[Tensor]) -> None:
        # Gradients of the named parameters only: the actor's loss passes through the critics without touching theirs.
        gradients = torch.autograd.grad(loss, parameters)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            # torch's fused Adam pairs numbers by their place in memory, and convolutions give gradients channels last
            parameter.grad = gradient.contiguous()
        self.optimizers[optimizer].step()

    @staticmethod
    def _scalars(
        critic_loss: Tensor, actor_loss: Tensor, temperature: Tensor, entropy: Tensor, q: Tensor
    ) -> dict[str, Tensor]:
        return {
            "critic_loss": critic_loss,
            "actor_loss": actor_loss,
            "temperature": temperature,
            "entropy": entropy,
            "q_mean": q.detach().mean(),
        }
