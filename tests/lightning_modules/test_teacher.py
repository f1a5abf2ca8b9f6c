"""ClipTeacher on a small real open_clip model whose checkpoint the test makes, beside open_clip's own calls."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from datamodules.errors import DataError, MissingDependencyError, SettingsError, UnknownNameError
from lightning_modules.settings import TeacherSettings
from lightning_modules.teacher import ClipTeacher, check_prompts, find_teacher

CONFIG = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> TeacherSettings:
    folder = tmp_path_factory.mktemp("teacher")
    config = folder / "tiny-test-clip.json"
    config.write_text(json.dumps(CONFIG))
    open_clip.add_model_config(config)
    torch.manual_seed(0)
    weights = folder / "tiny.safetensors"
    save_file(open_clip.create_model("tiny-test-clip").state_dict(), weights)
    return TeacherSettings(model=str(config), weights=str(weights), batch_size=3, device="cpu")


@pytest.fixture(scope="module")
def teacher(settings: TeacherSettings) -> ClipTeacher:
    return ClipTeacher(settings)


def random_frames(count: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, size=(count, height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (96, 96), (40, 60)])
def test_frames_are_embedded_as_open_clip_does_it(
    teacher: ClipTeacher, settings: TeacherSettings, height: int, width: int
) -> None:
    model, _, preprocess = open_clip.create_model_and_transforms("tiny-test-clip", pretrained=settings.weights)
    frames = random_frames(7, height, width)
    with torch.no_grad():
        images = torch.stack([preprocess(Image.fromarray(frame)) for frame in frames])
        expected = model.eval().encode_image(images, normalize=True).numpy()
    np.testing.assert_allclose(teacher.embed_frames(frames), expected, atol=1e-5)


def test_sentences_are_embedded_as_open_clip_does_it(teacher: ClipTeacher, settings: TeacherSettings) -> None:
    model = open_clip.create_model("tiny-test-clip", pretrained=settings.weights)
    sentences = ["a pole standing upright", "pole and cart"]
    with torch.no_grad():
        expected = (
            model.eval().encode_text(open_clip.get_tokenizer("tiny-test-clip")(sentences), normalize=True).numpy()
        )
    np.testing.assert_allclose(teacher.embed_prompts(sentences), expected, atol=1e-6)


def test_embeddings_have_unit_norm_and_the_stated_size(teacher: ClipTeacher) -> None:
    embeddings = teacher.embed_frames(random_frames(2, 32, 32))
    assert (embeddings.dtype, embeddings.shape) == (np.float32, (2, 24))
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)
    assert (teacher.dim, teacher.input_pixels) == (24, 32)


def test_queries_count_scored_frames_and_not_sentences(settings: TeacherSettings) -> None:
    teacher = ClipTeacher(settings)
    assert teacher.queries == 0
    teacher.embed_frames(random_frames(5, 32, 32))
    teacher.embed_prompts(["a sentence"])
    teacher.embed_frames(random_frames(2, 32, 32))
    assert teacher.queries == 7


def test_no_frames_give_no_embeddings(teacher: ClipTeacher) -> None:
    assert teacher.embed_frames(random_frames(0, 32, 32)).shape == (0, 24)


def test_name_and_digest_are_those_of_the_weights(teacher: ClipTeacher, settings: TeacherSettings) -> None:
    assert teacher.name == "tiny-test-clip/tiny"
    assert teacher.digest == hashlib.sha256(Path(settings.weights).read_bytes()).hexdigest()


@pytest.mark.parametrize(
    "frames",
    [np.zeros((1, 32, 32, 3), np.float32), np.zeros((32, 32, 3), np.uint8), np.zeros((1, 3, 32, 32), np.uint8)],
    ids=["float", "single", "channels-first"],
)
def test_other_arrays_than_rgb_frames_are_refused(teacher: ClipTeacher, frames: np.ndarray) -> None:
    with pytest.raises(DataError, match="uint8"):
        teacher.embed_frames(frames)


def test_a_sentence_of_77_tokens_passes_and_one_of_78_is_refused(settings: TeacherSettings) -> None:
    check_prompts(settings, ["pole " * 75])  # start and end of text are tokens too
    with pytest.raises(SettingsError, match="78 tokens: this teacher reads at most 77"):
        check_prompts(settings, ["pole and cart", "pole " * 76])


def test_long_and_empty_sentences_are_never_embedded(teacher: ClipTeacher) -> None:
    with pytest.raises(SettingsError, match="at most 77"):
        teacher.embed_prompts(["pole " * 100])
    with pytest.raises(SettingsError, match="empty"):
        teacher.embed_prompts([" "])


def test_an_unknown_model_is_answered_with_the_closest_names() -> None:
    with pytest.raises(UnknownNameError, match="'ViT-B-32'"):
        find_teacher(TeacherSettings(model="ViT-B32", weights="openai"))


def test_an_unknown_tag_is_answered_with_the_closest_tags() -> None:
    with pytest.raises(UnknownNameError, match="laion2b_s34b_b79k"):
        find_teacher(TeacherSettings(model="ViT-B-32", weights="laion2b_s34b"))


def test_missing_files_are_named(settings: TeacherSettings) -> None:
    with pytest.raises(MissingDependencyError, match=r"nowhere\.safetensors"):
        ClipTeacher(TeacherSettings(model=settings.model, weights="nowhere.safetensors"))
    with pytest.raises(MissingDependencyError, match=r"nowhere\.json"):
        ClipTeacher(TeacherSettings(model="nowhere.json", weights=settings.weights))


@pytest.mark.parametrize(
    ("content", "message"), [("{", "is not JSON"), ('{"embed_dim": 8}', "lacks text_cfg, vision_cfg")]
)
def test_files_that_are_no_model_configuration_are_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "broken.json"
    path.write_text(content)
    with pytest.raises(SettingsError, match=message):
        find_teacher(TeacherSettings(model=str(path), weights="openai"))


def test_weights_of_another_architecture_are_refused(settings: TeacherSettings) -> None:
    with pytest.raises(DataError, match="does not load into ViT-S-32-alt"):
        ClipTeacher(TeacherSettings(model="ViT-S-32-alt", weights=settings.weights, device="cpu"))


def test_damaged_weights_are_refused(settings: TeacherSettings, tmp_path: Path) -> None:
    half = tmp_path / "half.safetensors"
    half.write_bytes(Path(settings.weights).read_bytes()[:5000])
    with pytest.raises(DataError, match="file is whole"):
        ClipTeacher(TeacherSettings(model=settings.model, weights=str(half)))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_refused(settings: TeacherSettings) -> None:
    with pytest.raises(MissingDependencyError, match="device: auto"):
        ClipTeacher(TeacherSettings(model=settings.model, weights=settings.weights, device="cuda"))


@pytest.mark.slow
@pytest.mark.parametrize("without_network", [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}])
def test_without_a_network_the_message_says_at_once_which_file_to_place(
    tmp_path: Path, without_network: dict[str, str]
) -> None:
    """In a process of its own: the hub client reads its switches once, at import."""
    program = (
        "from lightning_modules.teacher import ClipTeacher; from lightning_modules.settings import TeacherSettings\n"
        "ClipTeacher(TeacherSettings(model='ViT-B-32', weights='laion2b_s34b_b79k'))"
    )
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    environment |= {"HF_HOME": str(tmp_path), **without_network}
    result = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert result.returncode != 0
    assert "MissingDependencyError" in result.stderr
    assert (
        "open_clip_model.safetensors (or open_clip_pytorch_model.bin) from "
        "https://huggingface.co/laion/CLIP-ViT-B-32-laion2B-s34B-b79K" in result.stderr
    )
    assert "Retrying" not in result.stderr
    assert "`weights`" in result.stderr
