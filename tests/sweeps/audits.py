"""A labelled data set in which every figure of an audit is known beforehand: a pole's angle, seen perfectly.

An embedding is (cos, sin, ...) of the angle, the true reward of a simulator frame (1 + cos) / 2: the sentence "up",
whose embedding is the first axis, ranks all frames like the true reward, "down" the other way round.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datamodules.manifest import Manifest, TeacherEntry
from datamodules.records import Sample, encode
from datamodules.shards import write_shard
from datamodules.tasks import Prompts, RenderSettings, Task
from sweeps.audit_settings import Candidate, PromptList

DIM = 6
TASK = Task(
    name="swing",
    family="dm_control",
    simulator="cartpole-swingup",
    prompts=Prompts(goal=("up",), baseline=("sideways",), alpha=0.5),
    frames_per_step=2,
    render=RenderSettings(frame_pixels=16, teacher_pixels=24),
    success_reward=0.9,
)
COLLECTION = {"frames": 400, "episode_steps": 10, "anywhere_share": 0.75, "noise_share": 0.5, "seed": 7}
AXES = np.eye(DIM)
SENTENCES = {
    "up": AXES[0],
    "down": -AXES[0],
    "sideways": AXES[1],
    "nothing here": AXES[5],
    "nearly up": (AXES[0] + 0.01 * AXES[1]) / np.sqrt(1 + 0.01**2),
    "up again": AXES[0],
}
CANDIDATES = PromptList(
    (
        Candidate("right", ("up",), ("sideways",)),
        Candidate("plain", ("up",), alphas=(0.0,)),
        Candidate("several", ("up", "nearly up"), ("sideways", "down")),
        Candidate("opposite", ("down",), ("sideways",), control=True),
        Candidate("blind", ("nothing here",), alphas=(0.0,), control=True),
    )
)


def angles(episodes: int, steps: int) -> NDArray[np.float64]:
    """(episodes, steps), radians from upright, all around; the same for the same counts."""
    return np.random.default_rng(3).uniform(-np.pi, np.pi, (episodes, steps))


def write_audit_labels(folder: Path, episodes: int = 40, steps: int = 10, task: Task = TASK) -> Path:
    """Labelled frames whose first pixel is (episode, step, 99), with the embeddings of `SENTENCES`."""
    folder.mkdir(parents=True)
    samples = []
    for episode, row in enumerate(angles(episodes, steps)):
        for step, angle in enumerate(row):
            embedding = np.zeros(DIM)
            embedding[:2] = np.cos(angle), np.sin(angle)
            frame = np.full((16, 16, 3), 40, np.uint8)
            frame[0, 0] = episode, step, 99
            sample = Sample(
                episode=episode,
                step=step,
                state=np.array([angle]),
                true_reward=float(1 + np.cos(angle)) / 2 * task.frames_per_step,
                policy="noise",
                seed=7,
                task=task.name,
                frame=frame,
                embedding=embedding.astype(np.float16),
            )
            samples.append((sample.key, encode(sample)))
    shard = write_shard(folder / "shard-000000.tar", samples)
    teacher = TeacherEntry(name="tiny/known", digest="0" * 64, dims=(DIM,), precision="float32")
    prompts = {sentence: vector.tolist() for sentence, vector in SENTENCES.items()}
    Manifest(task, COLLECTION, (shard,), teacher, source="1" * 64, prompts=prompts).write(folder)
    return folder


def without_successes(task: Task = TASK) -> Task:
    """The task with a mark of success that (almost) no frame reaches."""
    return replace(task, success_reward=1.0)
