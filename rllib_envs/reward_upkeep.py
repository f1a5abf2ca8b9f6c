"""An agent's reward while it trains: refined when it is time, handed to all environments, and applied to replay."""

import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lightning_modules.reward_function import RewardFunction
from rllib_envs.agent_files import AgentCard
from rllib_envs.agent_reward import load_teacher, make_reward
from rllib_envs.refinement import CANDIDATES, Refiner
from rllib_envs.refinement_records import read_record, read_records
from rllib_envs.relabelling import relabel
from rllib_envs.reward_env import RewardVectorEnv
from rllib_envs.sac import Sac
from rllib_envs.sac_env_runner import Reward
from rllib_envs.threads import torch_threads
from rllib_envs.visits import StateDrawer, Visited, Visits

if TYPE_CHECKING:
    from rllib_envs.training import Progress


class RewardUpkeep:
    """Called between training steps; knows when something is to be done."""

    def __init__(
        self,
        card: AgentCard,
        out: Path,
        algorithm: Sac,
        environment: RewardVectorEnv,
        refinements: int,
        *,
        threads: int,
    ) -> None:
        """Hand the reward that the agent had before a stop to the algorithm and to the environment that evaluates.

        Args:
            card: the agent's.
            out: its folder.
            algorithm: what trains it.
            environment: what evaluates it.
            refinements: how many were made before the stop.
            threads: of torch while a student is refined and transitions are rewarded again.
        """
        assert card.teacher is not None, "check_refinement comes first"
        assert algorithm.visited is not None, "the environments keep visits where there is a refinement"
        self._card, self._out, self._algorithm, self._environment = card, out, algorithm, environment
        self._threads = threads
        self._visited: Visited = algorithm.visited
        self._drawer = StateDrawer(card.task)
        self._refiner = Refiner(card, out, self._drawer, partial(load_teacher, card.teacher))
        self._reward: RewardFunction | None = None
        self._last = read_record(out, refinements)
        if algorithm.reward_version:
            with torch_threads(threads):
                self._publish(algorithm.reward_version)

    def after(self, steps: int, progress: "Progress") -> bool:
        """Refine if it is time, reward stale transitions again; returns whether a refinement was made."""
        if not self._refiner.due(steps, progress.refinements):
            self._relabel(progress)  # env runners in other processes are a call behind with what they heard of a reward
            return False
        # all else waits; a student is drawn at random before its weights are read, and its agent must not notice
        with torch_threads(self._threads), torch.random.fork_rng(devices=[]):
            self._refine(steps, progress)
            self._relabel(progress)
        return True

    @property
    def exploited(self) -> bool:
        """Whether the student overrates what the agent visits by more than it may, as last measured."""
        most, last = self._refiner.settings.most_overrated, self._last
        return most is not None and last is not None and last.overrated is not None and last.overrated > most

    def result(self, progress: "Progress") -> dict[str, Any]:
        """Figures for result.json."""
        records = list(read_records(self._out))
        return {
            "teacher_queries": self._refiner.queries,
            "query_budget": self._refiner.settings.query_budget,
            "made": progress.refinements,
            "accepted": sum(record.accepted for record in records),
            "exploited": self.exploited,
            "seconds": {"refine": round(progress.refine, 2), "relabel": round(progress.relabel, 2)},
        }

    def close(self) -> None:
        """Give back the simulator that draws."""
        self._drawer.close()

    def _refine(self, steps: int, progress: "Progress") -> None:
        start = time.perf_counter()
        number, version = progress.refinements + 1, self._algorithm.reward_version
        record = self._refiner.refine(number, version, steps, self._some_visits(progress, number))
        progress.refinements = number
        progress.refined_at, self._last = steps, record
        if record.accepted:
            self._publish(number)
        progress.refine += time.perf_counter() - start

    def _relabel(self, progress: "Progress") -> None:
        if self._reward is None:
            return
        start = time.perf_counter()
        version = self._algorithm.reward_version
        relabel(self._algorithm.replay, self._visited, self._reward, version, self._drawer)
        progress.relabel += time.perf_counter() - start

    def _publish(self, version: int) -> None:
        """Reward all environments with a version of the student; env runners that are replaced later, too."""
        make = partial(_make, replace(self._card, student=self._refiner.students.folder(version)))
        self._reward = make()
        self._algorithm.set_reward(Reward(version, make))
        self._environment.set_reward(self._reward, version)

    def _some_visits(self, progress: "Progress", number: int) -> Visits:
        """Some of the states visited since the refinement before, in their order."""
        rows = self._algorithm.replay.rows_by_age[progress.refined_at - self._algorithm.steps :]
        generator = np.random.default_rng([self._card.seed, number, 1])
        places = np.sort(generator.choice(len(rows), min(CANDIDATES, len(rows)), replace=False))
        return self._visited.visits(rows[places], self._drawer)


def _make(card: AgentCard) -> RewardFunction:
    reward = make_reward(card)
    assert reward is not None, "only the true reward is none"
    return reward
