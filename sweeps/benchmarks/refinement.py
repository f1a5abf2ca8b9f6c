"""What refining a student costs: one look of the research plan in a real training, and a full replay rewarded again.

A small student is fitted to 400 frames and refined once with conf/refinement/plan.yaml. From the seconds of that look,
of relabelling and of the training around it follow those of the plan's own: 100,000 decisions, a look every 50,000.
Frames of cart-pole are relabelled as replay keeps them, packed, and, as those beyond its memory, drawn from states.
"""

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.conf import read_conf
from datamodules.progress import Report, progress_bar
from datamodules.tasks import Task
from lightning_modules.fit import fit_student
from lightning_modules.labelling import label_frames
from lightning_modules.reward_function import StudentReward
from lightning_modules.settings import TeacherSettings
from lightning_modules.teacher import ClipTeacher
from rllib_envs.collect import collect_frames
from rllib_envs.refinement_settings import RefinementSettings
from rllib_envs.relabelling import relabel
from rllib_envs.replay import ReplayBuffer, Transitions
from rllib_envs.settings import CollectSettings, SacSettings
from rllib_envs.train import train_agent
from rllib_envs.visits import FRAME_BYTES, STATES, StateDrawer, Visited, Visits

TASK, SAC = Path("conf/tasks/cartpole_swingup.yaml"), Path("conf/sac/demo.yaml")
TEACHER, STUDENT = Path("conf/teacher/bundled.yaml"), Path("conf/student/quick.yaml")
PLAN = Path("conf/refinement/plan.yaml")
FRAMES = 400
STEPS, LOOK_AT = 5_000, 3_000
PLANNED_STEPS = 100_000
"""agent decisions of a training in the plan"""
KEPT, DRAWN = 100_000, 5_000
"""transitions that are relabelled, from packed frames and from frames drawn anew; seconds are those of FULL"""
FULL = 100_000
DISTINCT = 2_000
"""visited states that they lead to, over and over"""


def measure() -> dict[str, Any]:
    """Seconds of a look and of relabelling, and their share of the planned training's."""
    task = read_conf(Task, TASK)
    with tempfile.TemporaryDirectory() as folder, progress_bar("refinement", "parts") as report:
        out = Path(folder)
        student = _fitted(task, out, report)
        training = _trained(task, student, out, report)
        states = np.load(out / "agent" / "checkpoint" / "replay" / STATES)[:DISTINCT]
        kept = _relabelled(task, student, states, KEPT, FRAME_BYTES)
        report(3, 4, "frames kept")
        drawn = _relabelled(task, student, states, DRAWN, 0)
        report(4, 4, "frames drawn")
    return figures_of(training["look"], training["others"], kept, drawn)


def figures_of(look: float, training: float, kept: float, drawn: float) -> dict[str, Any]:
    """Figures of one look's seconds, of those of a training of STEPS decisions without it, and of FULL transitions."""
    plan = read_conf(RefinementSettings, PLAN)
    looks = range(plan.every_steps, PLANNED_STEPS, plan.every_steps)  # none after the last decision
    spent = sum(look + kept * at / FULL for at in looks)
    return {
        "medians": {
            "look_seconds": look,
            "relabel_100k_kept_seconds": kept,
            "relabel_100k_drawn_seconds": drawn,
            "training_100k_seconds": training * PLANNED_STEPS / STEPS,
        },
        "ratios": {"refinement_over_planned_training": spent / (training * PLANNED_STEPS / STEPS)},
    }


def _fitted(task: Task, out: Path, report: Report) -> Path:
    collect_frames(task, CollectSettings(frames=FRAMES), out / "frames", seed=0)
    teacher = ClipTeacher(read_conf(TeacherSettings, TEACHER))
    sentences = (*task.prompts.goal, *task.prompts.baseline)
    label_frames(out / "frames", teacher, out / "labels", sentences)
    report(1, 4, "fitting a student")
    fit_student(STUDENT, out / "labels", out / "student", seed=0, report=lambda *_: None, prompts=task.prompts)
    return out / "student"


def _trained(task: Task, student: Path, out: Path, report: Report) -> dict[str, float]:
    """Seconds of the one look, and of all else, by a training with the student's reward."""
    report(1, 4, "training with one look")
    result = train_agent(
        task,
        "student",
        replace(read_conf(SacSettings, SAC), total_steps=STEPS, evaluation_every_steps=STEPS),
        out / "agent",
        seed=0,
        student=student,
        teacher=read_conf(TeacherSettings, TEACHER),
        refinement=replace(read_conf(RefinementSettings, PLAN), every_steps=LOOK_AT),
        labels=out / "labels",
    )
    assert result.refinement is not None, "it was asked for"
    report(2, 4, "rewarding a full replay again")
    costs = dict(result.costs)
    return {"look": result.refinement["seconds"]["refine"], "others": sum(costs.values()) - costs["refine"]}


def _relabelled(task: Task, student: Path, states: NDArray[np.float64], count: int, frame_bytes: int) -> float:
    """Seconds for FULL transitions, measured on `count` whose frames show these states, over and over."""
    draw, visited = StateDrawer(task), Visited(count, task.render.frame_pixels, frame_bytes)
    replay = ReplayBuffer(count, 1, 1)
    frames = draw(states, task.render.frame_pixels)
    for start in range(0, count, DISTINCT):
        few = slice(0, min(DISTINCT, count - start))
        column = np.zeros((len(states[few]), 1), np.float32)
        rows = replay.add_batch(Transitions(column, column, column[:, 0], column, column[:, 0]))
        visited.write(rows, Visits(states[few], frames[few], column[:, 0], np.zeros(len(column), np.int64)), version=0)
    reward = StudentReward.load(student)
    reward(frames[:256])  # the first call also chooses the runtime
    begun = time.perf_counter()
    relabel(replay, visited, reward, 1, draw)
    taken = time.perf_counter() - begun
    draw.close()
    return taken * FULL / count
