"""Environments whose reward is learned from frames: M simulators, M frames, one reward call; and a single-env form.

    environment = RewardEnv(task, StudentReward.load(Path("runs/demo/student")))

Gymnasium only: no Ray here. Frames go to the reward function and to an agent that sees pixels, and nowhere else.
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
from rllib_envs.frames import Frames, FrameStacks
from rllib_envs.settings import Observations
from rllib_envs.simulators import make_simulator
from rllib_envs.visits import VisitLog

if TYPE_CHECKING:  # brings torch, which the true reward can do without
    from lightning_modules.reward_function import RewardFunction

SEEDS_PER_RUNNER = 10_000

Infos = dict[str, Any]


class RewardVectorEnv(VectorEnv[Any, Any, Any]):
    """M simulators of one task stepped side by side.

    The reward is `reward(frames)`, or the simulator's own where `reward` is None: then the simulator's terminations end
    episodes. With a learned reward every episode has the task's full length. The time limit is `truncated`. The step
    after the last one of an episode resets (NEXT_STEP), so the last frame is scored before that. Observations are the
    simulator's state, float32 (M, O), or stacked frames, uint8 (M, P, P, 9); a frame is drawn once for both uses, and
    not at all where there is neither. `info["true_reward"]` is a float in every step.
    """

    reward_version = 0
    """which reward is called: 0 is that of the construction, others come from `set_reward`"""
    visits: VisitLog | None = None
    """where the states and frames of all steps are kept until somebody takes them, if anybody wants them; then
    `info["visit"]` is each step's number there"""

    def __init__(
        self,
        task: Task,
        num_envs: int,
        reward: "RewardFunction | None",
        seed: int = 0,
        observations: Observations = "state",
    ) -> None:
        self.task = task
        self.num_envs = num_envs
        self.metadata = {"render_modes": ["rgb_array"], "autoreset_mode": AutoresetMode.NEXT_STEP}
        self.render_mode = "rgb_array"
        self.costs = Costs()
        self._episodes = [Episode(make_simulator(task), reward is not None) for _ in range(num_envs)]
        simulators = [episode.simulator for episode in self._episodes]
        self._reward = None if reward is None else FiniteReward(reward)
        self._stacks = FrameStacks(num_envs, task.render.frame_pixels) if observations == "pixels" else None
        self._frames = None if reward is None and self._stacks is None else Frames(simulators)
        self._first_seed: int | None = seed
        self._ended = np.zeros(num_envs, dtype=np.bool_)
        self.single_observation_space = simulators[0].observation_space if self._stacks is None else self._stacks.space
        self.single_action_space = simulators[0].action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    @property
    def non_finite_rewards(self) -> int:
        """Rewards that were NaN or infinite and were replaced by 0."""
        return 0 if self._reward is None else self._reward.non_finite_rewards

    def set_reward(self, reward: "RewardFunction", version: int) -> None:
        """Call another reward function from the next step on. Raises SettingsError where the reward is the true one."""
        if self._reward is None:
            raise SettingsError(
                f"the reward of task {self.task.name!r} is the simulator's own, whose episodes end by themselves: make "
                "the environment with a reward function, then it can be exchanged"
            )
        self._reward.replace(reward)
        self.reward_version = version

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], Infos]:
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
            states = [episode.reset(one) for episode, one in zip(self._episodes, seeds, strict=True)]
        self._ended[:] = False
        started = np.ones(self.num_envs, np.bool_)
        observations, _ = self._look(states, started)
        return observations, {"true_reward": np.zeros(self.num_envs)}

    def step(
        self, actions: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], Infos]:
        """Step every simulator, or reset it where its episode ended in the step before."""
        started = self._ended
        with self.costs.measure("simulate"):
            steps = [
                Step(episode.reset(None), 0.0, False, False) if ended else episode.step(action)
                for episode, action, ended in zip(self._episodes, actions, started, strict=True)
            ]
        observations, frames = self._look([step.observation for step in steps], started)
        true_rewards = np.array([step.true_reward for step in steps])
        rewards = true_rewards.copy()
        if self._reward is not None and len(frames):
            with self.costs.measure("reward"):
                rewards[~started] = self._reward(frames)
        terminated = np.array([step.terminated for step in steps])
        truncated = np.array([step.truncated for step in steps])
        self._ended = terminated | truncated
        infos: Infos = {"true_reward": true_rewards}
        if self.visits is not None and self._reward is not None:
            stepped = np.flatnonzero(~started)
            infos["visit"] = np.full(self.num_envs, -1)
            states = [self._episodes[index].simulator.state() for index in stepped]
            infos["visit"][stepped] = self.visits.add(states, frames, true_rewards[stepped])
        return observations, rewards, terminated, truncated, infos

    def _look(
        self, states: list[NDArray[np.float32]], started: NDArray[np.bool_]
    ) -> tuple[NDArray[Any], NDArray[np.uint8]]:
        """What the agent sees, and the frames to score: of those simulators that stepped, in their order.

        A frame that starts an episode has no reward, and is drawn only for an agent that sees it.
        """
        if self._frames is None:
            return np.stack(states), np.empty((0, 0, 0, 3), np.uint8)
        with self.costs.measure("render"):
            drawn = ~started if self._stacks is None else np.ones_like(started)
            frames = self._frames.draw(np.flatnonzero(drawn))
            if self._stacks is None:
                return np.stack(states), frames
            return self._stacks.push(frames, started), frames[~started]

    @property
    def ended(self) -> NDArray[np.bool_]:
        """(N,) whose episodes the last step ended."""
        return self._ended

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

    def __init__(self, task: Task, reward: "RewardFunction | None", observations: Observations = "state") -> None:
        self.task = task
        self.render_mode = "rgb_array"
        self._one = RewardVectorEnv(task, 1, reward, observations=observations)
        self._started = False
        self.costs = self._one.costs
        self.observation_space = self._one.single_observation_space
        self.action_space = self._one.single_action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[NDArray[Any], Infos]:
        """Start an episode."""
        super().reset(seed=seed)
        if seed is None and not self._started:  # as in Gymnasium: without a seed, no two environments are alike
            seed = int(self.np_random.integers(2**31))
        self._started = True
        observations, _ = self._one.reset(seed=[seed])
        return observations[0], {"true_reward": 0.0}

    def step(self, action: Any) -> tuple[NDArray[Any], float, bool, bool, Infos]:
        """Take one agent decision."""
        observations, rewards, terminated, truncated, infos = self._one.step(np.asarray(action)[None])
        true_reward = float(infos["true_reward"][0])
        return observations[0], float(rewards[0]), bool(terminated[0]), bool(truncated[0]), {"true_reward": true_reward}

    def render(self) -> Any:
        """The frame as the reward sees it, uint8 (P, P, 3)."""
        return self._one.render()[0]

    def close(self) -> None:
        """Close the simulator."""
        self._one.close()


def make_vector_env(config: Mapping[str, Any]) -> RewardVectorEnv:
    """A RewardVectorEnv from a plain mapping, as frameworks that make environments by themselves pass it on.

    Keys: `task` (Task), `num_envs` (int), `make_reward` (called without arguments in the process that runs the
    environment; None for the true reward), `seed` (int), and, where they are given, `observations` ("state" without
    it) and `keep_visits` (bool). RLlib's
    configurations also carry the number of the runner as an attribute, so that runners get different episodes.
    """
    make_reward: Callable[[], RewardFunction] | None = config["make_reward"]
    environment = RewardVectorEnv(
        task=config["task"],
        num_envs=config["num_envs"],
        reward=None if make_reward is None else make_reward(),
        seed=config["seed"] + SEEDS_PER_RUNNER * getattr(config, "worker_index", 0),
        observations=config.get("observations", "state"),
    )
    if config.get("keep_visits"):
        environment.visits = VisitLog()
    return environment
