"""ClipTeacher on real open_clip models whose checkpoints the tests make, beside open_clip's own calls."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from datamodules.errors import DataError, MissingDependencyError, SettingsError
from datamodules.frames_datamodule import FramesDataModule
from datamodules.manifest import TeacherEntry
from datamodules.shards import read_shard, verify
from datamodules.tasks import Prompts
from lightning_modules.labelling import label_frames
from lightning_modules.reward_function import TeacherReward
from lightning_modules.settings import TeacherSettings
from lightning_modules.teacher import ClipTeacher, check_prompts, fetch_weights, find_teacher
from tests.data_sets import write_frames
from tests.lightning_modules.clips import CONFIG, write_clip


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> TeacherSettings:
    return write_clip(tmp_path_factory.mktemp("teacher"), "tiny-test-clip")


@pytest.fixture(scope="module")
def teacher(settings: TeacherSettings) -> ClipTeacher:
    return ClipTeacher(settings)


@pytest.fixture(scope="module")
def both(settings: TeacherSettings, tmp_path_factory: pytest.TempPathFactory) -> TeacherSettings:
    """Two CLIPs as one teacher: the one above, and another with a larger picture and a shorter embedding."""
    other = write_clip(
        tmp_path_factory.mktemp("other"),
        "other-test-clip",
        seed=1,
        embed_dim=10,
        vision_cfg={**CONFIG["vision_cfg"], "image_size": 48},
    )
    return replace(
        settings,
        model=(str(settings.model), str(other.model)),
        weights=(str(settings.weights), str(other.weights)),
    )


def alone(both: TeacherSettings) -> list[ClipTeacher]:
    return [ClipTeacher(replace(both, model=model, weights=weights)) for model, weights in both.clips]


def random_frames(count: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, size=(count, height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (96, 96), (40, 60)])
def test_frames_are_embedded_as_open_clip_does_it(
    teacher: ClipTeacher, settings: TeacherSettings, height: int, width: int
) -> None:
    model, _, preprocess = open_clip.create_model_and_transforms("tiny-test-clip", pretrained=str(settings.weights))
    frames = random_frames(7, height, width)
    with torch.no_grad():
        images = torch.stack([preprocess(Image.fromarray(frame)) for frame in frames])
        expected = model.eval().encode_image(images, normalize=True).numpy()
    # resized pixels may differ by one level
    np.testing.assert_allclose(teacher.embed_frames(frames), expected, atol=1e-5 if height == 32 else 5e-4)


def test_sentences_are_embedded_as_open_clip_does_it(teacher: ClipTeacher, settings: TeacherSettings) -> None:
    model = open_clip.create_model("tiny-test-clip", pretrained=str(settings.weights))
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


def test_the_entry_for_manifests_says_name_digest_size_and_precision(teacher: ClipTeacher) -> None:
    assert teacher.entry == TeacherEntry("tiny-test-clip/tiny-test-clip", teacher.digest, (24,), "float32")


def test_views_and_frames_that_cannot_be_written_to_are_embedded(teacher: ClipTeacher) -> None:
    frames = random_frames(4, 32, 32)
    expected = teacher.embed_frames(frames[:, ::-1].copy())
    upside_down = frames[:, ::-1]
    upside_down.flags.writeable = False
    np.testing.assert_array_equal(teacher.embed_frames(upside_down), expected)


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
    with pytest.raises(SettingsError, match="78 tokens: tiny-test-clip/tiny-test-clip reads at most 77"):
        check_prompts(settings, ["pole and cart", "pole " * 76])


def test_long_and_empty_sentences_are_never_embedded(teacher: ClipTeacher) -> None:
    with pytest.raises(SettingsError, match="at most 77"):
        teacher.embed_prompts(["pole " * 100])
    with pytest.raises(SettingsError, match="empty"):
        teacher.embed_prompts([" "])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_refused(settings: TeacherSettings) -> None:
    with pytest.raises(MissingDependencyError, match="device: auto"):
        ClipTeacher(replace(settings, device="cuda"))


def test_precision_on_a_cpu_is_float32_unless_asked_otherwise(teacher: ClipTeacher, settings: TeacherSettings) -> None:
    assert teacher.precision == "float32"
    assert ClipTeacher(replace(settings, precision="bfloat16")).precision == "bfloat16"
    with pytest.raises(SettingsError, match="'float16' but the teacher runs on a CPU"):
        ClipTeacher(replace(settings, precision="float16"))


@pytest.mark.parametrize(("goals", "baselines"), [(1, 0), (7, 40)])
def test_prompt_lists_may_have_any_length(teacher: ClipTeacher, goals: int, baselines: int) -> None:
    goal = tuple(f"a pole at {number} degrees" for number in range(goals))
    baseline = tuple(f"a pole and {number} carts" for number in range(baselines))
    alpha = 0.5 if baselines else 0.0
    frames = random_frames(4, 32, 32)
    s = teacher.embed_frames(frames).astype(np.float64)
    g = np.mean([teacher.embed_prompts([sentence])[0] for sentence in goal], axis=0)
    b = np.mean([teacher.embed_prompts([sentence])[0] for sentence in baseline], axis=0) if baselines else g + 1
    direction = (g - b) / np.linalg.norm(g - b)
    projection = alpha * np.outer(direction, direction) + (1 - alpha) * np.eye(24)
    expected = 1 - 0.5 * (((s - g) @ projection) ** 2).sum(axis=1)
    rewards = TeacherReward(teacher, Prompts(goal, baseline, alpha))(frames)
    np.testing.assert_allclose(rewards, expected, atol=1e-5)


def test_several_clips_give_their_embeddings_one_after_the_other(both: TeacherSettings) -> None:
    teacher, parts = ClipTeacher(both), alone(both)
    frames, sentences = random_frames(5, 40, 40), ["a pole", "a cart"]
    expected = np.concatenate([part.embed_frames(frames) for part in parts], axis=1)
    np.testing.assert_allclose(teacher.embed_frames(frames), expected, atol=1e-6)
    expected = np.concatenate([part.embed_prompts(sentences) for part in parts], axis=1)
    np.testing.assert_allclose(teacher.embed_prompts(sentences), expected, atol=1e-6)
    assert (teacher.dims, teacher.dim, teacher.input_pixels) == ((24, 10), 34, 48)
    assert teacher.queries == 10  # each frame once for each CLIP
    assert teacher.model_seconds > 0


def test_several_clips_are_named_and_digested_together(both: TeacherSettings) -> None:
    entry, parts = ClipTeacher(both).entry, alone(both)
    assert entry.name == "tiny-test-clip/tiny-test-clip + other-test-clip/other-test-clip"
    assert entry.digest == hashlib.sha256((parts[0].digest + parts[1].digest).encode()).hexdigest()
    turned = ClipTeacher(replace(both, model=both.model[::-1], weights=both.weights[::-1]))
    assert turned.digest != entry.digest
    assert [path.name for path in fetch_weights(both)] == ["tiny-test-clip.safetensors", "other-test-clip.safetensors"]


def test_a_mistake_in_one_of_several_clips_is_found(both: TeacherSettings) -> None:
    with pytest.raises(MissingDependencyError, match=r"nowhere\.pt"):
        find_teacher(replace(both, weights=(both.weights[0], "nowhere.pt")))
    with pytest.raises(SettingsError, match="tiny-test-clip/tiny-test-clip reads at most 77"):
        check_prompts(both, ["pole " * 76])


def test_the_reward_of_several_clips_is_the_mean_of_their_standardised_rewards(both: TeacherSettings) -> None:
    prompts, frames = Prompts(("a pole",), ("a cart",), 0.5), random_frames(40, 40, 40)
    scales = TeacherReward(ClipTeacher(both), prompts).scales_on(frames[:30])
    rewards = TeacherReward(ClipTeacher(both), prompts, scales)(frames)
    mean = 0.0
    for part in alone(both):
        raw = TeacherReward(part, prompts)(frames).astype(np.float64)
        mean = mean + (raw - raw[:30].mean()) / raw[:30].std()
    np.testing.assert_allclose(rewards, mean / mean[:30].std(), atol=2e-3)
    assert rewards[:30].std() == pytest.approx(1, abs=1e-3)


def test_several_clips_label_a_data_set(both: TeacherSettings, tmp_path: Path) -> None:
    frames, teacher = write_frames(tmp_path / "frames", episodes=2, steps=3), ClipTeacher(both)
    label_frames(frames, teacher, tmp_path / "labels")
    manifest = FramesDataModule(tmp_path / "labels").manifest
    assert manifest.teacher == teacher.entry
    assert manifest.teacher_queries == 12
    verify(tmp_path / "labels", manifest)
    goal = FramesDataModule(tmp_path / "labels").prompt_embeddings(manifest.task.prompts.goal)
    np.testing.assert_allclose(goal, teacher.embed_prompts(manifest.task.prompts.goal), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("model", "suffix", "dim"), [("RN50", "pt", 1024), ("ViT-B-32", "safetensors", 512)])
def test_the_original_clips_load_by_path_and_label_frames(model: str, suffix: str, dim: int, tmp_path: Path) -> None:
    """Random weights, but the real architectures; embeddings are compared with open_clip's own way through PIL."""
    torch.manual_seed(0)
    network, _, preprocess = open_clip.create_model_and_transforms(model)
    weights = tmp_path / f"made.{suffix}"
    if suffix == "pt":
        torch.save({"state_dict": network.state_dict()}, weights)
    else:
        save_file(network.state_dict(), weights)
    teacher = ClipTeacher(TeacherSettings(model=model, weights=str(weights), device="cpu"))
    assert (teacher.name, teacher.input_pixels) == (f"{model}/made", 224)
    for height, width in ((84, 84), (300, 260)):
        frames = random_frames(3, height, width)
        frames[1:, : height // 2] //= 2
        frames[2, :, : width // 3] = 255
        with torch.no_grad():
            images = torch.stack([preprocess(Image.fromarray(frame)) for frame in frames])
            expected = network.eval().encode_image(images, normalize=True).numpy()
        embeddings = teacher.embed_frames(frames)
        assert (embeddings * expected).sum(axis=1).min() > 0.999
        # random networks tell frames apart only a little: the error is far below even that
        nearest = min(np.linalg.norm(expected[i] - expected[j]) for i, j in ((0, 1), (0, 2), (1, 2)))
        assert np.linalg.norm(embeddings - expected, axis=1).max() < 0.1 * nearest

    frames_folder = write_frames(tmp_path / "frames", episodes=1, steps=3)
    result = label_frames(frames_folder, teacher, tmp_path / "labels")
    manifest = FramesDataModule(tmp_path / "labels").manifest
    assert (result.samples, manifest.teacher) == (3, teacher.entry)
    assert teacher.dims == (dim,)
    assert len(list(read_shard(tmp_path / "labels", manifest.shards[0]))) == 3
