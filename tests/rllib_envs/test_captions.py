"""What states are called, against states set by hand; and sentences against the tasks that use them."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from datamodules.conf import read_conf
from datamodules.errors import UnknownNameError
from datamodules.progress import silent
from datamodules.tasks import Prompts, Task
from lightning_modules.sentences import Sentences, read_sentences
from rllib_envs.captioned_frames import draw_frames
from rllib_envs.captions import captions_for, family_of, goal_measure, grade, physics_of
from rllib_envs.poses import sample_state
from rllib_envs.simulators import Simulator, make_simulator

ROOT = Path(__file__).parents[2]
CAPTIONS = ROOT / "conf" / "teacher" / "captions.yaml"
TASKS = sorted((ROOT / "conf" / "tasks").glob("*.yaml"))
TASKS.remove(ROOT / "conf" / "tasks" / "vlm_rm_humanoid.yaml")  # for the largest CLIP
ONE_OF_EACH_FAMILY = (
    "cartpole_swingup",
    "gym_cartpole",
    "reacher_easy",
    "walker_stand",
    "cheetah_run",
    "humanoid_stand",
    "gym_mountain_car",
)


@cache
def simulator(name: str) -> Simulator:
    return make_simulator(read_conf(Task, ROOT / "conf" / "tasks" / f"{name}.yaml"))


@cache
def sentences(held_out: bool = False) -> Sentences:
    return read_sentences(CAPTIONS, held_out)


def pole_at(angle: float) -> None:
    physics = physics_of(simulator("cartpole_swingup"))
    with physics.reset_context():
        physics.data.qpos[:] = 0.7, angle


@pytest.mark.parametrize(
    ("angle", "measure", "graded"), [(0, 1, 1), (np.pi / 2, 0, 0.5), (-np.pi / 2, 0, 0.5), (np.pi, -1, 0)]
)
def test_a_pole_is_measured_by_the_cosine_and_graded_by_the_angle(angle: float, measure: float, graded: float) -> None:
    pole_at(angle)
    assert goal_measure(simulator("cartpole_swingup")) == pytest.approx(measure, abs=1e-9)
    assert grade(simulator("cartpole_swingup")) == pytest.approx(graded, abs=1e-6)
    simulator("gym_cartpole").set_state(np.array([0.7, 0.0, angle, 0.0]))
    assert goal_measure(simulator("gym_cartpole")) == pytest.approx(measure, abs=1e-9)


def test_an_upright_pole_is_called_upright_and_a_hanging_one_is_not() -> None:
    goal = "pole vertically upright on top of the cart"
    pole_at(0.0)
    upright = captions_for(simulator("cartpole_swingup"), sentences())
    assert goal in upright
    assert "pole and cart" in upright
    pole_at(3.0)
    hanging = captions_for(simulator("cartpole_swingup"), sentences())
    assert goal not in hanging
    assert "the pole hanging straight down" in hanging
    assert "pole and cart" in hanging


def test_reacher_is_measured_by_the_distance_of_finger_and_target() -> None:
    physics = physics_of(simulator("reacher_easy"))
    with physics.reset_context():
        physics.data.qpos[:] = 0.0  # the arm stretches .24 m along x
        physics.named.model.geom_pos["target", :2] = 0.24, 0.1
    assert goal_measure(simulator("reacher_easy")) == pytest.approx(-0.1)
    assert grade(simulator("reacher_easy")) == pytest.approx(0.75)


@pytest.mark.parametrize(("name", "height"), [("walker_stand", 1.3), ("humanoid_stand", 1.69)])
def test_standing_is_height_times_uprightness(name: str, height: float) -> None:
    physics = physics_of(simulator(name))
    with physics.reset_context():
        physics.data.qpos[:] = physics.model.qpos0
    assert goal_measure(simulator(name)) == pytest.approx(height, abs=1e-6)
    assert grade(simulator(name)) == 1.0


def test_a_cheetah_on_its_back_is_as_far_from_running_as_can_be() -> None:
    physics = physics_of(simulator("cheetah_run"))
    with physics.reset_context():
        physics.named.data.qpos["rooty"] = np.pi
    assert goal_measure(simulator("cheetah_run")) == pytest.approx(-1.0)
    assert grade(simulator("cheetah_run")) == pytest.approx(0.0, abs=1e-6)


def test_a_car_at_the_flag_has_reached_the_goal() -> None:
    simulator("gym_mountain_car").set_state(np.array([0.45, 0.0]))
    assert grade(simulator("gym_mountain_car")) == 1.0
    assert "a car at the peak of the mountain, next to the yellow flag" in captions_for(
        simulator("gym_mountain_car"), sentences()
    )


@pytest.mark.parametrize("path", TASKS, ids=lambda path: path.stem)
def test_the_prompts_of_every_task_of_the_bundled_teacher_are_training_sentences(path: Path) -> None:
    task = read_conf(Task, path)
    family = family_of(task).name
    assert set(task.prompts.goal) <= set(sentences().of(family, 1.0))
    assert set(task.prompts.baseline) <= set(sentences().of(family, None))


def test_held_out_sentences_never_occur_in_training() -> None:
    def spoken(caption_openers: tuple[str, ...], texts: set[str]) -> set[str]:
        return {" ".join((opener + text).lower().split()) for opener in caption_openers for text in texts}

    trained = {caption.text for caption in sentences().captions}
    kept = {caption.text for caption in sentences(held_out=True).captions}
    assert len(kept) > 100
    assert not spoken(sentences().openers, trained) & spoken(("", *sentences(held_out=True).openers), kept)


def test_training_and_held_out_sentences_cover_the_same_grades() -> None:
    covered = [{(c.family, c.grade) for c in part.captions} for part in (sentences(), sentences(held_out=True))]
    assert covered[0] == covered[1]


@pytest.mark.parametrize("name", ONE_OF_EACH_FAMILY)
def test_sampled_states_reach_from_the_goal_to_its_opposite(name: str) -> None:
    generator = np.random.default_rng(0)
    grades = []
    for _ in range(80):
        sample_state(simulator(name), generator)
        grades.append(grade(simulator(name)))
    assert min(grades) < 0.15
    assert max(grades) > 0.9
    assert np.histogram(grades, 5, (0, 1))[0].min() >= 3


@pytest.mark.parametrize("name", ["walker_stand", "cheetah_run", "humanoid_stand"])
def test_sampled_bodies_do_not_sink_into_the_floor(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rllib_envs.poses.RESET_SHARE", 0.0)
    monkeypatch.setattr("rllib_envs.poses.LONGEST_NUDGE", 1)  # fast bodies press soft contacts in for a moment
    generator = np.random.default_rng(0)
    physics = physics_of(simulator(name))
    for _ in range(20):
        sample_state(simulator(name), generator)
        floor = [contact.dist for contact in physics.data.contact if 0 in (contact.geom1, contact.geom2)]
        assert min(floor, default=0.0) > -0.01


def test_the_goal_measure_rises_with_the_grade() -> None:
    generator = np.random.default_rng(1)
    for name in ONE_OF_EACH_FAMILY:
        pairs = []
        for _ in range(20):
            sample_state(simulator(name), generator)
            pairs.append((grade(simulator(name)), goal_measure(simulator(name))))
        graded, measured = np.array(sorted(pairs)).T
        inside = (graded > 0) & (graded < 1)
        assert (np.diff(measured[inside]) >= -1e-9).all()


def test_frames_are_the_same_for_the_same_seed_and_come_from_the_cache(tmp_path: Path) -> None:
    task = simulator("walker_stand").task
    drawn = [draw_frames(task, 12, 5, tmp_path / folder, silent) for folder in ("one", "two", "one")]
    for other in drawn[1:]:
        np.testing.assert_array_equal(other.frames, drawn[0].frames)
        np.testing.assert_array_equal(other.measures, drawn[0].measures)
    assert drawn[0].frames.shape == (12, 96, 96, 3)
    assert drawn[0].family == "walker"


def test_other_simulators_are_refused_with_the_way_out() -> None:
    pendulum = Task("pendulum", "dm_control", "pendulum-swingup", Prompts(("a pendulum upright",)))
    with pytest.raises(UnknownNameError, match="general CLIP"):
        family_of(pendulum)
