"""Prompts x alpha on a labelled data set: figures and a verdict on each. No frame is scored by the teacher."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datamodules.decoded_cache import DecodedFrames
from datamodules.errors import DataError
from datamodules.labelled_set import LabelledSet
from datamodules.manifest import Manifest, read_manifest
from datamodules.progress import Report, silent
from lightning_modules.embedding_space import Diversity, best_linear_reading, diversity
from lightning_modules.reward_audit import RewardFigures, Truth, audited_rewards, measure_reward
from lightning_modules.settings import TeacherSettings
from sweeps.audit_settings import Candidate, PromptList
from sweeps.audit_verdict import ORDER_OF_VERDICTS, Judgement, judge

Embeddings = NDArray[np.float32]
SAME = 1e-6
"""distance of goal and baseline from which they have no line between them, as in `goal_baseline_reward`"""


@dataclass(frozen=True)
class AuditedAlpha:
    """One candidate at one alpha."""

    alpha: float
    """strength of the projection (0 to 1)"""
    figures: RewardFigures
    """the reward against the true reward"""
    judgement: Judgement
    """the verdict on them"""


@dataclass(frozen=True, eq=False)
class AuditedCandidate:
    """One candidate at every alpha of the list."""

    candidate: Candidate
    """its name and sentences"""
    goal: Embeddings
    """(G, D) text embeddings of the goal sentences"""
    baseline: Embeddings
    """(B, D) text embeddings of the baseline sentences"""
    similarity: float | None
    """cosine of the mean goal and the mean baseline embedding; None without a baseline"""
    alphas: tuple[AuditedAlpha, ...]
    """ascending"""

    @property
    def line_exists(self) -> bool:
        """Whether goal and baseline differ, so that alpha above 0 means something."""
        return len(self.baseline) > 0 and not _coincide(self.goal, self.baseline)

    @property
    def best(self) -> AuditedAlpha:
        """The alpha with the best verdict, and of those the one with the highest agreement."""
        return min(self.alphas, key=lambda each: rank(each.judgement))


@dataclass(frozen=True, eq=False)
class Audit:
    """Everything that an audit found out."""

    manifest: Manifest
    """of the labelled frames"""
    frames: DecodedFrames
    """the frames and their embeddings"""
    truth: Truth
    """their true reward"""
    diversity: Diversity
    """how much their embeddings differ"""
    linear: RewardFigures
    """the best linear reading of the true reward from the embeddings, on held-out episodes"""
    candidates: tuple[AuditedCandidate, ...]
    """in the order of the list"""

    @property
    def best(self) -> AuditedCandidate:
        """The best candidate that is meant to work; the first one where all are controls."""
        return self.ranking[0] if self.ranking else self.candidates[0]

    @property
    def ranks(self) -> dict[str, int]:
        """Place of every candidate, controls included, from 1 for the best, by name."""
        ordered = sorted(self.candidates, key=lambda each: rank(each.best.judgement))
        return {each.candidate.name: place for place, each in enumerate(ordered, start=1)}

    @property
    def ranking(self) -> list[AuditedCandidate]:
        """The candidates that are meant to work, best first."""
        meant = [each for each in self.candidates if not each.candidate.control]
        return sorted(meant, key=lambda each: rank(each.best.judgement))


def rank(judgement: Judgement) -> tuple[int, float]:
    """Sorts judgements best first: by verdict, then by agreement."""
    return ORDER_OF_VERDICTS.index(judgement.verdict), -judgement.agreement


def read_labels(labels: Path) -> Manifest:
    """The manifest of labelled frames. Raises DataError, naming the next command, for anything else."""
    manifest = read_manifest(labels)
    if manifest.teacher is None:
        raise DataError(
            f"{labels} holds frames without labels: label them first, with `python -m scripts.label_frames "
            f"--frames {labels} --teacher TEACHER.yaml --out LABELS`, and give that folder"
        )
    return manifest


def with_sentences(
    labels: Path, manifest: Manifest, prompts: PromptList, teacher: TeacherSettings | None
) -> tuple[Manifest, int]:
    """The manifest with every sentence of the list in it, and how many were added; no frame is scored.

    Raises:
        DataError: a sentence is missing and no teacher is given, or it is not the one that labelled the frames.
    """
    wanted = list(dict.fromkeys(sentence for each in prompts.candidates for sentence in each.sentences))
    missing = [sentence for sentence in wanted if sentence not in manifest.prompts]
    if not missing:
        return manifest, 0
    if teacher is None:
        assert manifest.teacher is not None, "`read_labels` checks it"
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(
            f"{labels} has no text embedding of {missing[0]!r}{more}: repeat the command with the teacher that "
            f"labelled it ({manifest.teacher.name}), as `--teacher conf/teacher/bundled.yaml`; it reads the sentences "
            "and scores no frame"
        )
    from lightning_modules.prompt_embeddings import add_sentences  # torch loads only where a sentence is new

    return add_sentences(labels, manifest, teacher, missing), len(missing)


def audit(
    labels: Path, manifest: Manifest, prompts: PromptList, generator: np.random.Generator, report: Report = silent
) -> Audit:
    """Measure and judge every candidate at every alpha, over all frames.

    Args:
        labels: folder of labelled shards.
        manifest: its manifest, with every sentence of the list in it.
        prompts: what to compare.
        generator: draws the episodes of the intervals.
        report: called with the rewards measured and to measure.

    Raises:
        DataError: a damaged shard, or fewer than two frames.
    """
    frames = LabelledSet(str(labels)).decoded
    assert manifest.teacher is not None, "`read_labels` checks it"
    task, dims = manifest.task, manifest.teacher.dims
    embeddings = np.asarray(frames.embeddings, np.float32)
    mark = None if task.success_reward is None else task.success_reward * task.frames_per_step
    truth = Truth(frames.true_reward, frames.episode, mark, generator)
    linear = best_linear_reading(embeddings, truth.reward, truth.episode)

    todo = [(candidate, _goal_and_baseline(manifest, candidate)) for candidate in prompts.candidates]
    total, done = sum(len(_alphas(prompts, *each)) for each in todo), 0
    measured: list[list[tuple[float, RewardFigures]]] = []
    for candidate, (goal, baseline) in todo:
        measured.append([])
        for alpha in _alphas(prompts, candidate, (goal, baseline)):
            reward = audited_rewards(embeddings, goal, baseline, alpha, dims)
            measured[-1].append((alpha, measure_reward(reward, truth)))
            done += 1
            report(done, total, candidate.name)
    widest = max(figures.std for each in measured for _, figures in each)
    return Audit(
        manifest,
        frames,
        truth,
        diversity(embeddings),
        measure_reward(linear, truth),
        tuple(
            AuditedCandidate(
                candidate,
                goal,
                baseline,
                _similarity(goal, baseline),
                tuple(AuditedAlpha(alpha, figures, judge(figures, truth, widest)) for alpha, figures in each),
            )
            for (candidate, (goal, baseline)), each in zip(todo, measured, strict=True)
        ),
    )


def _goal_and_baseline(manifest: Manifest, candidate: Candidate) -> tuple[Embeddings, Embeddings]:
    assert manifest.teacher is not None, "`read_labels` checks it"

    def embedded(sentences: Sequence[str]) -> Embeddings:
        return np.array([manifest.prompts[each] for each in sentences], np.float32).reshape(-1, dim)

    dim = manifest.teacher.dim
    return embedded(candidate.goal), embedded(candidate.baseline)


def _alphas(prompts: PromptList, candidate: Candidate, embedded: tuple[Embeddings, Embeddings]) -> tuple[float, ...]:
    """The alphas to try; 0 alone where goal and baseline have the same embedding, and so no line between them."""
    goal, baseline = embedded
    return (0.0,) if len(baseline) and _coincide(goal, baseline) else prompts.alphas_of(candidate)


def _coincide(goal: Embeddings, baseline: Embeddings) -> bool:
    return bool(np.linalg.norm(goal.mean(axis=0) - baseline.mean(axis=0)) < SAME)


def _similarity(goal: Embeddings, baseline: Embeddings) -> float | None:
    if len(baseline) == 0:
        return None
    g, b = goal.mean(axis=0), baseline.mean(axis=0)
    return float(np.clip(g @ b / (np.linalg.norm(g) * np.linalg.norm(b)), -1.0, 1.0))
