"""The shipped bundled teacher on states drawn for this test, and the making of one from nothing, made small."""

from pathlib import Path

import numpy as np
import open_clip
import pytest

from datamodules.conf import read_conf
from datamodules.errors import SettingsError
from datamodules.progress import silent
from datamodules.results import read_json
from datamodules.tasks import Task
from lightning_modules.sentences import read_sentences
from lightning_modules.settings import CaptionedClipSettings, TeacherSettings
from lightning_modules.teacher import ClipTeacher
from lightning_modules.teacher_scores import score_task
from rllib_envs.captioned_frames import draw_frames
from rllib_envs.captions import physics_of
from rllib_envs.simulators import make_simulator
from rllib_envs.teacher_training import SEEDS, train_bundled_teacher

ROOT = Path(__file__).parents[2]
FRESH_SEED = 77_000_001


@pytest.fixture(autouse=True)
def at_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Conf files name each other from the repository's root."""
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="module")
def bundled() -> ClipTeacher:
    teacher = ROOT / "conf" / "teacher"
    return ClipTeacher(
        TeacherSettings(str(teacher / "bundled_model.json"), str(teacher / "bundled.safetensors"), device="cpu")
    )


def task_of(name: str) -> Task:
    return read_conf(Task, ROOT / "conf" / "tasks" / f"{name}.yaml")


def test_bundled_settings_name_the_files_in_the_repository() -> None:
    settings = read_conf(TeacherSettings, "conf/teacher/bundled.yaml")
    assert Path(settings.model).is_file()
    assert Path(settings.weights).stat().st_size <= 24 * 2**20


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cartpole_swingup", "reacher_easy", "walker_stand"])
def test_bundled_teacher_orders_states_it_never_saw(name: str, bundled: ClipTeacher, tmp_path: Path) -> None:
    assert FRESH_SEED not in SEEDS.values()
    data = draw_frames(task_of(name), 150, FRESH_SEED, tmp_path, silent)
    score = score_task(bundled, data, task_of(name).prompts, read_sentences(Path("conf/teacher/captions.yaml"), True))
    assert score.training[score.best_alpha] >= 0.9
    assert score.held_out[score.best_alpha] >= 0.8


def test_reward_rises_steadily_as_the_pole_rises_wherever_the_cart_is(bundled: ClipTeacher) -> None:
    simulator = make_simulator(task_of("cartpole_swingup"))
    physics = physics_of(simulator)
    angles = np.linspace(np.pi, 0.0, 10)
    goal = bundled.embed_prompts(["pole vertically upright on top of the cart"])[0]
    for position in (-1.5, 0.0, 1.5):
        frames = []
        for angle in angles:
            with physics.reset_context():
                physics.data.qpos[:] = position, angle
            frames.append(simulator.render(simulator.task.render.teacher_pixels))
        assert (np.diff(bundled.embed_frames(np.stack(frames)) @ goal) > 0).all()


@pytest.mark.slow
def test_a_teacher_is_made_and_tested_from_nothing(tmp_path: Path) -> None:
    result = train_bundled_teacher(tmp_path, CaptionedClipSettings(steps=20, batch_size=8), share=0.001)
    figures = read_json(result)
    weights = tmp_path / "bundled.safetensors"
    open_clip.add_model_config(ROOT / "conf" / "teacher" / "bundled_model.json")
    open_clip.create_model("bundled_model", pretrained=str(weights), require_pretrained=True)
    assert figures["bytes"] == weights.stat().st_size
    assert [row["task"] for row in figures["scores"]["wide"]] == list(figures["settings"]["frames"])
    assert "| walker_stand | 10 |" in (tmp_path / "figures.md").read_text()


def test_a_share_outside_its_range_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="share is 0"):
        train_bundled_teacher(tmp_path, CaptionedClipSettings(), share=0.0)
