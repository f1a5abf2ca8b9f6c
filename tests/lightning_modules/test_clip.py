"""One CLIP: sentences that are too long, number formats, and memory that runs out."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.errors import SettingsError
from lightning_modules.clip import Clip
from lightning_modules.clip_source import find_clip
from lightning_modules.settings import TeacherSettings
from tests.lightning_modules.clips import write_clip, write_siglip_folder

ROOT = Path(__file__).parents[2]
FRAMES = np.random.default_rng(0).integers(0, 256, (8, 40, 40, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> TeacherSettings:
    return write_clip(tmp_path_factory.mktemp("clip"), "one-test-clip")


def load(settings: TeacherSettings, precision: str = "float32", batch_size: int = 8) -> Clip:
    return Clip(find_clip(*settings.clips[0]), torch.device("cpu"), precision, batch_size)


def test_siglip_reads_64_tokens_and_no_more(tmp_path: Path) -> None:
    """Its tokenizer fills up with the token that ends a sentence, and cuts without a word."""
    clip = load(write_siglip_folder(tmp_path / "hub", "long-test-siglip"))
    clip.check_prompts(["pole " * 63])  # and one that ends it
    with pytest.raises(SettingsError, match="65 tokens: long-test-siglip/hub reads at most 64"):
        clip.check_prompts(["a pole", "pole " * 64])
    with pytest.raises(SettingsError, match="empty"):
        clip.check_prompts([" "])


@pytest.mark.parametrize("patch_size", [8, None], ids=["transformer", "ResNet"])
def test_bfloat16_gives_nearly_the_same_unit_embeddings(tmp_path: Path, patch_size: int | None) -> None:
    changes = {} if patch_size else {"vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 16}}
    settings = write_clip(tmp_path, f"bf16-{patch_size}-test-clip", **changes)
    exact, rounded = (load(settings, precision).embed_frames(FRAMES) for precision in ("float32", "bfloat16"))
    assert rounded.dtype == np.float32
    assert not np.array_equal(exact, rounded)
    np.testing.assert_allclose(np.linalg.norm(rounded, axis=1), 1, atol=1e-6)
    assert (exact * rounded).sum(axis=1).min() > 0.999


def test_seconds_inside_the_model_add_up(settings: TeacherSettings) -> None:
    clip = load(settings)
    assert clip.model_seconds == 0
    clip.embed_prompts(["sentences do not count"])
    assert clip.model_seconds == 0
    clip.embed_frames(FRAMES)
    first = clip.model_seconds
    clip.embed_frames(FRAMES)
    assert 0 < first < clip.model_seconds


def test_other_failures_of_the_model_are_not_taken_for_a_lack_of_memory(settings: TeacherSettings) -> None:
    clip = load(settings)
    clip._preprocess = lambda frames: torch.zeros(len(frames), 5, 32, 32)  # a wrong number of channels
    with pytest.raises(RuntimeError, match="channels"):
        clip.embed_frames(FRAMES)
    assert clip.batch_size == 8


PROGRAM = """
import logging, resource, sys
import numpy as np, torch
from pathlib import Path
from lightning_modules.settings import TeacherSettings
from lightning_modules.teacher import ClipTeacher
from tests.lightning_modules.clips import write_clip
logging.basicConfig(format="%(message)s")
torch.set_num_threads(1)
vision = {"image_size": 1024, "layers": 1, "width": 32, "head_width": 16, "patch_size": 128}
settings = write_clip(Path(sys.argv[1]), "hungry-test-clip", vision_cfg=vision)
teacher = ClipTeacher(TeacherSettings(settings.model, settings.weights, batch_size=24, device="cpu"))
frames = np.random.default_rng(0).integers(0, 256, (48, 1024, 1024, 3), dtype=np.uint8)
expected = teacher.embed_frames(frames[:2])
images = 24 * 1024 * 1024 * 3 * 4  # bytes of a batch as float32; the model needs about as much again
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + int(images * float(sys.argv[2])),) * 2)
embeddings = teacher.embed_frames(frames)
assert np.allclose(embeddings[:2], expected, atol=1e-5)
print(embeddings.shape, teacher.batch_size, teacher.queries)
"""


def with_memory_for(share: float, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Embed 48 large frames, 24 at a time, in a process that may allocate `share` times a batch's input."""
    command = [sys.executable, "-c", PROGRAM, str(folder), str(share)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space as Linux does")
def test_the_batch_halves_itself_once_where_memory_runs_out(tmp_path: Path) -> None:
    outcome = with_memory_for(1.05, tmp_path)
    assert outcome.stdout == "(48, 24) 12 50\n", outcome.stderr
    assert "out of memory on cpu with 24 frames at a time: hungry-test-clip/hungry-test-clip goes on with 12" in (
        outcome.stderr
    )


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space as Linux does")
def test_the_second_lack_of_memory_is_an_error_that_names_the_setting(tmp_path: Path) -> None:
    outcome = with_memory_for(0.3, tmp_path)
    assert outcome.returncode != 0
    assert "goes on with 12" in outcome.stderr
    assert "SettingsError: out of memory on cpu with 12 frames at a time" in outcome.stderr
    assert "set batch_size in the teacher's YAML file below 12" in outcome.stderr
