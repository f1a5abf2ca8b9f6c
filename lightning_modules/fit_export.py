"""What a fit leaves behind: the student's files, its scores on held-out episodes, and result.json."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from datamodules.errors import DataError
from datamodules.frames_datamodule import FramesDataModule
from datamodules.results import read_json, write_result
from lightning_modules.fidelity import Fidelity, measure_fidelity
from lightning_modules.held_out import held_out_from
from lightning_modules.student_files import StudentCard, save_student
from lightning_modules.student_module import StudentModule

RESULT = "result.json"


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
    """agreement with the teacher on the held-out episodes, rewards standardised"""


def export_student(
    folder: Path,
    module: StudentModule,
    data: FramesDataModule,
    *,
    epochs: int,
    seconds: float,
    settings: Mapping[str, Any],
) -> FitResult:
    """Write held_out.npz, the student's files and, last of all, result.json. The module has been tested."""
    assert module.held_out is not None, "trainer.test comes before the export"
    scores = module.held_out
    fidelity = measure_fidelity(scores.student.numpy(), scores.teacher.numpy(), scores.episode.numpy())
    held_out_from(scores, module.standardisation, data).write(folder)
    card = StudentCard(
        task=data.task.name,
        backbone=module.backbone,
        pixels=data.task.render.frame_pixels,
        head_width=module.head_width,
        prompts=module.prompts,
        standardisation=module.standardisation,
        manifest_digest=data.digest,
        fidelity=fidelity,
    )
    save_student(folder, module.network, card)
    parameters = sum(weights.numel() for weights in module.network.parameters())
    result = FitResult(module.backbone, parameters, epochs, seconds, fidelity)
    write_result(folder, {**asdict(result), "skipped_shards": data.skipped}, settings)
    return result


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
