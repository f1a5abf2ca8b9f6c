"""Train an agent: RLlib SAC on frames' rewards, evaluated on the way, resumable after a stop."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from datamodules.errors import DataError
from datamodules.progress import Report, progress_bar, silent
from datamodules.results import read_json, write_atomically, write_json, write_result
from datamodules.tasks import Task
from lightning_modules.settings import TeacherSettings
from rllib_envs.agent_files import CARD, AgentCard, RewardKind, greedy_policy, save_policy
from rllib_envs.agent_reward import SCALE_FRAMES, check_reward, make_reward, measure_teacher_scale
from rllib_envs.checkpoints import latest_checkpoint, replace_checkpoint
from rllib_envs.gl import require_gl
from rllib_envs.play import Returns, play_episodes
from rllib_envs.ray_session import ray_session
from rllib_envs.reward_env import RewardVectorEnv
from rllib_envs.sac import TASK_ENVIRONMENT, Sac, SacConfig
from rllib_envs.settings import SacSettings
from rllib_envs.simulators import make_simulator
from rllib_envs.threads import torch_threads

EVALUATION_SEED = 900_000
"""first seed of the evaluations during training; the final evaluation has others"""
SECONDS_BETWEEN_CHECKPOINTS = 60.0
EVALUATIONS, RESULT, PROGRESS = "evaluations.jsonl", "result.json", "progress.json"

OnEvaluation = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class AgentResult:
    """What a training did, all its attempts together."""

    steps: int
    """agent decisions"""
    updates: int
    """gradient steps"""
    seconds: float
    """from the start to the end, evaluations included, time between a stop and a new start left out"""
    steps_per_second: float
    """steps / seconds"""
    costs: dict[str, float]
    """seconds by what they were spent on: simulate, render, reward, update, other"""
    teacher_queries: int
    """frames scored by the teacher itself"""


def train_agent(
    task: Task,
    reward: RewardKind,
    sac: SacSettings,
    out: Path,
    *,
    seed: int,
    student: Path | None = None,
    teacher: TeacherSettings | None = None,
    report: Report = silent,
    on_evaluation: OnEvaluation | None = None,
) -> AgentResult:
    """Train until `sac.total_steps`, or go on with a training that was stopped.

    Args:
        task: what to do.
        reward: what the agent is rewarded with.
        sac: how it learns.
        out: folder for the agent: agent.json, policy.safetensors, evaluations.jsonl, checkpoint/, result.json. A
            finished one is left as it is.
        seed: seed of networks, episodes and batches.
        student: the student's folder, for reward 'student'.
        teacher: which teacher, for reward 'teacher'.
        report: called with the agent decisions done and to do.
        on_evaluation: called with each new line of evaluations.jsonl.

    Raises:
        SuiteError: a mistake in the arguments, found before any work starts, or an `out` that holds another agent.
    """
    card = check_reward(AgentCard(task, reward, sac, seed, student=student, teacher=teacher))
    card = claim(out, card)
    if (out / RESULT).exists():
        finished = read_json(out / RESULT)
        return AgentResult(**{field.name: finished[field.name] for field in fields(AgentResult)})
    with torch_threads(), ray_session():
        training = Training(card, out)
        try:
            result = training.run(report, on_evaluation)
        finally:
            training.close()
    write_result(out, asdict(result), asdict(card))
    return result


def train_folder(
    task: Task,
    reward: RewardKind,
    sac: SacSettings,
    out: Path,
    *,
    seed: int,
    student: Path | None,
    teacher: TeacherSettings | None,
) -> Path:
    """What scripts.train_agent does: train with a progress bar. Returns the path of `result.json`."""
    with progress_bar("train", "steps") as report:
        train_agent(task, reward, sac, out, seed=seed, student=student, teacher=teacher, report=report)
    return out / RESULT


class Training:
    """One agent on its way: the algorithm, the environment that evaluates it, and what both have cost so far."""

    def __init__(self, card: AgentCard, out: Path) -> None:
        """Start, or take up the last checkpoint in `out`."""
        self._card, self._out = card, out
        self._algorithm: Sac = make_algorithm(card)
        self._progress = Progress()
        checkpoint = latest_checkpoint(out)
        if checkpoint is not None:
            self._algorithm.restore_from_path(checkpoint)
            self._progress = Progress(**read_json(checkpoint / PROGRESS))
        keep_lines(out / EVALUATIONS, self._progress.evaluations)
        self._environment = RewardVectorEnv(card.task, card.sac.evaluation_episodes, make_reward(card))
        self._costs_before = replace(self._progress)
        self._start = self._last_checkpoint = time.perf_counter()

    def run(self, report: Report, on_evaluation: OnEvaluation | None) -> AgentResult:
        """Train to the end. Evaluates at the start, every `evaluation_every_steps`, and at the end."""
        steps, sac, note = self._algorithm.steps, self._card.sac, ""
        while True:
            done = steps >= sac.total_steps
            due = done or steps >= self._progress.evaluations * sac.evaluation_every_steps
            if due and steps > self._progress.evaluated_at:
                returns = self._evaluate(on_evaluation)
                note = f"true return {sum(returns.true) / len(returns.true):.0f}"
            report(min(steps, sac.total_steps), sac.total_steps, note)
            if done:
                self._save()
                save_policy(self._out, self._algorithm.actor())
                return self._result()
            self._algorithm.train()
            steps = self._algorithm.steps

    def close(self) -> None:
        """Give back what sampler and evaluation hold."""
        self._environment.close()
        self._algorithm.stop()

    def _evaluate(self, on_evaluation: OnEvaluation | None) -> Returns:
        seeds = range(EVALUATION_SEED, EVALUATION_SEED + self._card.sac.evaluation_episodes)
        returns = play_episodes(self._environment, greedy_policy(self._algorithm.actor()), seeds)
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
        with (self._out / EVALUATIONS).open("a") as stream:
            stream.write(json.dumps(line) + "\n")
        if on_evaluation is not None:
            on_evaluation(line)
        if time.perf_counter() - self._last_checkpoint > SECONDS_BETWEEN_CHECKPOINTS:
            self._save()
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
        environments = (self._algorithm.env_runner.env.unwrapped, self._environment)
        now.seconds = before.seconds + time.perf_counter() - self._start
        now.update = before.update + self._algorithm.update_seconds
        for phase in ("simulate", "render", "reward"):
            spent = sum(getattr(environment.costs, phase) for environment in environments)
            setattr(now, phase, getattr(before, phase) + spent)

    def _result(self) -> AgentResult:
        self._update_progress()
        progress, steps = self._progress, self._algorithm.steps
        costs = {phase: round(getattr(progress, phase), 2) for phase in ("simulate", "render", "reward", "update")}
        asked = SCALE_FRAMES + steps + progress.evaluation_steps if self._card.reward == "teacher" else 0
        return AgentResult(
            steps=steps,
            updates=self._algorithm.updates,
            seconds=round(progress.seconds, 2),
            steps_per_second=round(steps / progress.seconds, 1),
            costs={**costs, "other": round(progress.seconds - sum(costs.values()), 2)},
            teacher_queries=asked,
        )


@dataclass
class Progress:
    """What a checkpoint keeps beside the algorithm's own state."""

    seconds: float = 0.0
    """since the start, without the time between a stop and the next start"""
    simulate: float = 0.0
    """seconds spent on stepping simulators, evaluations included, as the next two"""
    render: float = 0.0
    """seconds spent on drawing frames"""
    reward: float = 0.0
    """seconds spent on scoring frames"""
    update: float = 0.0
    """seconds spent on gradient steps, with their batches and the hand-over of the weights"""
    evaluations: int = 0
    """lines of evaluations.jsonl"""
    evaluation_steps: int = 0
    """agent decisions in all evaluations"""
    evaluated_at: int = -1
    """agent decisions at the last evaluation"""


def make_algorithm(card: AgentCard) -> Sac:
    """The algorithm of an agent, with its environments, in this process."""
    config = SacConfig().sac(card.sac)
    environment = {"task": card.task, "make_reward": partial(make_reward, card), "seed": card.seed}
    config.environment(TASK_ENVIRONMENT, env_config=environment)
    config.debugging(seed=card.seed, log_level="ERROR")
    algorithm: Sac = config.build_algo()
    return algorithm


def claim(out: Path, card: AgentCard) -> AgentCard:
    """Make `out` this agent's folder; returns the card with what is measured once.

    Raises DataError when the folder holds an agent of another task, reward, student, seed or other settings.
    """
    if not (out / CARD).exists():
        make_simulator(card.task).close()
        if card.reward != "true":
            require_gl()
        if card.reward == "teacher":
            card = measure_teacher_scale(card)
        card.write(out)
        return card
    before = AgentCard.read(out)
    wanted = replace(card, teacher_scale=before.teacher_scale)
    named = [
        field.name for field in fields(AgentCard) if field.name != "student"
    ]  # its digest tells more than its path
    differing = [name for name in named if getattr(before, name) != getattr(wanted, name)]
    if differing:
        raise DataError(
            f"{out} holds an agent with another {', '.join(differing)}: give another --out, or remove the folder"
        )
    return wanted


def keep_lines(path: Path, count: int) -> None:
    """Cut a file to its first lines: evaluations after the last checkpoint are made again."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    write_atomically(path, "".join(lines[:count]).encode())
