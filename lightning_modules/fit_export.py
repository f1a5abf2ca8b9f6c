"""What a fit leaves behind: the student's files, its scores on held-out episodes, and result.json."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.errors import DataError
from datamodules.frames_datamodule import FramesDataModule
from datamodules.results import read_json, write_result
from lightning_modules.fidelity import Fidelity
from lightning_modules.held_out import held_out_from
from lightning_modules.student_embeddings import StudentEmbeddings, evenly
from lightning_modules.student_files import StudentCard, StudentTarget, save_student
from lightning_modules.student_module import StudentModule
from lightning_modules.student_scores import Scores

RESULT = "result.json"
TRAIN_FRAMES = 2048
"""training frames, a random choice, that the exported student is measured on"""


@dataclass(frozen=True)
class FitResult:
    """A finished fit; the student folder's `result.json` holds the same figures."""

    backbone: str
    """timm name"""
    parameters: int
    """weights in the network"""
    epochs: int
    """epochs fitted, those before a stop included"""
    seconds: float
    """wall time of the epochs, those before a stop included"""
    fidelity: Fidelity
    """agreement with the teacher on the held-out episodes of all tasks, rewards standardised"""


def export_student(
    folder: Path,
    module: StudentModule,
    data: FramesDataModule,
    *,
    epochs: int,
    seconds: float,
    curves: Sequence[Mapping[str, float]],
    settings: Mapping[str, Any],
) -> FitResult:
    """Write held_out.npz, the student's files and, last of all, result.json. The module has been tested.

    Args:
        folder: the student's.
        module: with the weights to export.
        data: what it was fitted to.
        epochs: fitted.
        seconds: of wall time.
        curves: figures of each epoch.
        settings: of the fit.
    """
    assert module.held_out is not None, "trainer.test comes before the export"
    held_out = held_out_from(module.held_out, module.targets.of_set, data)
    held_out.write(folder)
    targets = tuple(
        StudentTarget(
            target.task,
            target.prompts,
            target.reward.scales,
            module.held_out.at(np.flatnonzero(held_out.target == number)).fidelity(),
        )
        for number, target in enumerate(module.targets.all)
    )
    card = StudentCard(
        backbone=module.backbone,
        pixels=data.task.render.frame_pixels,
        head=module.head,
        head_width=module.head_width,
        members=module.members,
        shared_backbone=module.shared_backbone,
        targets=targets,
        teacher=data.sets[0].teacher,
        manifest_digest=data.digest,
        fidelity=module.held_out.fidelity(),
    )
    save_student(folder, module.network, card, _embeddings(module, data) if module.head == "embedding" else None)
    parameters = sum(weights.numel() for weights in module.network.parameters())
    result = FitResult(module.backbone, parameters, epochs, seconds, card.fidelity)
    figures = {
        **asdict(result),
        "head": module.head,
        "members": module.members,
        "by_task": {target.task: asdict(target.fidelity) for target in targets},
        "mse": _mean_squared_errors(module, data),
        "curves": list(curves),
        "skipped_shards": data.skipped,
    }
    write_result(folder, figures, settings)
    return result


def _embeddings(module: StudentModule, data: FramesDataModule) -> StudentEmbeddings:
    """Every sentence that a manifest knows, and a sample of each task's embeddings."""
    sentences = {
        sentence: np.array(vector, np.float32)
        for manifest in data.manifests
        for sentence, vector in manifest.prompts.items()
    }
    train = [data.train_embeddings(number) for number in range(len(data.sets))]
    samples = {
        target.task: evenly(module.targets.embeddings_of(number, train))
        for number, target in enumerate(module.targets.all)
    }
    return StudentEmbeddings(sentences, samples)


def _mean_squared_errors(module: StudentModule, data: FramesDataModule) -> dict[str, float]:
    """Of the student as exported, so that those of training and validation can be compared; rewards standardised."""
    assert module.held_out is not None, "trainer.test comes before the export"
    some = islice(data.every_batch("train"), max(1, -(-TRAIN_FRAMES // data.batch_size)))
    scores = {
        "train": module.score(some),
        "validation": module.score(data.every_batch("validation")),
        "test": module.held_out,
    }
    return {name: _mse(one) for name, one in scores.items()}


def _mse(scores: Scores) -> float:
    return float((scores.student - scores.teacher).square().mean())


def read_fit(folder: Path) -> FitResult | None:
    """The result of a finished fit; None where there is none yet. Raises DataError for a damaged result.json."""
    path = folder / RESULT
    if not path.exists():
        return None
    try:
        content = read_json(path)
        fidelity = Fidelity(**content.pop("fidelity"))
        figures = {key: content[key] for key in ("backbone", "parameters", "epochs", "seconds")}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is not the result of a fit ({error!r}): remove {folder} and fit again") from error
    return FitResult(**figures, fidelity=fidelity)
