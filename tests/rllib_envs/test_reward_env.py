"""The environment contract. The reward double answers with the frame's own pixels, so a wrong frame or order shows."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from datamodules.errors import DataError, SettingsError
from datamodules.tasks import Task
from rllib_envs.costs import Costs
from rllib_envs.dm_control_simulator import DmControlSimulator
from rllib_envs.reward_env import RewardEnv, RewardVectorEnv, make_vector_env
from rllib_envs.settings import Observations
from rllib_envs.simulators import Simulator, make_simulator


class PixelSum:
    """Rewards a frame with the sum of its pixels, which no other frame of these tests shares."""

    def __init__(self) -> None:
        self.batches: list[NDArray[np.uint8]] = []

    def __call__(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.batches.append(frames.copy())
        return frames.sum(axis=(1, 2, 3)).astype(np.float32)


class Constant:
    """Gives the same rewards whatever it sees."""

    def __init__(self, values: Sequence[float]) -> None:
        self._values = np.array(values, dtype=np.float32)

    def __call__(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self._values


def actions(task: Task, seed: int, steps: int, count: int) -> list[list[Any]]:
    space = make_simulator(task).action_space
    space.seed(seed)
    return [[space.sample() for _ in range(count)] for _ in range(steps)]


def pixel_sum(simulator: Simulator) -> float:
    return float(simulator.render(simulator.task.render.frame_pixels).sum(dtype=np.float32))


def test_reward_of_each_simulator_comes_from_its_own_frame(pole: Task) -> None:
    environment = RewardVectorEnv(pole, 3, PixelSum(), seed=10)
    references = [make_simulator(pole) for _ in range(3)]
    observations, _ = environment.reset()
    assert_array_equal(observations, [reference.reset(10 + index) for index, reference in enumerate(references)])
    for row in actions(pole, seed=0, steps=4, count=3):
        observations, rewards, _, _, infos = environment.step(np.array(row))
        outcomes = [reference.step(action) for reference, action in zip(references, row, strict=True)]
        assert_array_equal(observations, [outcome.observation for outcome in outcomes])
        assert_array_equal(rewards, [pixel_sum(reference) for reference in references])
        assert_array_equal(infos["true_reward"], [outcome.true_reward for outcome in outcomes])


def test_last_reward_comes_from_the_last_frame_and_the_next_step_resets(pole: Task) -> None:
    environment = RewardVectorEnv(pole, 1, PixelSum())
    reference = make_simulator(pole)
    environment.reset(seed=3)
    reference.reset(3)
    for row in actions(pole, seed=1, steps=pole.episode_steps, count=1):
        observation, reward, terminated, truncated, _ = environment.step(np.array(row))
        reference.step(row[0])
    assert truncated[0]
    assert not terminated[0]
    assert reward[0] == pixel_sum(reference)
    observation, reward, terminated, truncated, infos = environment.step(np.array(row))
    assert_array_equal(observation[0], reference.reset())
    assert (reward[0], infos["true_reward"][0]) == (0.0, 0.0)
    assert (bool(terminated[0]), bool(truncated[0])) == (False, False)


def test_all_simulators_are_scored_in_one_call(pole: Task) -> None:
    reward = PixelSum()
    environment = RewardVectorEnv(pole, 4, reward)
    environment.reset()
    for row in actions(pole, seed=0, steps=3, count=4):
        environment.step(np.array(row))
    pixels = pole.render.frame_pixels
    assert [batch.shape for batch in reward.batches] == [(4, pixels, pixels, 3)] * 3


def test_nothing_is_scored_while_all_simulators_reset(pole: Task) -> None:
    reward = PixelSum()
    environment = RewardVectorEnv(pole, 2, reward)
    environment.reset()
    for row in actions(pole, seed=0, steps=pole.episode_steps + 1, count=2):
        environment.step(np.array(row))
    assert len(reward.batches) == pole.episode_steps


def test_learned_reward_makes_every_episode_equally_long(falling_pole: Task) -> None:
    environment = RewardVectorEnv(falling_pole, 1, PixelSum())
    environment.reset(seed=0)
    true_return = 0.0
    for step in range(falling_pole.episode_steps):
        _, _, terminated, truncated, infos = environment.step(np.array([1]))
        true_return += infos["true_reward"][0]
        assert not terminated[0]
        assert truncated[0] == (step == falling_pole.episode_steps - 1)
    assert 5 <= true_return <= 15  # Gymnasium gives 1 a frame until the pole has fallen, and then no more


def test_true_reward_keeps_the_simulators_termination_and_draws_nothing(falling_pole: Task) -> None:
    environment = RewardVectorEnv(falling_pole, 1, None)
    environment.reset(seed=0)
    steps, terminated = 0, [False]
    while not terminated[0]:
        _, rewards, terminated, truncated, infos = environment.step(np.array([1]))
        assert rewards[0] == infos["true_reward"][0] == 1.0
        assert not truncated[0]
        steps += 1
    assert 5 <= steps <= 15
    assert environment.costs.render == environment.costs.reward == 0.0
    observation, *_ = environment.step(np.array([1]))
    assert np.abs(observation).max() <= 0.05  # Gymnasium's resets lie within


def test_simulators_end_and_reset_on_their_own(falling_pole: Task) -> None:
    environment = RewardVectorEnv(falling_pole, 2, None)
    environment.reset(seed=0)
    ends: list[list[int]] = [[], []]
    for step in range(60):  # one pole is always pushed right, the other one back and forth
        _, _, terminated, _, _ = environment.step(np.array([1, step % 2]))
        for index in np.flatnonzero(terminated):
            ends[index].append(step)
    assert len(ends[0]) > len(ends[1])


def test_time_limit_is_a_truncation_with_the_true_reward_too(pole: Task) -> None:
    environment = RewardVectorEnv(pole, 1, None)
    environment.reset()
    for row in actions(pole, seed=0, steps=pole.episode_steps, count=1):
        _, _, terminated, truncated, _ = environment.step(np.array(row))
    assert (bool(terminated[0]), bool(truncated[0])) == (False, True)


def frame_of(simulator: Simulator) -> NDArray[np.uint8]:
    return simulator.render(simulator.task.render.frame_pixels).copy()


def test_an_agent_sees_the_last_three_frames_of_its_episode(pole: Task) -> None:
    environment = RewardVectorEnv(pole, 1, PixelSum(), observations="pixels")
    reference = make_simulator(pole)
    observations, _ = environment.reset(seed=3)
    reference.reset(3)
    frames = [frame_of(reference)] * 3
    assert_array_equal(observations[0], np.concatenate(frames, axis=-1))
    for row in actions(pole, seed=1, steps=pole.episode_steps, count=1):
        observations, rewards, *_ = environment.step(np.array(row))
        reference.step(row[0])
        frames = [*frames[1:], frame_of(reference)]
        assert_array_equal(observations[0], np.concatenate(frames, axis=-1))
        assert rewards[0] == pixel_sum(reference)
    observations, *_ = environment.step(np.array(row))  # resets
    reference.reset()
    assert_array_equal(observations[0], np.concatenate([frame_of(reference)] * 3, axis=-1))


@pytest.mark.parametrize("reward", [PixelSum(), None], ids=["learned", "true"])
def test_an_agent_that_sees_pixels_shares_the_one_frame_of_each_decision(
    pole: Task, reward: PixelSum | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw, drawn = DmControlSimulator.render, []

    def count(simulator: DmControlSimulator, *args: Any, **kwargs: Any) -> NDArray[np.uint8]:
        drawn.append(simulator)
        return draw(simulator, *args, **kwargs)

    monkeypatch.setattr(DmControlSimulator, "render", count)
    environment = RewardVectorEnv(pole, 3, reward, observations="pixels")
    environment.reset()
    assert len(drawn) == 3  # the first frames, which no reward needs
    for number, row in enumerate(actions(pole, seed=0, steps=2 * pole.episode_steps, count=3), start=1):
        environment.step(np.array(row))
        assert len(drawn) == 3 * (1 + number)
    assert environment.costs.render > 0


def test_pixels_lie_in_their_space_and_simulators_start_on_their_own(falling_pole: Task) -> None:
    environment = RewardVectorEnv(falling_pole, 2, None, observations="pixels")
    states = RewardVectorEnv(falling_pole, 2, None)
    pixels, _ = environment.reset(seed=0)
    states.reset(seed=0)
    assert environment.observation_space.contains(pixels)
    starts = 0
    for step in range(40):  # one pole is always pushed right, the other one back and forth
        row = np.array([1, step % 2])
        pixels, *outcomes, _ = environment.step(row)
        for mine, other in zip(outcomes, states.step(row)[1:4], strict=True):
            assert_array_equal(mine, other)
        assert environment.observation_space.contains(pixels)
        restarted = [bool((stack[..., :3] == stack[..., 6:]).all()) for stack in pixels]
        starts += restarted == [True, False]
    assert starts > 1


def test_infos_hold_numbers_and_no_frames(pole: Task) -> None:
    environment = RewardVectorEnv(pole, 2, PixelSum())
    _, infos = environment.reset()
    assert infos.keys() == {"true_reward"}
    *_, infos = environment.step(np.zeros((2, 1)))
    assert infos.keys() == {"true_reward"}
    assert infos["true_reward"].dtype == np.float64
    assert isinstance(infos["true_reward"][0], float)


def test_arrays_of_a_step_are_not_overwritten_by_the_next(pole: Task) -> None:
    environment = RewardVectorEnv(pole, 1, PixelSum())
    environment.reset()
    first = environment.step(np.ones((1, 1)))
    kept = [part.copy() for part in (*first[:4], first[4]["true_reward"])]
    for _ in range(3):
        environment.step(np.ones((1, 1)))
    for part, copy in zip((*first[:4], first[4]["true_reward"]), kept, strict=True):
        assert_array_equal(part, copy)


def test_seeds_can_be_given_one_by_one(pole: Task) -> None:
    environment = RewardVectorEnv(pole, 2, None)
    same, _ = environment.reset(seed=[7, 7])
    assert_array_equal(same[0], same[1])
    other, _ = environment.reset(seed=[8, 7])
    assert_array_equal(other[1], same[1])
    assert not np.array_equal(other[0], same[0])


def test_resets_without_a_seed_go_on_with_new_episodes(pole: Task) -> None:
    environment = RewardVectorEnv(pole, 1, None, seed=5)
    first, _ = environment.reset()
    second, _ = environment.reset()
    assert not np.array_equal(first, second)
    again = RewardVectorEnv(pole, 1, None, seed=5)
    assert_array_equal(again.reset()[0], first)
    assert_array_equal(again.reset()[0], second)


def test_reward_that_is_not_finite_becomes_neutral_and_is_counted(pole: Task) -> None:
    environment = RewardVectorEnv(pole, 3, Constant([1.0, float("nan"), float("inf")]))
    environment.reset()
    _, rewards, *_ = environment.step(np.zeros((3, 1)))
    assert_array_equal(rewards, [1.0, 0.0, 0.0])
    assert environment.non_finite_rewards == 2


def test_reward_that_is_never_finite_ends_the_run(pole: Task) -> None:
    environment = RewardVectorEnv(replace(pole, episode_frames=2000), 1, Constant([float("nan")]))
    environment.reset()
    for _ in range(99):
        environment.step(np.zeros((1, 1)))
    with pytest.raises(DataError, match="NaN or infinity in 100 calls in a row: fit the student again"):
        environment.step(np.zeros((1, 1)))


def test_reward_can_be_exchanged_within_an_episode_and_the_count_goes_on(pole: Task) -> None:
    environment = RewardVectorEnv(pole, 1, Constant([float("nan")]))
    environment.reset()
    environment.step(np.zeros((1, 1)))
    environment.set_reward(Constant([3.0]), version=4)
    _, rewards, *_ = environment.step(np.zeros((1, 1)))
    assert_array_equal(rewards, [3.0])
    assert (environment.reward_version, environment.non_finite_rewards) == (4, 1)
    with pytest.raises(SettingsError, match="the reward of task 'pole' is the simulator's own"):
        RewardVectorEnv(pole, 1, None).set_reward(Constant([3.0]), version=1)


def test_reward_of_wrong_shape_is_refused(pole: Task) -> None:
    environment = RewardVectorEnv(pole, 2, Constant([1.0]))
    environment.reset()
    with pytest.raises(DataError, match=r"gave shape \(1,\) for 2 frames"):
        environment.step(np.zeros((2, 1)))


def test_costs_are_measured_by_phase(pole: Task) -> None:
    environment = RewardVectorEnv(pole, 2, PixelSum())
    assert environment.costs == Costs(0.0, 0.0, 0.0)
    environment.reset()
    environment.step(np.zeros((2, 1)))
    before = Costs(**vars(environment.costs))
    environment.step(np.zeros((2, 1)))
    assert 0 < before.simulate < environment.costs.simulate
    assert 0 < before.render < environment.costs.render
    assert 0 < before.reward < environment.costs.reward


def test_spaces_and_autoreset_are_what_rllib_reads(pole: Task) -> None:
    environment = RewardVectorEnv(pole, 3, None)
    assert isinstance(environment, VectorEnv)
    assert environment.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    assert environment.single_observation_space.shape == (5,)
    assert environment.observation_space.shape == (3, 5)
    assert environment.action_space.shape == (3, 1)
    assert [frame.shape for frame in environment.render()] == [(84, 84, 3)] * 3


def test_factory_makes_the_reward_where_the_environment_runs(pole: Task) -> None:
    class Config(dict[str, Any]):
        """As RLlib's: a mapping that also knows which runner it is for."""

        worker_index = 0

    config = Config(task=pole, num_envs=2, make_reward=PixelSum, seed=0)
    environment = make_vector_env(config)
    environment.reset()
    _, rewards, *_ = environment.step(np.zeros((2, 1)))
    assert (rewards > 1000).all()
    first, _ = make_vector_env(Config(config)).reset()
    config.worker_index = 1
    second, _ = make_vector_env(config).reset()
    assert not np.array_equal(first, second)


@pytest.mark.filterwarnings("ignore:.*infinity")  # the observation has no bounds, and Gymnasium mentions it
@pytest.mark.parametrize("observations", ["state", "pixels"])
def test_single_form_passes_gymnasiums_own_checks(pole: Task, observations: Observations) -> None:
    check_env(RewardEnv(pole, PixelSum(), observations), skip_render_check=True)


def test_single_forms_without_a_seed_differ_and_with_one_repeat(pole: Task) -> None:
    first, second = RewardEnv(pole, None), RewardEnv(pole, None)
    assert not np.array_equal(first.reset()[0], second.reset()[0])
    seeded, again = first.reset(seed=3)[0], second.reset(seed=3)[0]
    assert_array_equal(seeded, again)
    assert_array_equal(first.reset()[0], second.reset()[0])  # Gymnasium: resets go on from the seed
    assert not np.array_equal(first.reset()[0], seeded)


def test_physics_that_breaks_is_no_way_to_a_new_start(pole: Task) -> None:
    environment = RewardVectorEnv(pole, 1, PixelSum())
    before, _ = environment.reset(seed=0)
    simulator = environment._episodes[0].simulator
    state = simulator.state()
    state[3:5] = 1e12  # velocities
    simulator.set_state(state)
    observations, _, terminated, truncated, _ = environment.step(np.zeros((1, 1)))
    assert_array_equal(observations, before)
    assert (terminated[0], truncated[0]) == (False, True)


def test_single_form_agrees_with_the_vector_form(falling_pole: Task) -> None:
    task = replace(falling_pole, episode_frames=20)
    single, vector = RewardEnv(task, PixelSum()), RewardVectorEnv(task, 1, PixelSum())
    assert_array_equal(single.reset(seed=4)[0], vector.reset(seed=4)[0][0])
    for row in actions(task, seed=2, steps=20, count=1):
        one = single.step(row[0])
        many = vector.step(np.array(row))
        assert_array_equal(one[0], many[0][0])
        assert one[1:4] == (many[1][0], many[2][0], many[3][0])
        assert one[4]["true_reward"] == many[4]["true_reward"][0]
    assert one[3]
