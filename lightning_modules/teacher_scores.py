"""How well a teacher's reward orders the states of a task, measured against the simulator's own measure of the goal."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from datamodules.tasks import Prompts
from lightning_modules.caption_batches import CaptionedFrames
from lightning_modules.rewards import goal_baseline_reward
from lightning_modules.sentences import Sentences
from lightning_modules.teacher import ClipTeacher

ALPHAS = (0.0, 0.5, 1.0)
GOAL_GRADE = 1.0


@dataclass(frozen=True)
class TaskScore:
    """Spearman's rank correlation of reward and goal measure on frames that were not trained on."""

    task: str
    """name of the task"""
    frames: int
    """how many frames were scored"""
    training: dict[str, float]
    """alpha -> correlation with the task's own prompts"""
    held_out: dict[str, float]
    """alpha -> mean correlation over the held-out goal sentences, one at a time"""
    worst_held_out: dict[str, float]
    """alpha -> lowest correlation of one held-out goal sentence"""

    @property
    def best_alpha(self) -> str:
        """The alpha with which the task's own prompts do best."""
        return max(self.training, key=lambda alpha: self.training[alpha])


def score_task(teacher: ClipTeacher, data: CaptionedFrames, prompts: Prompts, held_out: Sentences) -> TaskScore:
    """Score frames of a task with its own prompts and with held-out goal and generic sentences of its family."""
    embeddings = teacher.embed_frames(data.frames)
    own = correlations(teacher, embeddings, data.goal_measures, prompts.goal, prompts.baseline)
    generic = held_out.of(data.family, None)
    others = [
        correlations(teacher, embeddings, data.goal_measures, [goal], generic)
        for goal in held_out.of(data.family, GOAL_GRADE)
    ]
    return TaskScore(
        data.task,
        len(data.frames),
        own,
        {alpha: float(np.mean([each[alpha] for each in others])) for alpha in own},
        {alpha: min(each[alpha] for each in others) for alpha in own},
    )


def correlations(
    teacher: ClipTeacher,
    embeddings: NDArray[np.float32],
    goal_measures: NDArray[np.float32],
    goal: Sequence[str],
    baseline: Sequence[str],
) -> dict[str, float]:
    """Spearman's correlation of reward and goal measure for every alpha of `ALPHAS`, keyed '0', '0.5' and '1'."""
    goals, baselines = teacher.embed_prompts(goal), teacher.embed_prompts(baseline)
    return {
        f"{alpha:g}": float(
            spearmanr(goal_baseline_reward(embeddings, goals, baselines, alpha), goal_measures).statistic
        )
        for alpha in ALPHAS
    }


def markdown_table(scores: Sequence[TaskScore]) -> str:
    """The scores as a Markdown table, one task a row; the figures of alpha 0, .5 and 1 stand side by side."""
    rows = [
        "| task | frames | own prompts, alpha 0 / .5 / 1 | best alpha | held-out sentences, mean | held-out, worst |",
        "|---|---|---|---|---|---|",
    ]
    for score in scores:
        figures = (" / ".join(f"{value:.3f}" for value in part.values()) for part in _parts(score))
        own, mean, worst = figures
        rows.append(f"| {score.task} | {score.frames} | {own} | {score.best_alpha} | {mean} | {worst} |")
    return "\n".join(rows)


def _parts(score: TaskScore) -> tuple[dict[str, float], ...]:
    return score.training, score.held_out, score.worst_held_out
