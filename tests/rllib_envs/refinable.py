"""A cart-pole, labels of it by a small real CLIP, and a student that has learned nothing yet: what refining takes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from datamodules.labelled_set import LabelledSet
from datamodules.tasks import Prompts, RenderSettings, Task
from lightning_modules.labelling import label_frames
from lightning_modules.losses import HeadName
from lightning_modules.rewards import EmbeddingReward
from lightning_modules.student_embeddings import StudentEmbeddings
from lightning_modules.student_files import save_student
from lightning_modules.student_network import EmbeddingHead
from lightning_modules.teacher import ClipTeacher
from rllib_envs.agent_files import AgentCard
from rllib_envs.collect import collect_frames
from rllib_envs.refinement_settings import RefinementSettings
from rllib_envs.settings import CollectSettings, SacSettings
from tests.lightning_modules.clips import write_clip
from tests.lightning_modules.students import PIXELS, made_student

TASK = Task(
    "pole",
    "dm_control",
    "cartpole-swingup",
    Prompts(("a pole upright",), ("a pole",), 0.5),
    episode_frames=10,
    frames_per_step=2,
    render=RenderSettings(frame_pixels=PIXELS, teacher_pixels=48),
)
SAC = SacSettings(
    total_steps=1600,
    num_envs=2,
    learning_starts=64,
    batch_size=8,
    hidden=(8,),
    updates_per_step=0.25,
    evaluation_every_steps=800,
    evaluation_episodes=2,
)
REFINEMENT = RefinementSettings(
    every_steps=500,
    query_budget=40,
    queries=10,
    audited=4,
    gradient_steps=20,
    learning_rate=3e-3,
    tolerance=10.0,
)


def refinable(folder: Path, *, members: int = 1, head: HeadName = "reward") -> AgentCard:
    """An agent's card; its labels, teacher and student lie in `folder`."""
    teacher = write_clip(folder, "refinable-clip")
    collect_frames(TASK, CollectSettings(frames=120, episode_steps=6), folder / "frames", seed=0)
    clip, prompts = ClipTeacher(teacher), TASK.prompts
    label_frames(folder / "frames", clip, folder / "labels", (*prompts.goal, *prompts.baseline))
    labels = LabelledSet(str(folder / "labels"))
    goal, baseline = (labels.prompt_embeddings(sentences) for sentences in (prompts.goal, prompts.baseline))
    reward = EmbeddingReward(goal, baseline, prompts.alpha, clip.dims).frozen_to(np.asarray(labels.columns.embeddings))
    _, card = made_student(members=members, head=head)
    target = replace(card.targets[0], task=TASK.name, prompts=prompts, scales=reward.scales)
    card = replace(card, targets=(target,), teacher=clip.entry)
    torch.manual_seed(0)
    network = card.network()
    network(torch.randn(8, 3, PIXELS, PIXELS))  # for the statistics of its normalisation
    embeddings = np.asarray(labels.columns.embeddings)
    for each in network.heads:
        if isinstance(each, EmbeddingHead):
            each.centre(torch.from_numpy(embeddings.astype(np.float32)))
    sentences = {name: np.array(vector, np.float32) for name, vector in labels.manifest.prompts.items()}
    known = StudentEmbeddings(sentences, {TASK.name: embeddings})
    save_student(folder / "student", network.eval(), card, known if head == "embedding" else None)
    return AgentCard(
        TASK,
        "student",
        SAC,
        seed=0,
        student=folder / "student",
        teacher=teacher,
        refinement=REFINEMENT,
        labels=folder / "labels",
    )
