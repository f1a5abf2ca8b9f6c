"""The renderer: what the quality settings do, what is shared, and what it leaves as it was."""

import gc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from dm_control import suite
from numpy.testing import assert_array_equal

from datamodules.errors import SettingsError
from datamodules.tasks import Camera, Prompts, RenderSettings, Task
from rllib_envs.gl import gl_context
from rllib_envs.simulators import make_simulator

WALKER = Task("walker", "dm_control", "walker-walk", Prompts(goal=("anything",)), camera=Camera(name="side"))


class Freed:
    """Counts how often it was freed."""

    calls = 0

    def free(self) -> None:
        self.calls += 1


def test_full_quality_gives_the_pixels_of_dm_control() -> None:
    """dm_control draws shadows, reflections and four samples a pixel; ours asked for the same must be the same."""
    task = replace(WALKER, render=RenderSettings(shadows=True, reflections=True, multisamples=4))
    simulator = make_simulator(task)
    simulator.reset(seed=3)
    environment = suite.load("walker", "walk", task_kwargs={"random": 0})
    environment.task.random.seed(3)
    environment.reset()
    theirs = environment.physics.render(height=84, width=84, camera_id="side")
    difference = np.abs(simulator.render(84).astype(int) - theirs)
    assert np.mean(difference > 2) < 0.01


def test_dm_controls_own_renderer_works_beside_ours() -> None:
    simulator = make_simulator(WALKER)
    environment = suite.load("walker", "walk", task_kwargs={"random": 0})
    environment.reset()
    before = environment.physics.render(height=84, width=84, camera_id=0)
    simulator.reset(seed=0)
    ours = simulator.render(84).copy()
    assert_array_equal(environment.physics.render(height=84, width=84, camera_id=0), before)
    assert_array_equal(simulator.render(84), ours)


def test_simulators_of_different_models_draw_by_turns() -> None:
    tasks = [WALKER, replace(WALKER, simulator="cheetah-run"), replace(WALKER, render=RenderSettings(multisamples=4))]
    simulators = [make_simulator(task) for task in tasks]
    for simulator in simulators:
        simulator.reset(seed=0)
    expected = [simulator.render(84).copy() for simulator in simulators]
    for simulator in simulators:
        simulator.reset(seed=1)
    other = [simulator.render(84).copy() for simulator in reversed(simulators)][::-1]
    for simulator in simulators:
        simulator.reset(seed=0)
    for simulator, frame, wrong in zip(simulators, expected, other, strict=True):
        assert_array_equal(simulator.render(84), frame)
        assert not np.array_equal(frame, wrong)


def test_threads_draw_by_turns() -> None:
    ours, theirs = make_simulator(WALKER), make_simulator(replace(WALKER, simulator="cheetah-run"))
    with ThreadPoolExecutor(1) as thread:  # it lives through all of this
        ours.reset(seed=0)
        theirs.reset(seed=0)
        first = [simulator.render(84).copy() for simulator in (ours, theirs)]
        for simulator, frame in zip((ours, theirs), first, strict=True):
            assert_array_equal(thread.submit(simulator.render, 84).result(), frame)
            assert_array_equal(simulator.render(84), frame)


def test_garbage_that_another_thread_collects_is_freed_at_the_next_drawing() -> None:
    """Freed where it is collected, it would leave the GL context with that thread, and nobody else could draw."""
    kept = make_simulator(WALKER)
    kept.reset(seed=0)
    dropped = make_simulator(replace(WALKER, render=RenderSettings(multisamples=2)))
    dropped.reset(seed=0)
    dropped.render(84)
    cycle: list[object] = [dropped]
    cycle.append(cycle)
    del dropped, cycle
    freed = Freed()
    with ThreadPoolExecutor(1) as thread:
        thread.submit(gl_context().discard, freed).result()
        thread.submit(gc.collect).result()
        assert freed.calls == 0
        kept.render(84)
        assert freed.calls == 1


def test_fast_frames_show_the_same_scene_as_full_ones() -> None:
    fast, full = make_simulator(WALKER), make_simulator(replace(WALKER, render=RenderSettings(multisamples=4)))
    fast.reset(seed=0)
    full.reset(seed=0)
    assert np.abs(fast.render(84).astype(int) - full.render(84)).mean() < 3


@pytest.mark.parametrize("setting", ["shadows", "reflections"])
def test_quality_settings_reach_the_picture(setting: str) -> None:
    cartpole = Task("pole", "dm_control", "cartpole-balance", Prompts(goal=("anything",)))
    plain = make_simulator(cartpole)
    richer = make_simulator(replace(cartpole, render=RenderSettings(**{setting: True})))
    plain.reset(seed=0)
    richer.reset(seed=0)
    assert not np.array_equal(richer.render(84), plain.render(84))


def test_sizes_can_be_mixed_and_grow() -> None:
    simulator = make_simulator(WALKER)
    simulator.reset(seed=0)
    small = simulator.render(84).copy()
    large = simulator.render(256)
    assert large.shape == (256, 256, 3)
    assert_array_equal(simulator.render(84), small)
    shrunk = large[1::3, 1::3][:84, :84]
    assert np.abs(shrunk.astype(int) - small[: shrunk.shape[0], : shrunk.shape[1]]).mean() < 40


def test_frame_is_written_into_the_given_array() -> None:
    simulator = make_simulator(WALKER)
    simulator.reset(seed=0)
    frames = np.zeros((2, 84, 84, 3), dtype=np.uint8)
    assert simulator.render(84, out=frames[1]).base is frames
    assert_array_equal(frames[1], simulator.render(84))
    assert not frames[0].any()


@pytest.mark.parametrize(
    "out", [np.zeros((84, 83, 3), dtype=np.uint8), np.zeros((84, 84, 3), dtype=np.float32)], ids=["shape", "dtype"]
)
def test_array_of_wrong_shape_or_dtype_is_refused(out: np.ndarray) -> None:
    simulator = make_simulator(WALKER)
    simulator.reset(seed=0)
    with pytest.raises(SettingsError, match=r"must be uint8 \(84, 84, 3\)"):
        simulator.render(84, out=out)


def test_free_camera_looks_where_it_is_told() -> None:
    """A camera 2 m in front of the pole's tip shows the pole in the middle; turned away from it shows none."""
    pole = Task("pole", "dm_control", "cartpole-balance", Prompts(goal=("anything",)))
    at_pole = make_simulator(replace(pole, camera=Camera(distance=2.0, elevation=0.0, lookat=(0.0, 0.0, 1.5))))
    beside = make_simulator(replace(pole, camera=Camera(distance=2.0, elevation=0.0, lookat=(50.0, 0.0, 1.5))))

    def warm_pixels(frame: np.ndarray) -> int:
        return int((frame[..., 0].astype(int) > frame[..., 2].astype(int) + 40).sum())

    at_pole.reset(seed=0)
    beside.reset(seed=0)
    assert warm_pixels(at_pole.render(84)[30:60, 35:49]) > 30
    assert warm_pixels(beside.render(84)) == 0


def test_terrain_drawn_anew_is_drawn() -> None:
    escape = Task("escape", "dm_control", "quadruped-escape", Prompts(goal=("anything",)))
    first, second = make_simulator(escape), make_simulator(escape)
    first.reset(seed=1)
    frame = first.render(84).copy()
    second.reset(seed=2)
    assert not np.array_equal(second.render(84), frame)
    second.set_state(first.state())
    assert_array_equal(second.render(84), frame)
    assert_array_equal(first.render(84), frame)
