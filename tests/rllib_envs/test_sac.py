"""The algorithm inside RLlib: which transitions it keeps, how often it updates, what a checkpoint holds."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from ray.rllib.core import DEFAULT_MODULE_ID

from datamodules.errors import SettingsError, SuiteError
from rllib_envs.sac import REPLAY, Sac, SacConfig
from rllib_envs.settings import SacSettings

EPISODE_STEPS = 3
TINY = SacSettings(
    total_steps=64,
    num_envs=2,
    learning_starts=16,
    batch_size=8,
    hidden=(8,),
    replay_capacity=500,
    updates_per_step=0.25,
)


class CountingEnv(VectorEnv[Any, Any, Any]):
    """Observations are (episode, step), rewards name both, odd episodes terminate, even ones meet their time limit."""

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012  (Gymnasium declares it so)

    def __init__(self, config: dict[str, Any]) -> None:
        self.num_envs = config["num_envs"]
        self.fails_at = config.get("fails_at")
        self.single_observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.single_action_space = config.get("actions", spaces.Box(-1.0, 1.0, (1,), np.float32))
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._episode = np.zeros(self.num_envs)
        self._step = np.zeros(self.num_envs)
        self._calls = 0

    def _observations(self) -> Any:
        return np.stack([self._episode, self._step], axis=1).astype(np.float32)

    def reset(self, **kwargs: Any) -> Any:
        self._episode = 1.0 + np.arange(self.num_envs)
        self._step = np.zeros(self.num_envs)
        return self._observations(), {}

    def step(self, actions: Any) -> Any:
        self._calls += 1
        if self._calls == self.fails_at:
            raise SuiteError("the reward is gone")
        resets = self._step == EPISODE_STEPS
        self._episode = np.where(resets, self._episode + self.num_envs, self._episode)
        self._step = np.where(resets, 0.0, self._step + 1)
        last = self._step == EPISODE_STEPS
        odd = self._episode % 2 == 1
        rewards = np.where(resets, -1.0, 10 * self._episode + self._step)
        infos = {"true_reward": np.where(resets, 0.0, 2.0)}
        return self._observations(), rewards, last & odd, last & ~odd, infos


def build(settings: SacSettings = TINY, **environment: Any) -> Sac:
    config = SacConfig().sac(settings).environment(CountingEnv, env_config=environment)
    algorithm: Sac = config.debugging(seed=0, log_level="ERROR").build_algo()
    return algorithm


def stored(algorithm: Sac) -> list[dict[str, Any]]:
    columns = {name: column[: len(algorithm.replay)] for name, column in algorithm.replay._columns.items()}
    return [{name: column[row] for name, column in columns.items()} for row in range(len(algorithm.replay))]


@pytest.mark.usefixtures("ray_running")
@pytest.mark.slow
def test_keeps_real_steps_only_and_true_last_observations() -> None:
    algorithm = build()
    algorithm.train()
    transitions = stored(algorithm)
    assert algorithm.steps == len(transitions) >= 256
    for transition in transitions:
        episode, step = transition["observations"]
        assert tuple(transition["next_observations"]) == (episode, step + 1)  # never an observation after a reset
        assert transition["rewards"] == 10 * episode + step + 1
        ended = step + 1 == EPISODE_STEPS and episode % 2 == 1
        assert transition["terminated"] == float(ended)  # the time limit of even episodes leaves it 0
    seen = [tuple(transition["observations"]) for transition in transitions]
    assert len(seen) == len(set(seen))
    algorithm.stop()


@pytest.mark.usefixtures("ray_running")
@pytest.mark.slow
def test_updates_follow_the_steps_and_both_returns_are_logged() -> None:
    algorithm = build()
    result = algorithm.train()
    assert algorithm.updates == int((algorithm.steps - TINY.learning_starts) * TINY.updates_per_step)
    # an episode's true reward is 2 a step; its learned one is 3 * 10 * episode + 1 + 2 + 3
    assert result["env_runners"]["true_return_mean"] == pytest.approx(2.0 * EPISODE_STEPS)
    assert result["env_runners"]["episode_return_mean"] > 30
    learned = result["learners"]["default_policy"]
    assert {"critic_loss", "actor_loss", "temperature", "entropy", "q_mean"} <= learned.keys()
    algorithm.stop()


@pytest.mark.usefixtures("ray_running")
@pytest.mark.slow
@pytest.mark.parametrize(
    "actions", [spaces.Box(-1.0, 1.0, (1,), np.float32), spaces.Discrete(3)], ids=["continuous", "discrete"]
)
def test_a_checkpoint_gives_the_same_agent_again(actions: spaces.Space[Any], tmp_path: Path) -> None:
    algorithm = build(actions=actions)
    algorithm.train()
    algorithm.save_to_path(tmp_path)
    observations = torch.randn(20, 2)
    wanted = algorithm.actor().act(observations, explore=False)

    restored = Sac.from_checkpoint(tmp_path)
    assert torch.equal(restored.actor().act(observations, explore=False), wanted)
    assert (restored.steps, restored.updates) == (algorithm.steps, algorithm.updates)
    assert (tmp_path / REPLAY / "rewards.npy").exists()
    # the same batches and optimizers too: with the same noise both go on alike
    for each in (algorithm, restored):
        torch.manual_seed(1)
        each._update(3)
    assert torch.equal(restored.actor().act(observations, explore=False), algorithm.actor().act(observations, False))
    assert not torch.equal(restored.actor().network(observations), algorithm.actor().network(torch.randn(20, 2)))
    algorithm.stop()
    restored.stop()


@pytest.mark.usefixtures("ray_running")
@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_the_learner_takes_a_gpu_and_acts_and_goes_on_from_there(tmp_path: Path) -> None:
    algorithm = build()
    algorithm.train()
    trained = next(algorithm.learner_group._learner.module[DEFAULT_MODULE_ID].actor.parameters())
    acting = next(algorithm.actor().parameters())
    assert (trained.device.type, acting.device.type) == ("cuda", "cpu")
    torch.testing.assert_close(trained.cpu(), acting)
    assert torch.cuda.max_memory_allocated() > 0
    algorithm.save_to_path(tmp_path)
    restored = Sac.from_checkpoint(tmp_path)
    restored.train()
    assert restored.updates == int((restored.steps - TINY.learning_starts) * TINY.updates_per_step)
    algorithm.stop()
    restored.stop()


@pytest.mark.usefixtures("ray_running")
@pytest.mark.slow
def test_first_actions_are_uniform_over_the_whole_range() -> None:
    settings = SacSettings(total_steps=10_000, learning_starts=10_000, num_envs=2, hidden=(8,), replay_capacity=5000)
    algorithm = build(settings)
    for _ in range(4):
        algorithm.train()
    actions = algorithm.replay._columns["actions"][: len(algorithm.replay), 0]
    shares = np.histogram(actions, bins=4, range=(-1, 1))[0] / len(actions)
    assert np.abs(shares - 0.25).max() < 5 * np.sqrt(0.25 * 0.75 / len(actions))
    assert algorithm.updates == 0
    algorithm.stop()


@pytest.mark.usefixtures("ray_running")
@pytest.mark.slow
def test_a_mistake_inside_an_environment_stays_visible(caplog: pytest.LogCaptureFixture) -> None:
    algorithm = build(fails_at=4)
    with pytest.raises(Exception) as caught:  # noqa: PT011  (RLlib raises its own; the cause is what counts)
        algorithm.train()
    causes: list[BaseException | None] = [caught.value]
    while causes[-1] is not None:
        causes.append(causes[-1].__cause__)
    assert any(isinstance(cause, SuiteError) for cause in causes)
    assert "Traceback" not in caplog.text
    algorithm.stop()


@pytest.mark.usefixtures("ray_running")
@pytest.mark.slow
def test_spaces_that_sac_cannot_take_are_named() -> None:
    with pytest.raises(SettingsError, match="MultiDiscrete"):
        build(actions=spaces.MultiDiscrete([2, 2]))
