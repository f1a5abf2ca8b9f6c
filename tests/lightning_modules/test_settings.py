"""Teacher settings: one CLIP or several, as a YAML file says it."""

from pathlib import Path
from typing import Any

import pytest

from datamodules.conf import read_conf
from datamodules.errors import SettingsError
from lightning_modules.settings import TeacherSettings


def test_one_clip_is_a_plain_name(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text("model: ViT-B-32\nweights: openai\nprecision: bfloat16\n")
    settings = read_conf(TeacherSettings, tmp_path / "one.yaml")
    assert settings == TeacherSettings("ViT-B-32", "openai", precision="bfloat16")
    assert settings.clips == (("ViT-B-32", "openai"),)


def test_several_clips_are_two_lists(tmp_path: Path) -> None:
    (tmp_path / "two.yaml").write_text("model: [ViT-B-32, ViT-L-14]\nweights: [openai, laion2b_s32b_b82k]\n")
    settings = read_conf(TeacherSettings, tmp_path / "two.yaml")
    assert settings == TeacherSettings(("ViT-B-32", "ViT-L-14"), ("openai", "laion2b_s32b_b82k"))
    assert settings.clips == (("ViT-B-32", "openai"), ("ViT-L-14", "laion2b_s32b_b82k"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": ("ViT-B-32", "RN50"), "weights": "openai"}, "names 2 CLIPs and teacher.weights 1"),
        ({"model": (), "weights": ()}, "names 0 CLIPs"),
        ({"model": ("RN50", "RN50"), "weights": ("openai", "openai")}, "name a CLIP twice"),
        ({"model": "RN50", "weights": "openai", "batch_size": 0}, "between 1 and 4096"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        TeacherSettings(**settings)
