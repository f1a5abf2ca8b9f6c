"""Which drawings a trial has, and which episodes are shown."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from lightning_modules.held_out import HeldOut
from sweeps.figures import chosen_traces, draw_figures, figures_of_trial
from sweeps.trial_files import read_trial

ALL = {"learning_curve", "student_against_teacher", "episode_traces", "rewards", "stage_seconds", "agent_seconds"}
ALL |= {"reward_latency"}


def held_out(students: list[list[float]]) -> HeldOut:
    """Episodes 0, 1, ... of five frames in which the teacher's reward always rises."""
    count = len(students)
    teacher = np.tile(np.arange(5.0), count)
    step = np.tile(np.arange(5), count)
    return HeldOut(
        student=np.array(students).ravel(),
        teacher=teacher,
        episode=np.repeat(np.arange(count), 5),
        step=step,
        **{name: np.zeros(5 * count) for name in ("spread", "true_reward", "target")},
        **{name: np.arange(0) for name in ("top", "bottom", "worst")},
        **{f"{name}_frames": np.zeros((0, 8, 8, 3), np.uint8) for name in ("top", "bottom", "worst")},
    )


def test_a_finished_trial_has_every_drawing_as_png(trial: Path) -> None:
    drawings = figures_of_trial(trial)

    assert set(drawings) == ALL
    assert all(png.startswith(b"\x89PNG") for png in drawings.values())


def test_a_trial_without_student_has_no_student_drawings(trial: Path) -> None:
    shutil.rmtree(trial / "student")

    assert set(draw_figures(read_trial(trial))) == {
        "learning_curve",
        "stage_seconds",
        "agent_seconds",
        "reward_latency",
    }


def test_best_median_and_worst_episodes_are_chosen_by_rank_correlation() -> None:
    rising, one_swap, falling = [0.0, 1, 2, 3, 4], [0.0, 1, 2, 4, 3], [4.0, 3, 2, 1, 0]
    two_swaps = [1.0, 0, 2, 4, 3]

    traces = chosen_traces(held_out([one_swap, falling, rising, one_swap, two_swaps]))

    # Spearman by hand, 1 - 6 sum(d^2) / (n (n^2 - 1)): rising 1, one swap 1 - 12/120, falling -1.
    assert [trace.title for trace in traces] == [
        "episode 2, best followed, Spearman 1.00",
        "episode 0, median, Spearman 0.90",
        "episode 1, worst followed, Spearman -1.00",
    ]
    assert traces[2].student.tolist() == falling


def test_few_episodes_are_all_shown_and_constant_ones_passed_over() -> None:
    traces = chosen_traces(held_out([[0.0, 1, 2, 3, 4], [1.0, 1, 1, 1, 1]]))

    assert [trace.title for trace in traces] == ["episode 0, Spearman 1.00"]


def test_steps_of_an_episode_are_put_in_order() -> None:
    shuffled = held_out([[0.0, 1, 2, 3, 4]])
    order = np.array([3, 0, 4, 1, 2])
    shuffled = replace(
        shuffled, student=shuffled.student[order], teacher=shuffled.teacher[order], step=shuffled.step[order]
    )

    assert chosen_traces(shuffled)[0].student.tolist() == [0, 1, 2, 3, 4]
