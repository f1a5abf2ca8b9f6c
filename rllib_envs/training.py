"""The training loop: RLlib's algorithm, evaluations on the way, checkpoints, and what it all cost."""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import ray

from datamodules.errors import SettingsError
from datamodules.progress import Report
from datamodules.results import read_json, write_atomically, write_json
from rllib_envs.agent_files import AgentCard, AgentResult, OnEvaluation, OnPicture, greedy_policy, save_policy
from rllib_envs.agent_reward import SCALE_FRAMES, make_reward
from rllib_envs.checkpoints import latest_checkpoint, replace_checkpoint
from rllib_envs.contact_sheet import ContactSheet
from rllib_envs.costs import Costs, Latencies, PeakMemory, shares_of
from rllib_envs.judges import TEACHER, make_judges
from rllib_envs.play import Returns, play_episodes
from rllib_envs.ppo import PpoConfig
from rllib_envs.ppo_networks import PpoActor
from rllib_envs.reward_env import RewardVectorEnv
from rllib_envs.reward_upkeep import RewardUpkeep
from rllib_envs.sac import TASK_ENVIRONMENT, Sac, SacConfig
from rllib_envs.sac_networks import Actor
from rllib_envs.scores import is_success
from rllib_envs.settings import SacSettings

EVALUATION_SEED = 900_000
"""first seed of the evaluations during training; the final evaluation has others"""
SEEDS_PER_START = 1_000
"""distance of the seeds of a training that goes on from those of its earlier starts; a runner takes `num_envs`"""
SECONDS_BETWEEN_CHECKPOINTS = 60.0
EVALUATIONS, PROGRESS = "evaluations.jsonl", "progress.json"


class Training:
    """One agent on its way: the algorithm, the environment that evaluates it, and what both have cost so far."""

    def __init__(self, card: AgentCard, out: Path, threads: int) -> None:
        """Start, or take up the last checkpoint in `out`.

        Args:
            card: the agent's.
            out: its folder.
            threads: of torch while its student is refined, and the rest waits.
        """
        self._card, self._out = card, out
        checkpoint = latest_checkpoint(out)
        self._progress = Progress() if checkpoint is None else Progress(**read_json(checkpoint / PROGRESS))
        # the simulators' states are not kept: with the same seed their episodes would start as the first ones did
        self._algorithm: Learning = make_algorithm(card, card.seed + SEEDS_PER_START * self._progress.starts)
        if checkpoint is not None:
            self._algorithm.restore_from_path(checkpoint)
        self._progress.starts += 1
        keep_lines(out / EVALUATIONS, self._progress.evaluations)
        self._environment = RewardVectorEnv(
            card.drawn_task, card.learning.evaluation_episodes, make_reward(card), observations=card.observations
        )
        self._judges = make_judges(card, None, card.judge)
        self._upkeep: RewardUpkeep | None = None
        if card.refinement is not None:
            made = self._progress.refinements
            assert isinstance(self._algorithm, Sac), "check_refinement comes first"
            self._upkeep = RewardUpkeep(card, out, self._algorithm, self._environment, made, threads=threads)
        self._costs_before = replace(self._progress)
        self._start = self._last_checkpoint = time.perf_counter()

    def run(self, report: Report, on_evaluation: OnEvaluation | None, on_picture: OnPicture | None) -> AgentResult:
        """Train to the end. Evaluates at the start, every `evaluation_every_steps`, and at the end."""
        steps, settings, note = self._algorithm.steps, self._card.learning, ""
        while True:
            done = steps >= settings.total_steps or (self._upkeep is not None and self._upkeep.exploited)
            due = done or steps >= self._progress.evaluations * settings.evaluation_every_steps
            if due and steps > self._progress.evaluated_at:
                returns = self._evaluate(on_evaluation, on_picture)
                note = f"true return {sum(returns.true) / len(returns.true):.0f}"
            report(min(steps, settings.total_steps), settings.total_steps, note)
            if done or time.perf_counter() - self._last_checkpoint > SECONDS_BETWEEN_CHECKPOINTS:
                self._save()
            if done:
                save_policy(self._out, self._algorithm.actor())
                return self._result()
            self._algorithm.train()
            steps = self._algorithm.steps
            if self._upkeep is not None and steps < settings.total_steps and self._upkeep.after(steps, self._progress):
                self._save()

    def close(self) -> None:
        """Give back what sampler, evaluation and refinement hold."""
        if self._upkeep is not None:
            self._upkeep.close()
        self._environment.close()
        self._algorithm.stop()

    def _evaluate(self, on_evaluation: OnEvaluation | None, on_picture: OnPicture | None) -> Returns:
        start = time.perf_counter()
        seeds = range(EVALUATION_SEED, EVALUATION_SEED + self._card.learning.evaluation_episodes)
        policy = greedy_policy(self._algorithm.actor())
        sheet = None if on_picture is None else ContactSheet(self._environment)
        returns = play_episodes(self._environment, policy, seeds, self._judges, sheet.after_step if sheet else None)
        self._update_progress()
        self._progress.evaluations += 1
        self._progress.evaluation_steps += returns.steps
        self._progress.evaluated_at = self._algorithm.steps
        line = {
            "steps": self._algorithm.steps,
            "updates": self._algorithm.updates,
            "seconds": round(self._progress.seconds, 2),
            "true_returns": returns.true,
            "learned_returns": returns.learned,
        }
        if self._upkeep is not None:
            line["reward_version"] = self._environment.reward_version
        if TEACHER in self._judges:
            line["teacher_returns"] = returns.judged(TEACHER)
        if self._card.task.success_reward is not None:
            line["successes"] = [is_success(self._card.task, episode) for episode in returns.episodes]
        with (self._out / EVALUATIONS).open("a") as stream:
            stream.write(json.dumps(line) + "\n")
        if on_evaluation is not None:
            on_evaluation(line)
        if sheet is not None and on_picture is not None:
            on_picture(sheet.picture(), self._algorithm.steps)
        self._progress.evaluate += time.perf_counter() - start
        return returns

    def _save(self) -> None:
        self._update_progress()
        with replace_checkpoint(self._out) as folder:
            self._algorithm.save_to_path(folder)
            write_json(folder / PROGRESS, asdict(self._progress))
        self._last_checkpoint = time.perf_counter()

    def _update_progress(self) -> None:
        """Bring seconds and costs up to date: those of earlier attempts and those of this one."""
        before, now = self._costs_before, self._progress
        spent = self._algorithm.sampling_costs + self._environment.costs
        now.seconds = before.seconds + time.perf_counter() - self._start
        now.update = before.update + self._algorithm.update_seconds
        now.judge_queries = before.judge_queries + sum(judge.queries for judge in self._judges.values())
        for phase in ("simulate", "render", "reward"):
            setattr(now, phase, getattr(before, phase) + getattr(spent, phase))
        # of the agent's own steps, which are scored in calls of one size
        calls = Latencies(tuple(before.reward_calls)) + self._algorithm.sampling_costs.reward_calls
        now.reward_calls = list(calls.counts)
        memory = sum(self._algorithm.runner_memory.values(), PeakMemory.of_this_process())
        now.memory, now.gpu_memory = max(before.memory, memory.cpu), max(before.gpu_memory, memory.gpu)

    def _result(self) -> AgentResult:
        self._update_progress()
        progress, steps = self._progress, self._algorithm.steps
        costs = {phase: round(getattr(progress, phase), 2) for phase in ("simulate", "render", "reward", "update")}
        asked = 0
        if self._card.reward == "teacher" and self._card.teacher is not None:
            asked = (SCALE_FRAMES + steps + progress.evaluation_steps) * len(self._card.teacher.clips)
        asked += progress.judge_queries
        refinement = None if self._upkeep is None else self._upkeep.result(progress)
        if refinement is not None:
            asked += refinement["teacher_queries"]
            costs["refine"] = round(progress.refine + progress.relabel, 2)
        # env runners in other processes spend their seconds beside this one's
        costs["other"] = round(max(0.0, progress.seconds - sum(costs.values())), 2)
        calls = Latencies(tuple(progress.reward_calls))
        return AgentResult(
            steps=steps,
            updates=self._algorithm.updates,
            seconds=round(progress.seconds, 2),
            evaluation_seconds=round(progress.evaluate, 2),
            steps_per_second=round(steps / progress.seconds, 1),
            costs=costs,
            cost_shares=shares_of(costs),
            reward_latency=calls.summary() if calls.calls else None,
            peak_memory_gib=round(progress.memory, 3),
            peak_gpu_memory_gib=round(progress.gpu_memory, 3) or None,
            teacher_queries=asked,
            non_finite_rewards=self._algorithm.non_finite_rewards,
            refinement=refinement,
        )


@dataclass
class Progress:
    """What a checkpoint keeps beside the algorithm's own state."""

    starts: int = 0
    """how often the training was started or gone on with"""
    seconds: float = 0.0
    """since the start, without the time between a stop and the next start"""
    simulate: float = 0.0
    """seconds spent on stepping simulators in all processes, evaluations included, as the next two"""
    render: float = 0.0
    """seconds spent on drawing frames"""
    reward: float = 0.0
    """seconds spent on scoring frames"""
    update: float = 0.0
    """seconds spent on gradient steps, with their batches and the hand-over of the weights"""
    reward_calls: list[int] = field(default_factory=lambda: list(Latencies().counts))
    """calls of the reward function for the agent's own steps, by how long they took (costs.py)"""
    memory: float = 0.0
    """the most main memory that this process and its env runners held in any start, GiB"""
    gpu_memory: float = 0.0
    """the same on the GPU"""
    evaluate: float = 0.0
    """seconds of `seconds` spent on evaluations"""
    evaluations: int = 0
    """lines of evaluations.jsonl"""
    evaluation_steps: int = 0
    """agent decisions in all evaluations"""
    judge_queries: int = 0
    """frames that the judge of the evaluations scored, those that set its scale included"""
    evaluated_at: int = -1
    """agent decisions at the last evaluation"""
    refinements: int = 0
    """refinements made, accepted or not"""
    refined_at: int = 0
    """agent decisions at the last of them"""
    refine: float = 0.0
    """seconds spent on refinements, without what follows"""
    relabel: float = 0.0
    """seconds spent on rewarding transitions in replay again"""


class Learning(Protocol):
    """What the training loop asks of an RLlib algorithm (`Sac` or `Ppo`)."""

    steps: int
    updates: int
    update_seconds: float

    @property
    def sampling_costs(self) -> Costs: ...
    @property
    def runner_memory(self) -> Mapping[int, PeakMemory]: ...
    @property
    def non_finite_rewards(self) -> int: ...
    def train(self) -> Any: ...
    def actor(self) -> Actor | PpoActor: ...
    def save_to_path(self, path: Path) -> str: ...
    def restore_from_path(self, path: Path) -> None: ...
    def stop(self) -> None: ...


def make_algorithm(card: AgentCard, seed: int) -> Learning:
    """The algorithm of an agent, in this process but for its env runners.

    Raises SettingsError where Ray has fewer CPUs than these need: it would wait for them without an end.
    """
    cpus, settings = int(ray.cluster_resources().get("CPU", 0)), card.learning
    config: Any = SacConfig().sac(settings) if isinstance(settings, SacSettings) else PpoConfig().ppo(settings)
    if (runners := settings.num_env_runners) > cpus:
        group = "sac" if isinstance(settings, SacSettings) else "ppo"
        raise SettingsError(
            f"{group}.num_env_runners is {runners}: Ray has {cpus} CPUs here, and each takes one; lower it"
        )
    environment = {
        "task": card.drawn_task,
        "make_reward": partial(make_reward, card),
        "seed": seed,
        "observations": card.observations,
        "keep_visits": card.refinement is not None,
    }
    config.environment(TASK_ENVIRONMENT, env_config=environment)
    config.debugging(seed=seed, log_level="ERROR")
    algorithm: Learning = config.build_algo()
    return algorithm


def keep_lines(path: Path, count: int) -> None:
    """Cut a file to its first lines: evaluations after the last checkpoint are made again."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    write_atomically(path, "".join(lines[:count]).encode())
