"""What asking a teacher costs on this machine: the bundled one, and ViT-B-32 with random weights.

The weights decide what a CLIP says and not how long it takes, so random ones, written to a file and loaded as any
checkpoint, give the real model's times without a download. Beside it: preprocessing on tensors and by PIL's loop over
frames, and a change of the prompt over stored embeddings, which asks no teacher.
"""

from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from datamodules.conf import read_conf
from datamodules.tasks import RenderSettings
from lightning_modules.clip_preprocessing import ClipPreprocessing
from lightning_modules.rewards import goal_baseline_reward
from lightning_modules.settings import TeacherSettings
from lightning_modules.teacher import ClipTeacher
from sweeps.benchmarks import interleaved_medians

BUNDLED = "conf/teacher/bundled.yaml"
MODEL = "ViT-B-32"
GOAL, BASELINE, ALPHA = "pole vertically upright on top of the cart", "pole and cart", 0.5
BATCH, ROUNDS, PREPROCESSING_ROUNDS = 32, 3, 20
STORED, MILLION = 100_000, 1_000_000


def measure() -> dict[str, Any]:
    """Median milliseconds of each question, what a million of them cost, and what need not be asked."""
    pixels = RenderSettings().teacher_pixels
    frames = np.random.default_rng(0).integers(0, 256, (BATCH, pixels, pixels, 3), np.uint8)
    medians: dict[str, float] = {}
    ratios: dict[str, float] = {}
    with TemporaryDirectory() as folder:
        teachers = {
            "bundled": ClipTeacher(read_conf(TeacherSettings, BUNDLED)),
            "vit_b32": ClipTeacher(random_weights(Path(folder))),
        }
    for name, teacher in teachers.items():
        asked, busy = _ask(teacher, frames)
        medians |= {f"{name}_{question}": value for question, value in asked.items()}
        ratios[f"batch_over_single_{name}"] = asked["one_image_ms"] / (asked["batch_ms"] / BATCH)
        ratios[f"model_over_wall_{name}"] = busy
    preprocessing = _preprocess(frames)
    medians |= {f"preprocessing_{peer}_batch_ms": value for peer, value in preprocessing.items()}
    ratios["preprocessing_over_pil"] = preprocessing["pil"] / preprocessing["ours"]
    seconds, queries = _change_prompt(teachers["vit_b32"])
    medians["new_prompt_seconds"] = seconds
    ratios["asking_again_over_new_prompt"] = STORED / medians["vit_b32_queries_per_second"] / seconds
    large = teachers["vit_b32"]
    return {
        "medians": medians,
        "ratios": ratios,
        "new_prompt": {"frames": STORED, "teacher_queries": queries},
        "setting": {
            "vit_b32": "random weights: its times are those of real weights, its answers mean nothing",
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
            "precision": large.precision,
            "threads": torch.get_num_threads(),
            "frame_pixels": pixels,
            "batch": BATCH,
        },
    }


def random_weights(folder: Path) -> TeacherSettings:
    """A checkpoint of `MODEL` in open_clip's format."""
    config = open_clip.get_model_config(MODEL)
    path = folder / "random.pt"
    torch.save(open_clip.CLIP(**config).state_dict(), path)
    return TeacherSettings(model=MODEL, weights=str(path), batch_size=BATCH)


def _ask(teacher: ClipTeacher, frames: NDArray[np.uint8]) -> tuple[dict[str, float], float]:
    """Milliseconds of each question, and the share of a batch's time inside the model; preprocessing is the rest."""
    baseline = teacher.embed_prompts([BASELINE])

    def full_query() -> None:
        goal_baseline_reward(teacher.embed_frames(frames[:1]), teacher.embed_prompts([GOAL]), baseline, ALPHA)

    inside, start = teacher.model_seconds, perf_counter()
    batch = _median_ms(lambda: teacher.embed_frames(frames))
    busy = (teacher.model_seconds - inside) / (perf_counter() - start)
    rate = BATCH / batch * 1000
    asked = {
        "one_image_ms": _median_ms(lambda: teacher.embed_frames(frames[:1])),
        "one_text_ms": _median_ms(lambda: teacher.embed_prompts([GOAL])),
        "image_text_reward_ms": _median_ms(full_query),
        "batch_ms": batch,
        "queries_per_second": rate,
        "million_queries_hours": MILLION / rate / 3600,
    }
    return asked, busy


def _median_ms(call: Callable[[], object]) -> float:
    call()
    taken = []
    for _ in range(ROUNDS):
        start = perf_counter()
        call()
        taken.append((perf_counter() - start) * 1000)
    return median(taken)


def _preprocess(frames: NDArray[np.uint8]) -> dict[str, float]:
    config = PreprocessCfg(size=224)
    transform, preprocessing = image_transform_v2(config, is_train=False), ClipPreprocessing(config)
    return interleaved_medians(
        {
            "pil": lambda: torch.stack([transform(Image.fromarray(frame)) for frame in frames]),
            "ours": lambda: preprocessing(torch.from_numpy(frames)),
        },
        PREPROCESSING_ROUNDS,
    )


def _change_prompt(teacher: ClipTeacher) -> tuple[float, int]:
    """Seconds until all stored embeddings have the reward of a new prompt, and the queries that took."""
    generator = np.random.default_rng(0)
    stored = generator.standard_normal((STORED, teacher.dim), np.float32)
    stored = (stored / np.linalg.norm(stored, axis=1, keepdims=True)).astype(np.float16)
    before = teacher.queries

    def change() -> None:
        goal, baseline = teacher.embed_prompts([GOAL]), teacher.embed_prompts([BASELINE])
        goal_baseline_reward(stored, goal, baseline, ALPHA)

    return _median_ms(change) / 1000, teacher.queries - before
