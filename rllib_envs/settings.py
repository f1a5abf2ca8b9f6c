"""Settings of this room, free of torch and ray so that any conf file loads anywhere."""

from dataclasses import dataclass
from typing import Literal, get_args

from datamodules.errors import SettingsError, UnknownNameError

Observations = Literal["state", "pixels"]


@dataclass(frozen=True)
class SacSettings:
    """How the agent learns: soft actor-critic, off-policy, from a replay buffer."""

    total_steps: int = 100_000
    """agent decisions in the whole training (at least 1)"""
    observations: Observations = "state"
    """what the agent sees: the simulator's state, or the task's last 3 frames"""
    num_envs: int = 8
    """simulators stepped side by side in one process, whose frames are scored in one call (1 to 256)"""
    num_env_runners: int = 0
    """processes that step `num_envs` simulators each while the agent learns in its own; 0: in turns, in one process
    (0 to 64)"""
    learning_starts: int = 1_000
    """agent decisions taken at random before the first update (0 to total_steps)"""
    batch_size: int = 256
    """transitions in one gradient step (1 to 65536)"""
    hidden: tuple[int, ...] = (256, 256)
    """widths of the hidden layers of the actor and of each critic (at least one layer)"""
    gamma: float = 0.99
    """discount a decision (0 to below 1)"""
    tau: float = 0.005
    """share of the critics that flows into their slow copies at each gradient step (above 0 to 1)"""
    actor_lr: float = 1e-3
    """Adam's learning rate for the actor (above 0 to 1)"""
    critic_lr: float = 1e-3
    """Adam's learning rate for the critics (above 0 to 1)"""
    temperature_lr: float = 1e-3
    """Adam's learning rate for the entropy temperature (above 0 to 1)"""
    initial_temperature: float = 1.0
    """weight of the entropy at the start, in units of reward (above 0)"""
    updates_per_step: float = 1.0
    """gradient steps for one agent decision (above 0 to 32; 1/32 in the CLIP paper's humanoid)"""
    replay_capacity: int = 1_000_000
    """transitions kept; memory is used only as they arrive (at least batch_size)"""
    evaluation_every_steps: int = 5_000
    """agent decisions between two evaluations of the deterministic policy (at least 1)"""
    evaluation_episodes: int = 5
    """episodes in one evaluation, always from the same seeds (1 to 256)"""

    def __post_init__(self) -> None:
        if self.observations not in get_args(Observations):
            raise UnknownNameError("sac.observations", self.observations, get_args(Observations))
        for name, low, high in (
            ("total_steps", 1, None),
            ("num_envs", 1, 256),
            ("num_env_runners", 0, 64),
            ("learning_starts", 0, self.total_steps),
            ("batch_size", 1, 65_536),
            ("replay_capacity", self.batch_size, None),
            ("evaluation_every_steps", 1, None),
            ("evaluation_episodes", 1, 256),
        ):
            _check_bounds(f"sac.{name}", getattr(self, name), low, high)
        for name, top in (
            ("tau", 1.0),
            ("actor_lr", 1.0),
            ("critic_lr", 1.0),
            ("temperature_lr", 1.0),
            ("updates_per_step", 32.0),
            ("initial_temperature", float("inf")),
        ):
            _check_above_zero(f"sac.{name}", getattr(self, name), top)
        _check_gamma("sac.gamma", self.gamma)
        _check_hidden("sac.hidden", self.hidden)


@dataclass(frozen=True)
class PpoSettings:
    """How the agent learns: proximal policy optimisation, on-policy, from the steps since its last update."""

    total_steps: int = 500_000
    """agent decisions in the whole training (at least 1)"""
    num_envs: int = 8
    """simulators stepped side by side in one process, whose frames are scored in one call (1 to 256)"""
    num_env_runners: int = 0
    """processes that step `num_envs` simulators each; 0: the learner's own (0 to 64)"""
    batch_steps: int = 2_048
    """agent decisions between two updates, which learn from these and no others (2 to 1048576)"""
    minibatch_size: int = 64
    """transitions in one gradient step (1 to batch_steps)"""
    epochs: int = 10
    """how often an update goes through its transitions (1 to 1000)"""
    hidden: tuple[int, ...] = (64, 64)
    """widths of the hidden layers of the policy and of the value function (at least one layer)"""
    lr: float = 3e-4
    """Adam's learning rate (above 0 to 1)"""
    gamma: float = 0.99
    """discount a decision (0 to below 1)"""
    gae_lambda: float = 0.95
    """weight of longer returns in the advantages (above 0 to 1)"""
    clip: float = 0.2
    """how far an update may move the probability of an action, as a share of it (above 0 to 1)"""
    entropy_weight: float = 0.0
    """weight of the policy's entropy in the loss (0 to 1)"""
    evaluation_every_steps: int = 20_000
    """agent decisions between two evaluations of the deterministic policy (at least 1)"""
    evaluation_episodes: int = 5
    """episodes in one evaluation, always from the same seeds (1 to 256)"""

    def __post_init__(self) -> None:
        for name, low, high in (
            ("total_steps", 1, None),
            ("num_envs", 1, 256),
            ("num_env_runners", 0, 64),
            ("batch_steps", 2, 1_048_576),
            ("minibatch_size", 1, self.batch_steps),
            ("epochs", 1, 1000),
            ("entropy_weight", 0, 1),
            ("evaluation_every_steps", 1, None),
            ("evaluation_episodes", 1, 256),
        ):
            _check_bounds(f"ppo.{name}", getattr(self, name), low, high)
        for name in ("lr", "gae_lambda", "clip"):
            _check_above_zero(f"ppo.{name}", getattr(self, name), 1.0)
        _check_gamma("ppo.gamma", self.gamma)
        _check_hidden("ppo.hidden", self.hidden)


LearningSettings = SacSettings | PpoSettings


def learning_settings(sac: SacSettings, ppo: PpoSettings | None) -> LearningSettings:
    """How an agent learns: by PPO where its settings are given, by SAC otherwise.

    Raises SettingsError where both are given.
    """
    if ppo is not None and sac != SacSettings():
        raise SettingsError(
            "the settings sac and ppo are both given: an agent learns by one of them; leave the other out"
        )
    return ppo or sac


def _check_bounds(name: str, value: float, low: float, high: float | None) -> None:
    if not low <= value <= (float("inf") if high is None else high):
        bounds = f"at least {low}" if high is None else f"between {low} and {high}"
        raise SettingsError(f"{name} is {value}: it must be {bounds}")


def _check_above_zero(name: str, value: float, top: float) -> None:
    if not 0.0 < value <= top:
        raise SettingsError(f"{name} is {value}: it must lie above 0 and at most {top}")


def _check_gamma(name: str, gamma: float) -> None:
    if not 0.0 <= gamma < 1.0:
        raise SettingsError(f"{name} is {gamma}: it must be at least 0 and below 1")


def _check_hidden(name: str, hidden: tuple[int, ...]) -> None:
    if not hidden or min(hidden) < 1:
        raise SettingsError(f"{name} is {list(hidden)}: give the width of at least one layer, as [256, 256]")


@dataclass(frozen=True)
class CollectSettings:
    """Which frames the teacher is asked about."""

    frames: int = 6_000
    """frames to keep, one after each agent decision (20 to 100000000)"""
    episode_steps: int = 40
    """agent decisions in one episode of the collection; more episodes show more starts (2 to 100000)"""
    anywhere_share: float = 0.75
    """share of episodes that start from a widely drawn state, goal states included; others from a reset (0 to 1)"""
    noise_share: float = 0.75
    """share of episodes driven by smooth noise of their own strength; others by uniform random actions (0 to 1)"""

    def __post_init__(self) -> None:
        for name, low, high in (
            ("frames", 20, 100_000_000),
            ("episode_steps", 2, 100_000),
            ("anywhere_share", 0.0, 1.0),
            ("noise_share", 0.0, 1.0),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise SettingsError(f"collect.{name} is {value}: it must lie between {low} and {high}")
        if self.frames < 10 * self.episode_steps:
            raise SettingsError(
                f"collect.frames is {self.frames} and collect.episode_steps is {self.episode_steps}: frames must be at "
                "least 10 times episode_steps, because whole episodes are held out"
            )
