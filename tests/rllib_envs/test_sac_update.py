"""One gradient step, held against soft actor-critic written out by hand with torch's own parts."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from gymnasium import spaces
from torch import Tensor, nn
from torch.distributions import Independent, Normal, TanhTransform, TransformedDistribution

from rllib_envs.sac_networks import LOG_STD_RANGE, ActionSpace, SacNetworks, make_networks, target_entropy
from rllib_envs.sac_update import Batch, SacUpdate

ARM = spaces.Box(-1.0, 1.0, (2,))
BUTTONS: spaces.Discrete[np.int64] = spaces.Discrete(3)
GAMMA, TAU = 0.9, 0.1
RATES = {"actor_lr": 1e-3, "critic_lr": 2e-3, "temperature_lr": 3e-3}
N, OBSERVATIONS, PIXELS = 32, 4, 24


def batch_for(space: ActionSpace) -> Batch:
    actions = torch.rand(N, 2) * 2 - 1 if isinstance(space, spaces.Box) else torch.randint(3, (N, 1)).float()
    return Batch(
        observations=torch.randn(N, OBSERVATIONS),
        actions=actions,
        rewards=torch.randn(N),
        next_observations=torch.randn(N, OBSERVATIONS),
        terminated=(torch.arange(N) % 3 == 0).float(),
    )


class ByHand:
    """Haarnoja et al. 2018 and Christodoulou 2019: two losses of separate critics, ordinary Adam, loops."""

    def __init__(self, networks: SacNetworks, space: ActionSpace) -> None:
        self.nets = networks
        self.entropy_target = target_entropy(space)
        self.adam = {
            name: torch.optim.Adam(parameters, lr=RATES[f"{name}_lr"], fused=False, foreach=False)
            for name, parameters in (
                ("actor", list(networks.actor.network.parameters())),
                ("critic", [*networks.critics.parameters(), *networks.actor.encoder.parameters()]),
                ("temperature", [networks.log_temperature]),
            )
        }

    def descend(self, name: str, loss: Tensor) -> None:
        for optimizer in self.adam.values():
            optimizer.zero_grad()
        loss.backward()
        self.adam[name].step()

    def squashed_gaussian(self, observations: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        mean, raw = self.nets.actor.network(observations).chunk(2, dim=-1)
        low, high = LOG_STD_RANGE
        deviation = (low + (high - low) * (torch.tanh(raw) + 1) / 2).exp()
        actions = torch.tanh(mean + deviation * noise)
        squashed = TransformedDistribution(Independent(Normal(mean, deviation), 1), [TanhTransform(cache_size=1)])
        return actions, squashed.log_prob(actions)

    def follow_critics(self, q: Tensor, targets: Tensor) -> None:
        self.descend("critic", 0.5 * F.mse_loss(q[0], targets) + 0.5 * F.mse_loss(q[1], targets))
        for slow, fast in zip(self.nets.target_critics.parameters(), self.nets.critics.parameters(), strict=True):
            slow.data.mul_(1 - TAU).add_(TAU * fast.data)

    def step_continuous(self, batch: Batch, noise: Tensor, next_noise: Tensor) -> None:
        temperature = self.nets.log_temperature.exp().item()
        actions, log_probs = self.squashed_gaussian(batch.observations, noise)
        with torch.no_grad():
            next_actions, next_log_probs = self.squashed_gaussian(batch.next_observations, next_noise)
            next_q = self.nets.target_critics(batch.next_observations, next_actions)[..., 0]
            value = torch.minimum(next_q[0], next_q[1]) - temperature * next_log_probs
            targets = torch.where(batch.terminated == 1, batch.rewards, batch.rewards + GAMMA * value)
        log_temperature = self.nets.log_temperature
        self.descend("temperature", -(log_temperature * (log_probs.detach() + self.entropy_target)).mean())
        self.follow_critics(self.nets.critics(batch.observations, batch.actions)[..., 0], targets)
        actions, log_probs = self.squashed_gaussian(batch.observations, noise)
        q = self.nets.critics(batch.observations, actions)[..., 0]
        self.descend("actor", (temperature * log_probs - torch.minimum(q[0], q[1])).mean())

    def step_discrete(self, batch: Batch) -> None:
        temperature = self.nets.log_temperature.exp().item()
        nets, rows = self.nets, torch.arange(N)
        features = nets.actor.encoder(batch.observations)
        seen = features.detach()
        probs = nets.actor.network(seen).softmax(-1)
        entropy = -(probs * probs.log()).sum(-1).detach()
        with torch.no_grad():
            next_features = nets.actor.encoder(batch.next_observations)
            next_probs = nets.actor.network(next_features).softmax(-1)
            next_q = nets.target_critics(next_features)
            value = (next_probs * (torch.minimum(next_q[0], next_q[1]) - temperature * next_probs.log())).sum(-1)
            targets = torch.where(batch.terminated == 1, batch.rewards, batch.rewards + GAMMA * value)
        self.descend("temperature", (nets.log_temperature * (entropy - self.entropy_target)).mean())
        self.follow_critics(nets.critics(features)[:, rows, batch.actions[:, 0].long()], targets)
        q = nets.critics(seen).detach()
        loss = (probs * (temperature * probs.log() - torch.minimum(q[0], q[1]))).sum(-1).mean()
        self.descend("actor", loss)


def copy_of(networks: SacNetworks) -> SacNetworks:
    return SacNetworks(*(deepcopy(part) for part in vars(networks).values()))


def assert_same(ours: SacNetworks, theirs: SacNetworks) -> None:
    for name, part in vars(ours).items():
        other = getattr(theirs, name)
        pairs = (
            zip(part.parameters(), other.parameters(), strict=True) if isinstance(part, nn.Module) else [(part, other)]
        )
        for mine, other_one in pairs:
            torch.testing.assert_close(mine, other_one, rtol=2e-4, atol=2e-6, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.parametrize("space", [ARM, BUTTONS], ids=["continuous", "discrete"])
def test_steps_equal_soft_actor_critic_written_by_hand(space: ActionSpace) -> None:
    torch.manual_seed(0)
    networks = make_networks((OBSERVATIONS,), space, (16, 16), initial_temperature=0.3)
    update = SacUpdate(networks, space, gamma=GAMMA, tau=TAU, **RATES)
    by_hand = ByHand(copy_of(networks), space)
    before = copy_of(networks)
    for number in range(3):
        batch = batch_for(space)
        if isinstance(space, spaces.Box):
            torch.manual_seed(number)
            by_hand.step_continuous(batch, torch.randn(N, 2), torch.randn(N, 2))
            torch.manual_seed(number)
        else:
            by_hand.step_discrete(batch)
        update.step(batch)
        assert_same(networks, by_hand.nets)
    with pytest.raises(AssertionError):
        assert_same(networks, before)


def painted(count: int) -> Tensor:
    """Stacked frames whose colours are the same all over, so that a shift leaves them as they are."""
    return torch.randint(0, 256, (count, 1, 1, 9), dtype=torch.uint8).expand(count, PIXELS, PIXELS, 9).contiguous()


def test_steps_from_pixels_equal_the_same_by_hand() -> None:
    torch.manual_seed(0)
    networks = make_networks((PIXELS, PIXELS, 9), BUTTONS, (16, 16), initial_temperature=0.3)
    update = SacUpdate(networks, BUTTONS, gamma=GAMMA, tau=TAU, **RATES)
    by_hand = ByHand(copy_of(networks), BUTTONS)
    before = copy_of(networks)
    for _ in range(3):
        batch = replace(batch_for(BUTTONS), observations=painted(N), next_observations=painted(N))
        by_hand.step_discrete(batch)
        update.step(batch)
        assert_same(networks, by_hand.nets)
    with pytest.raises(AssertionError):
        assert_same(networks, before)


@pytest.mark.parametrize("space", [ARM, BUTTONS], ids=["continuous", "discrete"])
def test_the_encoder_learns_from_the_critics_alone(space: ActionSpace) -> None:
    torch.manual_seed(0)
    networks = make_networks((PIXELS, PIXELS, 9), space, (16,), initial_temperature=0.3)
    before = deepcopy(networks.actor)
    stacks = torch.randint(0, 256, (N, PIXELS, PIXELS, 9), dtype=torch.uint8)
    batch = replace(batch_for(space), observations=stacks, next_observations=stacks.flip(0))
    for critic_lr, learns in ((0.0, False), (1e-3, True)):
        SacUpdate(networks, space, gamma=GAMMA, tau=TAU, **{**RATES, "critic_lr": critic_lr}).step(batch)
        for mine, old in zip(networks.actor.encoder.parameters(), before.encoder.parameters(), strict=True):
            assert torch.equal(mine, old) is not learns
    assert not torch.equal(networks.actor.network[-1].weight, before.network[-1].weight)


@pytest.mark.parametrize("space", [ARM, BUTTONS], ids=["continuous", "discrete"])
@pytest.mark.parametrize(
    ("terminated", "value"),
    [
        (1.0, 1.0),  # the task is over: the reward is all there is
        (0.0, 2.0),  # a time limit, or no end at all: 1 + .5 + .25 + ... = 1 / (1 - gamma)
    ],
)
def test_a_time_limit_bootstraps_and_a_termination_does_not(
    space: ActionSpace, terminated: float, value: float
) -> None:
    torch.manual_seed(0)
    networks = make_networks((OBSERVATIONS,), space, (16,), initial_temperature=1e-6)
    update = SacUpdate(networks, space, gamma=0.5, tau=0.1, actor_lr=1e-3, critic_lr=1e-2, temperature_lr=1e-9)
    same_state = torch.ones(N, OBSERVATIONS)
    for _ in range(400):
        batch = batch_for(space)
        update.step(Batch(same_state, batch.actions, torch.ones(N), same_state, torch.full((N,), terminated)))
    actions = batch.actions if isinstance(space, spaces.Box) else None
    assert networks.critics(same_state, actions).mean().item() == pytest.approx(value, rel=0.05)


def test_the_temperature_rises_while_the_policy_is_too_sure() -> None:
    torch.manual_seed(0)
    networks = make_networks((OBSERVATIONS,), BUTTONS, (16,), initial_temperature=1.0)
    nn.init.zeros_(networks.actor.network[-1].weight)
    update = SacUpdate(networks, BUTTONS, gamma=GAMMA, tau=TAU, **RATES)
    nn.init.constant_(networks.actor.network[-1].bias, 0.0)
    update.step(batch_for(BUTTONS))
    assert networks.log_temperature.item() < 0  # a coin toss is more than half of log n
    with torch.no_grad():
        networks.actor.network[-1].bias.copy_(torch.tensor([10.0, 0.0, 0.0]))
        networks.log_temperature.zero_()
    SacUpdate(networks, BUTTONS, gamma=GAMMA, tau=TAU, **RATES).step(batch_for(BUTTONS))
    assert networks.log_temperature.item() > 0
