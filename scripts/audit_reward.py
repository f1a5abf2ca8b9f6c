"""Is this sentence any good? Measured on labelled frames, before anything is trained."""

import shlex
import sys
from pathlib import Path

from lightning_modules.settings import TeacherSettings
from scripts.command import run
from sweeps.audit_settings import PromptList
from sweeps.settings import TrackingSettings

AUDITS = TrackingSettings(experiment="audits")


def audit_reward(  # noqa: PLR0917  (arguments of a command)
    labels: Path,
    prompts: PromptList | None = None,
    teacher: TeacherSettings | None = None,
    out: Path | None = None,
    seed: int = 0,
    tracking: TrackingSettings | None = AUDITS,
) -> Path:
    """Compare sentences and alphas as rewards on labelled frames, and show them on one page with a slider for alpha.

    python -m scripts.audit_reward --labels runs/x/labels --prompts conf/audits/cartpole_swingup.yaml \\
        --teacher conf/teacher/bundled.yaml

    A dozen sentences on 6000 frames take about half a minute on one core. No frame is scored by the teacher again.

    Args:
        labels: folder written by scripts.label_frames
        prompts: a file of conf/audits; empty: the task's own prompts
        teacher: the file of conf/teacher that labelled the frames; only needed for sentences they do not have yet
        out: folder for audit.html and result.json; empty: `audit` beside the labels' folder
        seed: draws the episodes of the intervals (0 or above)
        tracking: where the audit is recorded; null: nowhere
    """
    from sweeps.audit_run import audit_folder  # scipy and torch load only after the arguments proved right

    command = shlex.join(["python", "-m", "scripts.audit_reward", *sys.argv[1:]])
    return audit_folder(
        labels, prompts, out or labels.parent / "audit", teacher=teacher, seed=seed, tracking=tracking, command=command
    )


if __name__ == "__main__":
    run(audit_reward)
