"""Environments whose reward is learned from frames: M simulators, M frames, one reward call; and a single-env form.

    environment = RewardEnv(task, StudentReward.load(Path("runs/demo/student")))

Gymnasium only: no Ray here. Frames go to the reward function and nowhere else.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from datamodules.errors import SettingsError
from datamodules.tasks import Task
from rllib_envs.costs import Costs
from rllib_envs.episodes import Episode, Step
from rllib_envs.finite_reward import FiniteReward
from rllib_envs.gl import require_gl
from rllib_envs.simulators import make_simulator

if TYPE_CHECKING:  # brings torch, which the true reward can do without
    from lightning_modules.reward_function import RewardFunction

SEEDS_PER_RUNNER = 10_000

Infos = dict[str, Any]


class FrameReward:
    """Calls a reward function on the present frames of simulators."""

    def __init__(self, task: Task, reward: "RewardFunction", count: int, costs: Costs) -> None:
        require_gl()
        pixels = task.render.frame_pixels
        self._reward = FiniteReward(reward)
        self._costs = costs
        self._frames = np.empty((count, pixels, pixels, 3), dtype=np.uint8)

    @property
    def non_finite_rewards(self) -> int:
        """Rewards that were NaN or infinite and were replaced by 0."""
        return self._reward.non_finite_rewards

    def replace(self, reward: "RewardFunction") -> None:
        """Call another reward function from now on; the count goes on."""
        self._reward.replace(reward)

    def __call__(self, episodes: Sequence[Episode]) -> NDArray[np.float64]:
        """Draw and score the present state of these simulators, in one call. Returns float64 (len(episodes),)."""
        frames = self._frames[: len(episodes)]
        with self._costs.measure("render"):
            for frame, episode in zip(frames, episodes, strict=True):
                episode.simulator.render(frame.shape[0], out=frame)
        with self._costs.measure("reward"):
            return self._reward(frames)


class RewardVectorEnv(VectorEnv[Any, Any, Any]):
    """M simulators of one task stepped side by side.

    The reward is `reward(frames)`, or the simulator's own where `reward` is None: then nothing is drawn, and the
    simulator's terminations end episodes. With a learned reward every episode has the task's full length. The time
    limit is `truncated`. The step after the last one of an episode resets (NEXT_STEP), so the last frame is scored
    before that. `info["true_reward"]` is a float in every step.
    """

    reward_version = 0
    """which reward is called: 0 is that of the construction, others come from `set_reward`"""

    def __init__(self, task: Task, num_envs: int, reward: "RewardFunction | None", seed: int = 0) -> None:
        self.task = task
        self.num_envs = num_envs
        self.metadata = {"render_modes": ["rgb_array"], "autoreset_mode": AutoresetMode.NEXT_STEP}
        self.render_mode = "rgb_array"
        self.costs = Costs()
        self._episodes = [Episode(make_simulator(task), reward is not None) for _ in range(num_envs)]
        self._frame_reward = None if reward is None else FrameReward(task, reward, num_envs, self.costs)
        self._first_seed: int | None = seed
        self._ended = np.zeros(num_envs, dtype=np.bool_)
        first = self._episodes[0].simulator
        self.single_observation_space = first.observation_space
        self.single_action_space = first.action_space
        self.observation_space = batch_space(first.observation_space, num_envs)
        self.action_space = batch_space(first.action_space, num_envs)

    @property
    def non_finite_rewards(self) -> int:
        """Rewards that were NaN or infinite and were replaced by 0."""
        return 0 if self._frame_reward is None else self._frame_reward.non_finite_rewards

    def set_reward(self, reward: "RewardFunction", version: int) -> None:
        """Call another reward function from the next step on. Raises SettingsError where the reward is the true one."""
        if self._frame_reward is None:
            raise SettingsError(
                f"the reward of task {self.task.name!r} is the simulator's own, whose episodes end by themselves: make "
                "the environment with a reward function, then it can be exchanged"
            )
        self._frame_reward.replace(reward)
        self.reward_version = version

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], Infos]:
        """Start all episodes. A number seeds simulator i with seed + i, a list gives every simulator its own.

        Without a seed the first call takes the one given at construction, and later ones go on from there.
        """
        seeds = self._first_seed if seed is None else seed
        self._first_seed = None
        if seeds is None:
            seeds = [None] * self.num_envs
        elif isinstance(seeds, int):
            seeds = range(seeds, seeds + self.num_envs)
        with self.costs.measure("simulate"):
            observations = [episode.reset(one) for episode, one in zip(self._episodes, seeds, strict=True)]
        self._ended[:] = False
        return np.stack(observations), {"true_reward": np.zeros(self.num_envs)}

    def step(
        self, actions: NDArray[Any]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], Infos]:
        """Step every simulator, or reset it where its episode ended in the step before."""
        with self.costs.measure("simulate"):
            steps = [
                Step(episode.reset(None), 0.0, False, False) if ended else episode.step(action)
                for episode, action, ended in zip(self._episodes, actions, self._ended, strict=True)
            ]
        true_rewards = np.array([step.true_reward for step in steps])
        rewards = true_rewards
        if self._frame_reward is not None:
            rewards = np.zeros(self.num_envs)
            stepped = np.flatnonzero(~self._ended)
            if stepped.size:
                rewards[stepped] = self._frame_reward([self._episodes[index] for index in stepped])
        terminated = np.array([step.terminated for step in steps])
        truncated = np.array([step.truncated for step in steps])
        self._ended = terminated | truncated
        observations = np.stack([step.observation for step in steps])
        return observations, rewards.copy(), terminated, truncated, {"true_reward": true_rewards}

    def render(self, pixels: int | None = None) -> Any:
        """A tuple of one frame a simulator, uint8 (P, P, 3): as the reward sees it, or at another size."""
        size = pixels or self.task.render.frame_pixels
        return tuple(episode.simulator.render(size) for episode in self._episodes)

    def close_extras(self, **kwargs: Any) -> None:
        """Close the simulators."""
        for episode in self._episodes:
            episode.simulator.close()


class RewardEnv(gymnasium.Env[Any, Any]):
    """One simulator with a learned reward, for agent code of any kind; the rules are those of RewardVectorEnv."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012  (Gymnasium declares it as an instance's attribute)

    def __init__(self, task: Task, reward: "RewardFunction | None") -> None:
        self.task = task
        self.render_mode = "rgb_array"
        self.costs = Costs()
        self._episode = Episode(make_simulator(task), reward is not None)
        self._frame_reward = None if reward is None else FrameReward(task, reward, 1, self.costs)
        self.observation_space = self._episode.simulator.observation_space
        self.action_space = self._episode.simulator.action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], Infos]:
        """Start an episode."""
        super().reset(seed=seed)
        with self.costs.measure("simulate"):
            return self._episode.reset(seed), {"true_reward": 0.0}

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, Infos]:
        """Take one agent decision."""
        with self.costs.measure("simulate"):
            step = self._episode.step(action)
        reward = step.true_reward if self._frame_reward is None else float(self._frame_reward([self._episode])[0])
        return step.observation, reward, step.terminated, step.truncated, {"true_reward": step.true_reward}

    def render(self) -> Any:
        """The frame as the reward sees it, uint8 (P, P, 3)."""
        return self._episode.simulator.render(self.task.render.frame_pixels)

    def close(self) -> None:
        """Close the simulator."""
        self._episode.simulator.close()


def make_vector_env(config: Mapping[str, Any]) -> RewardVectorEnv:
    """A RewardVectorEnv from a plain mapping, as frameworks that make environments by themselves pass it on.

    Keys: `task` (Task), `num_envs` (int), `make_reward` (called without arguments in the process that runs the
    environment; None for the true reward), `seed` (int). RLlib's configurations also carry the number of the runner as
    an attribute, so that runners get different episodes.
    """
    make_reward: Callable[[], RewardFunction] | None = config["make_reward"]
    return RewardVectorEnv(
        task=config["task"],
        num_envs=config["num_envs"],
        reward=None if make_reward is None else make_reward(),
        seed=config["seed"] + SEEDS_PER_RUNNER * getattr(config, "worker_index", 0),
    )
