"""From labels to an audit's folder: `audit.html`, `result.json`, and a run in MLflow."""

import time
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from datamodules.errors import SettingsError
from datamodules.progress import progress_bar
from datamodules.results import write_result
from lightning_modules.settings import TeacherSettings
from sweeps.audit import Audit, AuditedAlpha, AuditedCandidate, audit, read_labels, with_sentences
from sweeps.audit_answer import answer_of, coverage_of, remarks_on, warnings_of
from sweeps.audit_page import write_audit_page
from sweeps.audit_settings import PromptList, own_prompts
from sweeps.settings import TrackingSettings

if TYPE_CHECKING:
    from lightning_modules.runs import Run

PAGE = "audit.html"


def audit_folder(
    labels: Path,
    prompts: PromptList | None,
    out: Path,
    *,
    teacher: TeacherSettings | None = None,
    seed: int = 0,
    tracking: TrackingSettings | None = None,
    command: str = "",
) -> Path:
    """What scripts.audit_reward does: audit with a progress bar, page, MLflow run, `result.json`. Returns its path.

    Raises:
        SettingsError: the seed is negative, or the store cannot be used.
        DataError: as `read_labels`, `with_sentences` and `audit`.
    """
    if seed < 0:
        raise SettingsError(f"seed is {seed}: it must be 0 or above")
    start = time.monotonic()
    manifest = read_labels(labels)
    prompts = prompts or own_prompts(manifest.task.prompts)
    manifest, added = with_sentences(labels, manifest, prompts, teacher)
    settings = {"labels": labels, "prompts": prompts, "teacher": teacher, "seed": seed, "tracking": tracking}
    # The store is opened before the work, so that one that cannot be used is known at once.
    with _run(tracking, manifest.task.name) as run:
        with progress_bar("audit", "rewards") as report:
            found = audit(labels, manifest, prompts, np.random.default_rng(seed), report)
        figures = {**content_of(found), "sentences_added": added, "teacher_queries": 0, "seed": seed}
        figures |= {"command": command, "seconds": round(time.monotonic() - start, 2)}
        page = write_audit_page(out / PAGE, found, figures)
        if run is not None and tracking is not None:
            run.log_settings({"labels": str(labels), "seed": seed})
            _log(run, found, page)
            figures["mlflow"] = {
                "tracking_uri": tracking.uri,
                "experiment": tracking.experiment,
                "run_id": run.run_id,
            }
    return write_result(out, figures, settings)


def content_of(found: Audit) -> dict[str, Any]:
    """The figures of `result.json`."""
    manifest, truth = found.manifest, found.truth
    assert manifest.teacher is not None, "`read_labels` checks it"
    return {
        "task": manifest.task.name,
        "teacher": {"name": manifest.teacher.name, "digest": manifest.teacher.digest},
        "manifest_digest": manifest.digest,
        "answer": answer_of(found),
        "warnings": warnings_of(found),
        "coverage": coverage_of(found),
        "collection": manifest.collection,
        "samples": truth.reward.size,
        "episodes": truth.episodes,
        "judged_episodes": truth.judged_episodes,
        "attainable_spearman": truth.attainable,
        "successes": truth.successes,
        "variance_shares": found.diversity.shares,
        "effective_dimensions": found.diversity.effective_dimensions,
        "linear_reading": found.linear,
        "candidates": [_content_of_candidate(each) for each in found.candidates],
    }


def _content_of_candidate(each: AuditedCandidate) -> dict[str, Any]:
    return {
        **asdict(each.candidate),
        "alphas": [{"alpha": at.alpha, **asdict(at.judgement), **asdict(at.figures)} for at in each.alphas],
        "best_alpha": each.best.alpha,
        "verdict": each.best.judgement.verdict,
        "agreement": each.best.judgement.agreement,
        "reasons": each.best.judgement.reasons,
        "remarks": remarks_on(each),
        "goal_baseline_similarity": each.similarity,
    }


def _run(tracking: TrackingSettings | None, task: str) -> "Run | nullcontext[None]":
    if tracking is None:
        return nullcontext()
    from lightning_modules.runs import Run  # mlflow takes seconds to load

    return Run(tracking.uri, tracking.experiment, f"{task} audit")


def _log(run: "Run", found: Audit, page: Path) -> None:
    run.set_tags({"task": found.manifest.task.name, "manifest": found.manifest.digest})
    for each in found.candidates:
        run.set_tags({f"{_key(each)}/verdict": each.best.judgement.verdict})
        metrics = {f"{_key(each)}/{name}": value for name, value in _metrics(each.best).items()}
        run.log_metrics({name: value for name, value in metrics.items() if value is not None})
    run.log_metrics({"cost/teacher_queries": 0})
    run.log_file(page)


def _key(each: AuditedCandidate) -> str:
    """The candidate's name in letters that MLflow takes."""
    return "".join(letter if letter.isalnum() or letter in "_-. " else "_" for letter in each.candidate.name)


def _metrics(best: AuditedAlpha) -> dict[str, float | None]:
    figures = best.figures
    return {
        "alpha": best.alpha,
        "agreement": best.judgement.agreement,
        "spearman_within_episode": figures.spearman_within_episode,
        "spearman": figures.spearman,
        "pearson": figures.pearson,
        "epic": figures.epic,
        "auroc": figures.auroc,
        "top_successes": figures.top_successes,
        "std": figures.std,
    }
