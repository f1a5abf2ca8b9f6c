"""Scores on a teacher whose answers are known: a tiny real CLIP whose reward is used to make the goal measure."""

import json

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from datamodules.tasks import Prompts
from lightning_modules.caption_batches import CaptionedFrames
from lightning_modules.rewards import goal_baseline_reward
from lightning_modules.settings import TeacherSettings
from lightning_modules.teacher import ClipTeacher
from lightning_modules.teacher_scores import markdown_table, score_task
from tests.captioned_squares import SENTENCES, squares

PROMPTS = Prompts(goal=("a bright square",), baseline=("a square",), alpha=0.5)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> ClipTeacher:
    folder = tmp_path_factory.mktemp("scored")
    vision = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8}
    text = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    content = {"embed_dim": 24, "vision_cfg": vision, "text_cfg": text}
    (folder / "scored-test-clip.json").write_text(json.dumps(content))
    torch.manual_seed(0)
    save_file(open_clip.CLIP(**content).state_dict(), folder / "w.safetensors")
    return ClipTeacher(TeacherSettings(str(folder / "scored-test-clip.json"), str(folder / "w.safetensors")))


def frames_measured_by(teacher: ClipTeacher, alpha: float, sign: int) -> CaptionedFrames:
    """Frames whose goal measure is the teacher's own reward at one alpha, or its opposite."""
    data = squares(30, 0)
    goal, baseline = teacher.embed_prompts(PROMPTS.goal), teacher.embed_prompts(PROMPTS.baseline)
    reward = goal_baseline_reward(teacher.embed_frames(data.frames), goal, baseline, alpha)
    return CaptionedFrames("square", "square", data.frames, data.grades, sign * reward, data.measures)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_measure_that_is_the_reward_itself_correlates_fully(teacher: ClipTeacher, alpha: float, sign: int) -> None:
    score = score_task(teacher, frames_measured_by(teacher, alpha, sign), PROMPTS, SENTENCES)
    assert score.training[f"{alpha:g}"] == pytest.approx(sign)
    assert score.frames == 30


def test_held_out_sentences_are_scored_one_at_a_time(teacher: ClipTeacher) -> None:
    score = score_task(teacher, frames_measured_by(teacher, 0.0, 1), PROMPTS, SENTENCES)
    assert score.held_out["0"] <= 1.0
    assert score.worst_held_out["0"] <= score.held_out["0"]
    row = markdown_table([score]).splitlines()[-1]
    assert row.startswith("| square | 30 | 1.000 / ")
    assert score.best_alpha == "0"
