"""Labels that a small network learns in seconds, and a student made by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from datamodules.manifest import Manifest, TeacherEntry
from datamodules.records import Sample, encode
from datamodules.shards import write_shard
from datamodules.tasks import Prompts, RenderSettings, Task
from lightning_modules.fidelity import Fidelity
from lightning_modules.losses import HeadName
from lightning_modules.rewards import Standardisation
from lightning_modules.student_files import StudentCard, StudentTarget
from lightning_modules.student_network import StudentNetwork
from tests.data_sets import TASK as CARTPOLE

PIXELS, DIM = 32, 8
GOAL, BASELINE, OTHER = "a bright square", "a square", "a dark square"
TASK = replace(
    CARTPOLE, prompts=Prompts((GOAL,), (BASELINE,), 0.0), render=RenderSettings(frame_pixels=PIXELS, teacher_pixels=48)
)
SENTENCES: dict[str, NDArray[np.float64]] = {GOAL: np.eye(DIM)[0], BASELINE: np.eye(DIM)[1], OTHER: -np.eye(DIM)[0]}
TEACHER = TeacherEntry(name="tiny/known", digest="0" * 64, dims=(DIM,), precision="float32")
FIDELITY = Fidelity(0.9, 0.8, 0.7, 0.85, 0.2, 0.1, 50)


def brightness_of(episode: int, step: int) -> float:
    """0 to 1, another one for each sample: the only thing that the teacher's reward depends on."""
    return float(np.random.default_rng((episode, step)).uniform())


def frame_of(episode: int, step: int) -> NDArray[np.uint8]:
    """uint8 (PIXELS, PIXELS, 3): a square of the sample's brightness at a random place."""
    generator = np.random.default_rng((episode, step, 1))
    frame = np.full((PIXELS, PIXELS, 3), 40, np.uint8)
    top, left = generator.integers(0, PIXELS // 2, 2)
    frame[top : top + PIXELS // 2, left : left + PIXELS // 2] = 60 + round(190 * brightness_of(episode, step))
    return frame


def reward_of(episode: int, step: int) -> float:
    """The raw reward by construction: the cosine similarity with GOAL at alpha 0, from .2 to .4."""
    return 0.2 + 0.2 * brightness_of(episode, step)


def write_labels(
    folder: Path,
    episodes: int = 20,
    steps: int = 16,
    *,
    task: Task = TASK,
    samples_per_shard: int = 1000,
    clips: int = 1,
) -> Path:
    """Labelled shards of `episodes * steps` squares; of several CLIPs the second sees half the similarity."""
    folder.mkdir(parents=True)
    samples = [_sample(episode, step, task.name, clips) for episode in range(episodes) for step in range(steps)]
    shards = tuple(
        write_shard(
            folder / f"shard-{start // samples_per_shard:06d}.tar",
            [(sample.key, encode(sample)) for sample in samples[start : start + samples_per_shard]],
        )
        for start in range(0, len(samples), samples_per_shard)
    )
    prompts = {sentence: np.tile(vector, clips).tolist() for sentence, vector in SENTENCES.items()}
    Manifest(
        task, {"policy": "random"}, shards, replace(TEACHER, dims=(DIM,) * clips), source="1" * 64, prompts=prompts
    ).write(folder)
    return folder


def _sample(episode: int, step: int, task: str, clips: int) -> Sample:
    similarities = [reward_of(episode, step) / (number + 1) for number in range(clips)]
    embedding = np.concatenate([each * np.eye(DIM)[0] + np.sqrt(1 - each**2) * np.eye(DIM)[2] for each in similarities])
    return Sample(
        episode=episode,
        step=step,
        state=np.array([episode, step], np.float64),
        true_reward=episode + step / 100,
        policy="random",
        seed=0,
        task=task,
        frame=frame_of(episode, step),
        embedding=embedding.astype(np.float16),
    )


def made_student(
    seed: int = 0, *, head: HeadName = "reward", members: int = 1, shared_backbone: bool = False
) -> tuple[StudentNetwork, StudentCard]:
    """A student with random weights and used normalisation statistics, in eval mode, and its card."""
    torch.manual_seed(seed)
    prompts = Prompts((GOAL,), (BASELINE,), 0.5)
    card = StudentCard(
        backbone="test_efficientnet",
        pixels=PIXELS,
        head=head,
        head_width=8,
        members=members,
        shared_backbone=shared_backbone,
        targets=(StudentTarget(TASK.name, prompts, (Standardisation(mean=0.3, std=0.05),), FIDELITY),),
        teacher=TEACHER,
        manifest_digest="2" * 64,
        fidelity=FIDELITY,
    )
    network = card.network()
    network(torch.randn(8, 3, PIXELS, PIXELS))
    return network.eval(), card
