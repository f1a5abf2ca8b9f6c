"""An agent on disk: `agent.json` (what it was trained on), `policy.safetensors` (what acts). Neither can execute.

RLlib's own checkpoint lies beside them and serves to go on training; acting and evaluating need no Ray.
"""

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from gymnasium import Space, spaces
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save

from datamodules.errors import DataError
from datamodules.results import read_json, write_atomically, write_json
from datamodules.tasks import Task, as_the_teacher_sees, task_from_dict
from lightning_modules.rewards import Standardisation
from lightning_modules.settings import TeacherSettings
from rllib_envs.ppo_networks import PpoActor
from rllib_envs.refinement_settings import RefinementSettings
from rllib_envs.sac_networks import Actor, make_actor
from rllib_envs.settings import LearningSettings, Observations, PpoSettings, SacSettings

SCHEMA_VERSION = 2
CARD, WEIGHTS = "agent.json", "policy.safetensors"
PATHS = ("student", "labels")
"""fields of a card that name folders"""
RewardKind = Literal["true", "student", "teacher", "random"]

Policy = Callable[[NDArray[Any]], NDArray[Any]]
"""States float32 (N, O) or stacked frames uint8 (N, P, P, 9) to actions: (N, A) in -1 to 1, or (N,) numbers of discrete
actions."""

OnEvaluation = Callable[[Mapping[str, Any]], None]
"""Called with each new line of evaluations.jsonl."""

OnPicture = Callable[[NDArray[np.uint8], int], None]
"""Called with a picture of an evaluation's first episode (contact_sheet.py) and the agent's steps before it."""


@dataclass(frozen=True)
class AgentCard:
    """Everything that decides an agent but chance."""

    task: Task
    """what it does, and in which words it was asked for"""
    reward: RewardKind
    """what it is rewarded with"""
    learning: LearningSettings
    """how it learns"""
    seed: int
    """seed of networks, episodes and batches"""
    student: Path | None = None
    """the student's folder, where the reward is a student"""
    student_digest: str | None = None
    """sha256 of the student's weights"""
    teacher: TeacherSettings | None = None
    """which teacher, where the reward is the teacher itself"""
    teacher_scales: tuple[Standardisation, ...] = ()
    """the frozen scale of the teacher's reward, one for each of its CLIPs"""
    judge: TeacherSettings | None = None
    """a teacher that scores the evaluations on the way and decides nothing"""
    spread_penalty: float = 0.0
    """how much of the spread of an ensemble of students is taken off its mean reward (at least 0)"""
    refinement: RefinementSettings | None = None
    """when the teacher is asked again, and what the student makes of it"""
    labels: Path | None = None
    """the labels that the student was fitted to, where it is refined"""

    @property
    def sac(self) -> SacSettings:
        """The settings of an agent that learns by SAC."""
        assert isinstance(self.learning, SacSettings), "this agent learns by PPO"
        return self.learning

    @property
    def observations(self) -> Observations:
        """What the agent sees; one that learns by PPO sees states."""
        return self.learning.observations if isinstance(self.learning, SacSettings) else "state"

    @property
    def drawn_task(self) -> Task:
        """The task as its environments draw it: a teacher in the loop is shown what it would label."""
        return as_the_teacher_sees(self.task) if self.reward == "teacher" else self.task

    def content(self) -> dict[str, Any]:
        """All of it as plain values, how it learns under the algorithm's name: `sac` or `ppo`."""
        content = asdict(self)
        content["sac" if isinstance(self.learning, SacSettings) else "ppo"] = content.pop("learning")
        return content

    def write(self, folder: Path) -> None:
        """Write `agent.json`; paths are kept relative, so that a whole trial can be moved."""
        content = self.content()
        for name in PATHS:
            content[name] = content[name] and os.path.relpath(content[name], folder)
        write_json(folder / CARD, {"schema_version": SCHEMA_VERSION, **content})

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read `agent.json`. Raises DataError where there is none or it is of another kind."""
        path = folder / CARD
        if not path.is_file():
            raise DataError(f"{folder} holds no agent (no {CARD}): train one with python -m scripts.train_agent")
        content = read_json(path)
        if content.pop("schema_version", None) != SCHEMA_VERSION:
            raise DataError(f"{path} was written by another version of this project: train the agent again")
        try:
            learning = _learning(content)
            return cls(
                **{
                    **content,
                    "task": task_from_dict(content["task"]),
                    "learning": learning,
                    **{name: _path(folder, content.get(name)) for name in PATHS},
                    "teacher": content["teacher"] and _teacher(content["teacher"]),
                    "teacher_scales": tuple(Standardisation(**scale) for scale in content["teacher_scales"]),
                    "judge": content.get("judge") and _teacher(content["judge"]),
                    "refinement": content.get("refinement") and RefinementSettings(**content["refinement"]),
                }
            )
        except (KeyError, TypeError) as error:
            raise DataError(f"{path} is damaged ({error}): train the agent again") from error


def _learning(content: dict[str, Any]) -> LearningSettings:
    """Take out how the agent learns."""
    kind: type[LearningSettings] = PpoSettings if "ppo" in content else SacSettings
    settings = content.pop("ppo" if "ppo" in content else "sac")
    return kind(**{**settings, "hidden": tuple(settings["hidden"])})


def _path(folder: Path, relative: str | None) -> Path | None:
    return None if relative is None else Path(os.path.normpath(folder / relative))


def _teacher(content: dict[str, Any]) -> TeacherSettings:
    settings: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in content.items()
    }
    return TeacherSettings(**settings)


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
    """seconds by what they were spent on: simulate, render and reward in all processes together, update,
    refine (where the student is), other"""
    teacher_queries: int
    """frames scored by the teacher itself"""
    evaluation_seconds: float = 0.0
    """of `seconds`, those of the evaluations: without them the agent would have learned the same"""
    non_finite_rewards: int = 0
    """rewards that were NaN or infinite and reached the agent as 0"""
    cost_shares: dict[str, float] = field(default_factory=dict)
    """`costs` as shares of their sum, 0 to 1"""
    reward_latency: dict[str, Any] | None = None
    """how long calls of the reward function for the agent's own steps took, in all processes: `calls`, their quantiles
    `p50`, `p95`, `p99` in seconds, and `histogram`, [low, high, calls] of each bin; None: nothing called it"""
    peak_memory_gib: float | None = None
    """the most main memory that the training and its env runners held in any of its starts, GiB"""
    peak_gpu_memory_gib: float | None = None
    """the same on the GPU, as torch allocates it; None: none was used"""
    refinement: dict[str, Any] | None = None
    """where the student was refined: `query_budget`, `teacher_queries`, `seconds` by phase, how many refinements were
    `made` and `accepted`, and whether the training ended because the student was `exploited`"""


def greedy_policy(actor: Actor | PpoActor) -> Policy:
    """The actor without its noise: the most likely action."""

    def act(observations: NDArray[Any]) -> NDArray[Any]:
        with torch.inference_mode():
            actions: NDArray[Any] = actor.act(torch.from_numpy(observations), explore=False).numpy()
        return actions

    return act


def save_policy(folder: Path, actor: Actor | PpoActor) -> None:
    """Write the actor's weights, whole or not at all."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in actor.state_dict().items()}
    write_atomically(folder / WEIGHTS, save(tensors))


def load_policy(folder: Path, card: AgentCard, observations: Space[Any], actions: Space[Any]) -> Policy:
    """The saved policy of an agent. Raises DataError where the weights are missing, damaged or of another shape."""
    path = folder / WEIGHTS
    assert observations.shape is not None
    assert isinstance(actions, spaces.Box | spaces.Discrete)
    actor: Actor | PpoActor
    if isinstance(card.learning, SacSettings):
        actor = make_actor(observations.shape, actions, card.learning.hidden)
    else:
        actor = PpoActor(math.prod(observations.shape), actions, card.learning.hidden)
    try:
        actor.load_state_dict(load(path.read_bytes()))
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing: the training did not finish, run it again") from error
    except (SafetensorError, RuntimeError) as error:
        raise DataError(f"{path} does not fit {CARD} ({error}): train the agent again") from error
    return greedy_policy(actor)
