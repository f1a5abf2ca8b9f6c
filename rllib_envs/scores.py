"""What an episode's true rewards amount to: its normalised score, and whether it was a success."""

from datamodules.tasks import Task
from rllib_envs.play import PlayedEpisode

LAST_SHARE = 0.1
"""share of an episode, at its end, that decides whether it was a success"""


def score_range(task: Task) -> tuple[float, float] | None:
    """The true returns of an episode that score 0 and 1; None for a task that states none.

    dm_control's tasks are scored by convention (Tassa et al. 2018) as shares of the highest return, 1,000 in an episode
    of the usual length. Other tasks are scored between a random policy and a reference, which their file states.
    """
    if task.score_range is not None:
        return task.score_range
    return (0.0, task.reward_per_frame[1] * task.episode_frames) if task.family == "dm_control" else None


def normalised_score(task: Task, true_return: float) -> float | None:
    """Where a true return lies between those that score 0 and 1, beyond them too; None where the task states none."""
    ends = score_range(task)
    return None if ends is None else (true_return - ends[0]) / (ends[1] - ends[0])


def is_success(task: Task, episode: PlayedEpisode) -> bool | None:
    """Whether an episode ends where the task wants it; None for a task without `success_reward`.

    It does when the mean true reward a simulator frame reaches `success_reward` over the last tenth of the episode's
    full length (at least one decision): passing through the goal is not enough, and an episode that its simulator ended
    before has no reward there.
    """
    if task.success_reward is None:
        return None
    decisions = max(1, round(LAST_SHARE * task.episode_steps))
    last = episode.true[task.episode_steps - decisions :]
    return bool(last.sum() / (decisions * task.frames_per_step) >= task.success_reward)
