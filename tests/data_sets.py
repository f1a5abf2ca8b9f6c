"""Tiny real data sets with known counts, in which every frame and embedding says which sample it belongs to."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datamodules.manifest import Manifest, TeacherEntry
from datamodules.records import Sample, encode
from datamodules.shards import ShardWriter, write_shard
from datamodules.tasks import Prompts, RenderSettings, Task

DIM = 8
COLLECTION = {"policy": "random", "episodes": 10, "seed": 7}
TASK = Task(
    name="cartpole_swingup",
    family="dm_control",
    simulator="cartpole-swingup",
    prompts=Prompts(goal=("a pole upright",), baseline=("a pole",), alpha=0.5),
    render=RenderSettings(frame_pixels=16, teacher_pixels=24),
)


def frame_of(episode: int, step: int, pixels: int = 16) -> NDArray[np.uint8]:
    """uint8 (pixels, pixels, 3) noise whose first pixel is (episode, step, pixels)."""
    frame = np.random.default_rng((episode, step)).integers(0, 256, (pixels, pixels, 3), dtype=np.uint8)
    frame[0, 0] = episode, step, pixels
    return frame


def embedding_of(episode: int, step: int) -> NDArray[np.float16]:
    """float16 (DIM,), unit norm, another one for every sample."""
    vector = np.random.default_rng((1, episode, step)).normal(size=DIM)
    return (vector / np.linalg.norm(vector)).astype(np.float16)


def sample_of(episode: int, step: int, labelled: bool = False) -> Sample:
    """A whole sample: true reward `episode + step / 100`, state (episode, step, 1/3)."""
    return Sample(
        episode=episode,
        step=step,
        state=np.array([episode, step, 1 / 3]),
        true_reward=episode + step / 100,
        policy="random",
        seed=7,
        task=TASK.name,
        frame=frame_of(episode, step),
        teacher_frame=None if labelled else frame_of(episode, step, 24),
        embedding=embedding_of(episode, step) if labelled else None,
    )


def write_frames(folder: Path, episodes: int = 10, steps: int = 5, samples_per_shard: int = 8) -> Path:
    """Collected frames without labels."""
    with ShardWriter(folder, TASK, COLLECTION, samples_per_shard) as writer:
        for episode in range(episodes):
            for step in range(steps):
                writer.add(sample_of(episode, step))
    return folder


def write_labels(
    folder: Path, episodes: int = 10, steps: int = 5, samples_per_shard: int = 8, task: Task = TASK
) -> Path:
    """Labelled frames, with the text embeddings of the task's two prompts."""
    folder.mkdir(parents=True, exist_ok=True)
    samples = [
        replace(sample_of(episode, step, labelled=True), task=task.name)
        for episode in range(episodes)
        for step in range(steps)
    ]
    shards = tuple(
        write_shard(
            folder / f"shard-{start // samples_per_shard:06d}.tar",
            [(sample.key, encode(sample)) for sample in samples[start : start + samples_per_shard]],
        )
        for start in range(0, len(samples), samples_per_shard)
    )
    prompts = {"a pole upright": embedding_of(900, 0).tolist(), "a pole": embedding_of(900, 1).tolist()}
    teacher = TeacherEntry(name="tiny/known", digest="0" * 64, dims=(DIM,), precision="float32")
    Manifest(task, COLLECTION, shards, teacher, source="1" * 64, prompts=prompts).write(folder)
    return folder
