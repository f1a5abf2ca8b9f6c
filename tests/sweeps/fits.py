"""Real fits, small enough for seconds, that the pages of students are made of."""

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from datamodules.progress import silent
from lightning_modules.fit_cli import FitCLI
from tests.lightning_modules.students import TASK

OTHER_TASK = replace(TASK, name="walker_walk")


def fit(out: Path, *labels: Path, epochs: int = 3, **model: Any) -> Path:
    """Fit a student of squares; returns its folder."""
    settings = {
        "data.labels": [str(one) for one in labels],
        "data.batch_size": 16,
        "trainer.max_epochs": epochs,
        "trainer.accelerator": "cpu",
        "model.backbone": "test_efficientnet",
        "model.head_width": 16,
        **{f"model.{name}": value for name, value in model.items()},
    }
    arguments = [f"--{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in settings.items()]
    return FitCLI(["fit", *arguments, f"--out={out}", "--tracking_uri=null"], nullcontext(silent)).out
