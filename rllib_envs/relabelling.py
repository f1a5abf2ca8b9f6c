"""Every transition in replay rewarded again when the reward has changed."""

import numpy as np

from lightning_modules.reward_function import RewardFunction
from rllib_envs.finite_reward import FiniteReward
from rllib_envs.replay import Replay
from rllib_envs.visits import Draw, Visited

ROWS_AT_ONCE = 256


def relabel(
    replay: Replay,
    visited: Visited,
    reward: RewardFunction,
    version: int,
    draw: Draw,
) -> int:
    """Give all transitions whose reward is of another version this one; returns how many they were.

    Which rows those are is kept row by row, so it does not matter how often the ring has wrapped, and transitions that
    an env runner made before it heard of the new reward are found when they arrive. Stopped midway, it goes on where it
    was.

    Args:
        replay: whose rewards are replaced.
        visited: what its transitions led to.
        reward: the present one.
        version: of this reward.
        draw: draws the frames that are not kept.
    """
    score = FiniteReward(reward)
    rows = visited.rows_of_other_versions(version)
    for part in np.array_split(rows, range(ROWS_AT_ONCE, len(rows), ROWS_AT_ONCE)):
        if len(part):
            replay.reward_again(part, score(visited.frames(part, draw)))
            visited.mark(part, version)
    return len(rows)
