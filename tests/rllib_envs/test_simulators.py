"""Every simulator behind the one face, with the shipped tasks and with tasks made here."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dm_control import suite
from gymnasium import spaces
from numpy.testing import assert_allclose, assert_array_equal

from datamodules.conf import read_conf
from datamodules.errors import DataError, SettingsError, UnknownNameError
from datamodules.tasks import Camera, Prompts, RenderSettings, Task
from rllib_envs.reward_env import RewardVectorEnv
from rllib_envs.simulators import ActionScale, Simulator, make_simulator

SHIPPED = sorted(path.stem for path in (Path(__file__).parents[2] / "conf/tasks").glob("*.yaml"))
PROMPTS = Prompts(goal=("anything",))


def roll(simulator: Simulator, steps: int, seed: int = 0) -> None:
    simulator.action_space.seed(seed)
    for _ in range(steps):
        simulator.step(simulator.action_space.sample())


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_task_gives_the_same_pixels_after_set_state(name: str, tasks_folder: Path) -> None:
    task = read_conf(Task, tasks_folder / f"{name}.yaml")
    first, second = make_simulator(task), make_simulator(task)
    first.reset(seed=1)
    roll(first, 3)
    for pixels in (task.render.frame_pixels, task.render.teacher_pixels):
        frame = first.render(pixels).copy()
        second.reset(seed=2)  # another target, another pose
        assert not np.array_equal(second.render(pixels), frame)
        second.set_state(first.state())
        assert_array_equal(second.render(pixels), frame)
        assert_array_equal(second.state(), first.state())


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_task_goes_on_alike_after_set_state(name: str, tasks_folder: Path) -> None:
    task = read_conf(Task, tasks_folder / f"{name}.yaml")
    first, second = make_simulator(task), make_simulator(task)
    generator = np.random.default_rng(0)
    first.random_state(generator)
    roll(first, 3)
    second.reset(seed=5)
    second.set_state(first.state())
    action = first.action_space.sample()
    one, other = first.step(action), second.step(action)
    assert_array_equal(one.observation, other.observation)
    # Gymnasium's humanoid takes its speed from positions that are one physics step old, and no state holds those
    tolerance = 1e-2 if name == "vlm_rm_humanoid" else 0.0
    assert one.true_reward == pytest.approx(other.true_reward, abs=tolerance, rel=0.0)
    assert one.terminated == other.terminated


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_task_rewards_lie_in_the_stated_range(name: str, tasks_folder: Path) -> None:
    task = read_conf(Task, tasks_folder / f"{name}.yaml")
    simulator = make_simulator(task)
    generator = np.random.default_rng(3)
    simulator.action_space.seed(0)
    low, high = task.reward_per_frame
    for _ in range(20):
        simulator.random_state(generator)
        outcome = simulator.step(simulator.action_space.sample())
        assert outcome.observation.dtype == np.float32
        assert simulator.observation_space.contains(outcome.observation)
        assert low * task.frames_per_step <= outcome.true_reward <= high * task.frames_per_step


def test_rendering_leaves_the_physics_alone(tasks_folder: Path) -> None:
    for name in ("gym_mountain_car", "reacher_easy"):
        task = read_conf(Task, tasks_folder / f"{name}.yaml")
        watched, unwatched = make_simulator(task), make_simulator(task)
        watched.reset(seed=0)
        unwatched.reset(seed=0)
        for _ in range(5):
            watched.render(84)
            roll(watched, 1)
            roll(unwatched, 1)
        assert_array_equal(watched.state(), unwatched.state())


def test_pixels_of_two_simulators_do_not_mix(tasks_folder: Path) -> None:
    task = read_conf(Task, tasks_folder / "reacher_easy.yaml")
    first, second = make_simulator(task), make_simulator(task)
    first.reset(seed=1)
    frame = first.render(84).copy()
    second.reset(seed=2)
    second.render(84)
    assert_array_equal(first.render(84), frame)


def test_frames_per_step_sums_the_suites_own_rewards() -> None:
    simulator = make_simulator(Task("pole", "dm_control", "cartpole-balance", PROMPTS, frames_per_step=4))
    environment = suite.load("cartpole", "balance", task_kwargs={"random": 7})
    simulator.reset(seed=7)
    environment.task.random.seed(7)
    environment.reset()
    outcome = simulator.step(np.array([0.5]))
    frames = [environment.step([0.5]) for _ in range(4)]
    assert outcome.true_reward == pytest.approx(sum(frame.reward for frame in frames))
    assert_allclose(
        outcome.observation, np.concatenate(list(frames[-1].observation.values())).astype(np.float32), rtol=1e-6
    )


def test_dm_controls_time_limit_does_not_reset_the_simulator() -> None:
    simulator = make_simulator(Task("pole", "dm_control", "cartpole-balance", PROMPTS, frames_per_step=500))
    simulator.reset(seed=0)
    for _ in range(3):  # the suite's own limit is 1000 frames
        assert not simulator.step(np.zeros(1)).terminated
    assert simulator.state()[0] == pytest.approx(15.0)  # seconds of simulated time


def test_gymnasium_runs_on_after_its_own_termination(falling_pole: Task) -> None:
    simulator = make_simulator(replace(falling_pole, frames_per_step=50))
    simulator.reset(seed=0)
    first = simulator.step(1)
    second = simulator.step(1)
    assert first.terminated
    assert second.terminated
    assert 5 <= first.true_reward <= 15  # a pole pushed one way falls within about ten frames of reward 1
    assert np.isfinite(second.observation).all()
    assert second.true_reward == 0  # Gymnasium pays for the frame in which it falls, and for none after it
    simulator.set_state(np.array([0.0, 0.0, 0.05, 0.0]))
    assert simulator.step(1).true_reward >= 5


def test_actions_between_minus_one_and_one_span_the_simulators_range() -> None:
    scale = ActionScale(np.array([-2.0, 0.0, -1e10]), np.array([2.0, 10.0, 1e10]))
    assert_allclose(scale(np.array([-1.0, -1.0, -1.0])), [-2.0, 0.0, -1.0])
    assert_allclose(scale(np.array([0.5, 0.5, 0.5])), [1.0, 7.5, 0.5])
    assert_allclose(scale(np.array([3.0, 3.0, 3.0])), [2.0, 10.0, 1.0])


def test_gymnasiums_own_action_range_is_hidden() -> None:
    pendulum = make_simulator(Task("pendulum", "gymnasium", "Pendulum-v1", PROMPTS))
    assert pendulum.action_space == spaces.Box(-1.0, 1.0, (1,), np.float32)


def test_classic_control_keeps_its_proportions(falling_pole: Task) -> None:
    simulator = make_simulator(falling_pole)
    simulator.reset(seed=0)
    simulator.set_state(np.array([0.0, 0.0, np.pi / 2, 0.0]))  # the pole lies to the right
    across = simulator.render(200)
    simulator.set_state(np.zeros(4))
    upright = simulator.render(200)

    def brown(frame: np.ndarray) -> np.ndarray:
        return np.abs(frame.astype(int) - (202, 152, 101)).max(axis=2) < 30

    length_across = np.ptp(np.flatnonzero(brown(across).any(axis=0)))
    length_upright = np.ptp(np.flatnonzero(brown(upright).any(axis=1)))
    assert abs(length_across - length_upright) <= 2


@pytest.mark.parametrize(
    ("family", "simulator", "offer"),
    [
        ("dm_control", "cartpole-swingdown", "cartpole-swingup"),
        ("dm_control", "wlaker-walk", "walker-walk"),
        ("gymnasium", "CartPol-v1", "CartPole-v1"),
        ("gymnasium", "MountainCarContinous-v0", "MountainCarContinuous-v0"),
    ],
)
def test_unknown_simulator_offers_the_closest_names(family: str, simulator: str, offer: str) -> None:
    with pytest.raises(UnknownNameError, match=f"unknown .* '{simulator}'.*did you mean.*'{offer}'"):
        make_simulator(Task("odd", family, simulator, PROMPTS))  # type: ignore[arg-type]


def test_unknown_camera_offers_the_closest_names(pole: Task) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown camera 'lookatcar': did you mean 'lookatcart'\?"):
        make_simulator(replace(pole, camera=Camera(name="lookatcar")))
    with pytest.raises(UnknownNameError, match="unknown camera '7'"):
        make_simulator(replace(pole, camera=Camera(name=7)))


def test_classic_control_has_no_camera(falling_pole: Task) -> None:
    with pytest.raises(SettingsError, match="CartPole-v1 has none"):
        make_simulator(replace(falling_pole, camera=Camera(name=0)))


def test_simulator_without_a_state_is_refused() -> None:
    with pytest.raises(SettingsError, match="neither a MuJoCo nor a classic control"):
        make_simulator(Task("ice", "gymnasium", "FrozenLake-v1", PROMPTS))


OWN = """
import gymnasium
from gymnasium.envs.mujoco.inverted_pendulum_v5 import InvertedPendulumEnv


class Mine(InvertedPendulumEnv):
    def step(self, action):
        observation, _, terminated, truncated, info = super().step(action)
        return observation, 7.0, terminated, truncated, info


gymnasium.register("Mine-v0", Mine)
"""


def test_an_environment_of_ones_own_is_named_with_the_module_that_registers_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_environments.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    simulator = make_simulator(Task("mine", "gymnasium", "my_environments:Mine-v0", PROMPTS, frames_per_step=2))
    simulator.reset(0)
    assert simulator.step(np.zeros(1, np.float32)).true_reward == 14.0
    state, frame = simulator.state(), simulator.render(64)
    simulator.reset(1)
    simulator.set_state(state)
    assert frame.std() > 0
    assert_array_equal(simulator.render(64), frame)


def test_a_module_that_cannot_be_imported_is_named() -> None:
    with pytest.raises(SettingsError, match="names the module 'no_such_module', which cannot be imported"):
        make_simulator(Task("mine", "gymnasium", "no_such_module:Mine-v0", PROMPTS))


def test_state_of_another_simulator_is_refused(pole: Task, falling_pole: Task) -> None:
    with pytest.raises(DataError, match=r"shape \(3,\) does not belong to task 'pole'"):
        make_simulator(pole).set_state(np.zeros(3))
    with pytest.raises(DataError, match=r"its states have shape \(4,\)"):
        make_simulator(falling_pole).set_state(np.zeros(3))


def test_diverging_physics_ends_the_episode(pole: Task) -> None:
    simulator = make_simulator(pole)
    simulator.reset(seed=0)
    state = simulator.state()
    state[3:5] = 1e12  # velocities
    simulator.set_state(state)
    outcome = simulator.step(np.zeros(1))
    assert outcome.terminated
    assert np.isfinite(outcome.observation).all()


@pytest.mark.parametrize("simulator", ["HalfCheetah-v5", "Reacher-v5"])
def test_gymnasiums_mujoco_shows_the_state_it_returns(simulator: str) -> None:
    task = Task("mujoco", "gymnasium", simulator, PROMPTS)
    first, second = make_simulator(task), make_simulator(task)
    first.reset(seed=0)
    roll(first, 3)
    second.set_state(first.state())
    assert_array_equal(second.render(84), first.render(84))


def test_the_papers_humanoid_is_in_the_frame_from_head_to_foot_for_100_decisions(tasks_folder: Path) -> None:
    task = read_conf(Task, tasks_folder / "vlm_rm_humanoid.yaml")
    small = replace(task, render=RenderSettings(frame_pixels=96))
    environment = RewardVectorEnv(small, 1, lambda frames: np.zeros(len(frames), np.float32))
    environment.reset(seed=0)
    environment.action_space.seed(0)
    for step in range(100):
        frame = environment.render()[0].astype(int)
        rows, columns = np.nonzero(frame[..., 0] - frame[..., 2] > 30)  # the body is brown; floor and sky are not
        assert rows.size > 0.01 * 96**2
        assert min(rows.min(), columns.min()) > 0
        assert max(rows.max(), columns.max()) < 95
        _, _, terminated, truncated, _ = environment.step(environment.action_space.sample())
        assert not terminated[0]  # though it falls, which ends an episode in Gymnasium's own reward
        assert truncated[0] == (step == 99)
    environment.close()


def test_one_yaml_file_is_a_new_task(tmp_path: Path) -> None:
    path = tmp_path / "pendulum.yaml"
    path.write_text(
        "name: pendulum\nfamily: dm_control\nsimulator: pendulum-swingup\nprompts:\n  goal: [a pendulum pointing up]\n"
    )
    simulator = make_simulator(read_conf(Task, path))
    assert simulator.reset(seed=0).shape == (3,)  # cos and sin of the angle, angular velocity
    assert simulator.render(84).std() > 5


def test_random_states_show_upright_and_hanging_poles(tasks_folder: Path) -> None:
    simulator = make_simulator(read_conf(Task, tasks_folder / "cartpole_swingup.yaml"))
    generator = np.random.default_rng(0)
    cosines = []
    for _ in range(200):
        simulator.random_state(generator)
        cosines.append(np.cos(simulator.state()[2]))
    assert np.mean(np.array(cosines) > 0.95) > 0.1
    assert np.mean(np.array(cosines) < -0.95) > 0.1
    assert np.mean(np.abs(cosines) < 0.5) > 0.05
