"""Which CLIPs are the same: equal weights are not enough, and equal settings may be spelled in several ways."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datamodules.conf import read_conf
from datamodules.errors import DataError
from lightning_modules.labelling import label_frames
from lightning_modules.settings import TeacherSettings
from lightning_modules.student_files import read_card
from lightning_modules.teacher import ClipTeacher
from tests.data_sets import write_frames
from tests.lightning_modules.clips import CONFIG, write_clip

ROOT = Path(__file__).parents[2]
OPENAI = {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> TeacherSettings:
    return write_clip(tmp_path_factory.mktemp("teacher"), "digest-test-clip")


@pytest.fixture(scope="module")
def teacher(settings: TeacherSettings) -> ClipTeacher:
    return ClipTeacher(settings)


def with_config(settings: TeacherSettings, folder: Path, name: str, **changes: Any) -> TeacherSettings:
    """The same file of weights in a model of another configuration."""
    return replace(settings, model=write_clip(folder, name, **changes).model)


def in_folder(settings: TeacherSettings, folder: Path, config: dict[str, Any], **preprocessing: Any) -> TeacherSettings:
    """The same file of weights in a folder as hubs have it."""
    folder.mkdir()
    (folder / "open_clip_model.safetensors").write_bytes(Path(str(settings.weights)).read_bytes())
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocessing}))
    return replace(settings, weights=str(folder))


def test_it_is_of_the_weights_and_what_surrounds_them(teacher: ClipTeacher, settings: TeacherSettings) -> None:
    weights = hashlib.sha256(Path(str(settings.weights)).read_bytes()).hexdigest()
    said = (
        '{"preprocessing":{"fill_color":0,"interpolation":"bicubic","mean":[0.48145466,0.4578275,0.40821073],'
        '"resize_mode":"shortest","size":[32,32],"std":[0.26862954,0.26130258,0.27577711]},"quick_gelu":false,'
        '"text":{"heads":2,"layers":1,"width":16},"vision":{"head_width":16,"layers":1,"patch_size":8,"width":32},'
        f'"weights":"{weights}"}}'
    )
    assert teacher.digest == hashlib.sha256(said.encode()).hexdigest()


@pytest.mark.parametrize(
    "changes",
    [
        {"quick_gelu": True},
        {"text_cfg": {**CONFIG["text_cfg"], "heads": 4}},
        {"text_cfg": {**CONFIG["text_cfg"], "no_causal_mask": True}},
        {"vision_cfg": {**CONFIG["vision_cfg"], "head_width": 8}},
    ],
    ids=["activation", "heads of the text tower", "mask of the text tower", "heads of the image tower"],
)
def test_the_same_weights_in_another_model_are_another_teacher(
    teacher: ClipTeacher, settings: TeacherSettings, tmp_path: Path, changes: dict[str, Any]
) -> None:
    other = ClipTeacher(with_config(settings, tmp_path, "digest-other-clip", **changes))
    frames, sentences = np.arange(32 * 32 * 3, dtype=np.uint8).reshape(1, 32, 32, 3), ["a pole"]
    there, here = (np.concatenate([one.embed_frames(frames), one.embed_prompts(sentences)]) for one in (other, teacher))
    assert np.abs(there - here).max() > 1e-4
    assert other.digest != teacher.digest


@pytest.mark.parametrize(
    "changed", [{"mean": [0.5] * 3}, {"std": [0.5] * 3}, {"interpolation": "bilinear"}, {"resize_mode": "squash"}]
)
def test_the_same_weights_with_another_preprocessing_are_another_teacher(
    teacher: ClipTeacher, settings: TeacherSettings, tmp_path: Path, changed: dict[str, Any]
) -> None:
    assert ClipTeacher(in_folder(settings, tmp_path / "hub", CONFIG, **changed)).digest != teacher.digest


def test_the_same_teacher_may_be_spelled_in_another_way(
    teacher: ClipTeacher, settings: TeacherSettings, tmp_path: Path
) -> None:
    spelled_out = {
        **CONFIG,
        "quick_gelu": False,
        "vision_cfg": {**CONFIG["vision_cfg"], "mlp_ratio": 4.0, "pool_type": "tok", "patch_dropout": 0.5},
        "text_cfg": {**CONFIG["text_cfg"], "pool_type": "argmax", "no_causal_mask": False},
    }
    hub = in_folder(settings, tmp_path / "hub", spelled_out, **OPENAI, size=[32, 32], mode="RGB", fill_color=0)
    assert ClipTeacher(hub).digest == teacher.digest


def test_it_does_not_depend_on_the_number_format(teacher: ClipTeacher, settings: TeacherSettings) -> None:
    assert ClipTeacher(replace(settings, precision="bfloat16")).digest == teacher.digest


def test_labels_of_the_same_weights_with_another_activation_or_preprocessing_are_refused(
    teacher: ClipTeacher, settings: TeacherSettings, tmp_path: Path
) -> None:
    frames, out = write_frames(tmp_path / "frames", 2, 3), tmp_path / "labels"
    label_frames(frames, teacher, out)
    before = (out / "manifest.json").read_bytes()
    corrected = with_config(settings, tmp_path, "digest-quick-clip", quick_gelu=True)
    for other in (corrected, in_folder(settings, tmp_path / "hub", CONFIG, mean=[0.5] * 3)):
        with pytest.raises(
            DataError,
            match=r"labels belongs to the teacher digest-test-clip/digest-test-clip \(digest .*\), not to .* "
            r"\(digest .*\), whose weights, preprocessing or model settings are others: choose another output folder",
        ):
            label_frames(frames, ClipTeacher(other), out)
    assert (out / "manifest.json").read_bytes() == before


def test_the_bundled_student_learned_from_the_bundled_teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # the conf file names the weights from there
    bundled = ClipTeacher(replace(read_conf(TeacherSettings, ROOT / "conf/teacher/bundled.yaml"), device="cpu"))
    assert read_card(ROOT / "conf/student/cartpole_swingup").teacher == bundled.entry
