"""How long a sweep's students take for a frame, on this machine, where no agent's training has told it."""

from collections.abc import Callable
from functools import partial

import numpy as np

from datamodules.progress import progress_bar
from lightning_modules.reward_function import StudentReward
from lightning_modules.student_files import WEIGHTS, read_card
from rllib_envs.threads import torch_threads
from sweeps.benchmarks import interleaved_medians
from sweeps.sweep_files import SweepFiles

ROUNDS = 15


def latencies_of(files: SweepFiles) -> dict[str, float]:
    """Median seconds of a call with one frame, by arm: of its first student, in the fastest runtime, in turns."""
    calls: dict[str, Callable[[], object]] = {}
    with torch_threads(), progress_bar("measure", "students") as report:
        for number, arm in enumerate(files.arms, start=1):
            trials = (trial.files.folder / "student" for trial in files.finished if trial.arm == arm and trial.files)
            student = next((folder for folder in trials if (folder / WEIGHTS).exists()), None)
            if student is not None:
                card = read_card(student)
                frames = np.random.default_rng(0).integers(0, 256, (1, card.pixels, card.pixels, 3), np.uint8)
                calls[arm] = partial(StudentReward.load(student, task=card.tasks[0]), frames)
            report(number, len(files.arms), arm)
        medians = interleaved_medians(calls, ROUNDS)
    return {arm: milliseconds / 1000 for arm, milliseconds in medians.items()}
