"""Students side by side, on their own frames and on others: which is faithful, which is fast, what generalises."""

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from lightning_modules.settings import TeacherSettings
from scripts.command import run
from sweeps.audit_settings import PromptList

LISTS = ("--students", "--labels", "--trials")


def evaluate_students(  # noqa: PLR0917  (arguments of a command)
    students: list[Path],
    labels: list[str],
    prompts: PromptList | None = None,
    teacher: TeacherSettings | None = None,
    out: Path = Path("runs/students"),
    seed: int = 0,
) -> Path:
    """Compare fitted students on labelled data sets: one row a student, one column a data set.

    python -m scripts.evaluate_students --students runs/x/student runs/y/student --labels runs/x/labels runs/z/labels

    A column may be the frames that a student was fitted to (then only its held-out episodes count), frames of the same
    task from other seeds or policies (out of distribution), or another task (transfer). Fidelity stands beside size,
    fit time and latency, measured here, so this is also the table that compares backbones. With `--prompts` the
    students with an embedding head are asked for sentences that they were never fitted to:

    python -m scripts.evaluate_students --students runs/x/student --labels runs/x/labels \\
        --prompts conf/audits/cartpole_swingup.yaml --teacher conf/teacher/bundled.yaml

    Ends with students.html and result.json. Scoring 10,000 frames takes a small student a few seconds.

    Args:
        students: folders that scripts.fit_student left, separated by spaces
        labels: folders or addresses of labelled frames, separated by spaces
        prompts: a file of conf/audits, for students with an embedding head
        teacher: the file of conf/teacher that labelled the frames; only for sentences that they do not have yet
        out: folder for students.html and result.json
        seed: draws the episodes of the intervals (0 or above)
    """
    from sweeps.student_evaluation_run import evaluate_folders  # torch loads only after the arguments proved right

    command = shlex.join(["python", "-m", "scripts.evaluate_students", *sys.argv[1:]])
    return evaluate_folders(students, labels, out, prompts=prompts, teacher=teacher, seed=seed, command=command)


def with_lists(arguments: Sequence[str]) -> list[str]:
    """`--students A B` as the one argument that a list is to the parser: `--students=["A", "B"]`."""
    joined: list[str] = []
    left = list(arguments)
    while left:
        word = left.pop(0)
        values: list[str] = []
        while word in LISTS and left and not left[0].startswith("--"):
            values.append(left.pop(0))
        is_list = values and not values[0].startswith("[")
        joined += [f"{word}={json.dumps(values)}"] if is_list else [word, *values]
    return joined


if __name__ == "__main__":
    run(evaluate_students, with_lists(sys.argv[1:]))
