"""An agent on disk: `agent.json` (what it was trained on), `policy.safetensors` (what acts). Neither can execute.

RLlib's own checkpoint lies beside them and serves to go on training; acting and evaluating need no Ray.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

import torch
from gymnasium import Space, spaces
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save

from datamodules.errors import DataError
from datamodules.results import read_json, write_atomically, write_json
from datamodules.tasks import Task, task_from_dict
from lightning_modules.rewards import Standardisation
from lightning_modules.settings import TeacherSettings
from rllib_envs.sac_networks import Actor, make_actor
from rllib_envs.settings import Observations, SacSettings

SCHEMA_VERSION = 2
CARD, WEIGHTS = "agent.json", "policy.safetensors"
RewardKind = Literal["true", "student", "teacher", "random"]

Policy = Callable[[NDArray[Any]], NDArray[Any]]
"""States float32 (N, O) or stacked frames uint8 (N, P, P, 9) to actions: (N, A) in -1 to 1, or (N,) numbers of discrete
actions."""

OnEvaluation = Callable[[Mapping[str, Any]], None]
"""Called with each new line of evaluations.jsonl."""


@dataclass(frozen=True)
class AgentCard:
    """Everything that decides an agent but chance."""

    task: Task
    """what it does, and in which words it was asked for"""
    reward: RewardKind
    """what it is rewarded with"""
    sac: SacSettings
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

    @property
    def observations(self) -> Observations:
        """What the agent sees."""
        return self.sac.observations

    def write(self, folder: Path) -> None:
        """Write `agent.json`; the student's path is kept relative, so that a whole trial can be moved."""
        content = asdict(self)
        content["student"] = self.student and os.path.relpath(self.student, folder)
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
            return cls(
                **{
                    **content,
                    "task": task_from_dict(content["task"]),
                    "sac": SacSettings(**{**content["sac"], "hidden": tuple(content["sac"]["hidden"])}),
                    "student": content["student"] and Path(os.path.normpath(folder / content["student"])),
                    "teacher": content["teacher"] and _teacher(content["teacher"]),
                    "teacher_scales": tuple(Standardisation(**scale) for scale in content["teacher_scales"]),
                    "judge": content.get("judge") and _teacher(content["judge"]),
                }
            )
        except (KeyError, TypeError) as error:
            raise DataError(f"{path} is damaged ({error}): train the agent again") from error


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
    """seconds by what they were spent on: simulate, render and reward in all processes together, update, other"""
    teacher_queries: int
    """frames scored by the teacher itself"""
    non_finite_rewards: int = 0
    """rewards that were NaN or infinite and reached the agent as 0"""


def greedy_policy(actor: Actor) -> Policy:
    """The actor without its noise: the most likely action."""

    def act(observations: NDArray[Any]) -> NDArray[Any]:
        with torch.inference_mode():
            actions: NDArray[Any] = actor.act(torch.from_numpy(observations), explore=False).numpy()
        return actions

    return act


def save_policy(folder: Path, actor: Actor) -> None:
    """Write the actor's weights, whole or not at all."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in actor.state_dict().items()}
    write_atomically(folder / WEIGHTS, save(tensors))


def load_policy(folder: Path, card: AgentCard, observations: Space[Any], actions: Space[Any]) -> Policy:
    """The saved policy of an agent. Raises DataError where the weights are missing, damaged or of another shape."""
    path = folder / WEIGHTS
    assert observations.shape is not None
    assert isinstance(actions, spaces.Box | spaces.Discrete)
    actor = make_actor(observations.shape, actions, card.sac.hidden)
    try:
        actor.load_state_dict(load(path.read_bytes()))
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing: the training did not finish, run it again") from error
    except (SafetensorError, RuntimeError) as error:
        raise DataError(f"{path} does not fit {CARD} ({error}): train the agent again") from error
    return greedy_policy(actor)
