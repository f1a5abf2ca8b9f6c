"""What one trial is, and what a sweep of many is: every setting of every stage, in one file, free of torch and ray."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from datamodules.errors import SettingsError
from datamodules.tasks import Task
from lightning_modules.settings import TeacherSettings
from rllib_envs.refinement_settings import RefinementSettings
from rllib_envs.settings import CollectSettings, PpoSettings, SacSettings, learning_settings

EVALUATION_SEED = 1_000_000
"""First seed of the final evaluation's episodes: far above any training or collection seed, so they are fresh."""


@dataclass(frozen=True)
class TrackingSettings:
    """Where runs are recorded."""

    uri: str = "sqlite:///runs/mlflow.db"
    """an MLflow store or server, as 'sqlite:///runs/mlflow.db' or 'http://127.0.0.1:5000'"""
    experiment: str = "trials"
    """the MLflow experiment; one experiment a question"""
    parent: str | None = None
    """id of the run that this one belongs to; a sweep sets it"""


@dataclass(frozen=True)
class TrialConfig:
    """From a sentence to a trained agent: collect, label, fit, train, evaluate, report."""

    task: Task
    """what to do and the sentence that rewards it"""
    teacher: TeacherSettings
    """which CLIP labels the frames"""
    student: Path
    """a LightningCLI configuration of the student, as conf/student/default.yaml"""
    out: Path
    """the output folder; run again with the same folder to go on where it stopped"""
    sac: SacSettings = field(default_factory=SacSettings)
    """how the agent learns"""
    ppo: PpoSettings | None = None
    """PPO in place of SAC, as ../ppo/default.yaml; `sac` is left out then"""
    fit: dict[str, Any] = field(default_factory=dict)
    """settings of the fit that differ from the student's file, as {model: {backbone: resnet18}}"""
    collect: CollectSettings = field(default_factory=CollectSettings)
    """which frames the teacher is asked about"""
    reward: Literal["student", "teacher", "random", "true"] = "student"
    """what the agent is rewarded with"""
    spread_penalty: float = 0.0
    """of an ensemble of students (model.members): the reward is their mean less this times their spread (at least 0)"""
    refinement: RefinementSettings | None = None
    """when the teacher is asked again during training, and what the student makes of it; empty: never"""
    evaluation_episodes: int = 10
    """episodes of the final evaluation (2 to 1000); the random policy beside it plays 100"""
    judge: bool = False
    """whether the teacher scores the episodes of all evaluations, too; each of their decisions is a query"""
    seed: int = 0
    """seed of collection, fit and agent (0 to 999999)"""
    last_stage: Literal["fit", "evaluate"] = "evaluate"
    """where the trial ends; fit: with a student and how faithful it is, without an agent"""
    shared: Path | None = None
    """a folder for the frames, labels and students that this trial has in common with others, each made once; empty:
    they lie in `out`"""
    tracking: TrackingSettings = field(default_factory=TrackingSettings)
    """where the run is recorded"""

    def __post_init__(self) -> None:
        learning_settings(self.sac, self.ppo)
        if not 0.0 <= self.spread_penalty < float("inf"):
            raise SettingsError(f"spread_penalty is {self.spread_penalty}: it must be at least 0 and finite")
        if self.spread_penalty and self.reward != "student":
            raise SettingsError(
                f"spread_penalty is {self.spread_penalty} but reward is {self.reward!r}: only an ensemble of students "
                "has a spread"
            )
        if not 2 <= self.evaluation_episodes <= 1000:
            raise SettingsError(f"evaluation_episodes is {self.evaluation_episodes}: it must lie between 2 and 1000")
        if not 0 <= self.seed < EVALUATION_SEED:
            raise SettingsError(f"seed is {self.seed}: it must lie between 0 and {EVALUATION_SEED - 1}")
        if self.last_stage == "fit" and self.reward != "student":
            raise SettingsError(
                f"last_stage is 'fit' and reward is {self.reward!r}: only a student is fitted; set reward to 'student'"
            )
        if self.refinement is not None and self.reward != "student":
            raise SettingsError(f"refinement is given and reward is {self.reward!r}: only a student can be refined")


@dataclass(frozen=True)
class Range:
    """Numbers to search between."""

    low: float
    """the lowest"""
    high: float
    """the highest (above low)"""
    log: bool = False
    """whether factors count and not differences, as for learning rates (low above 0)"""
    integer: bool = False
    """whether only whole numbers are drawn"""

    def __post_init__(self) -> None:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise SettingsError(
                f"low is {self.low} and high is {self.high}: low must lie below high, and above 0 where log is set"
            )


@dataclass(frozen=True)
class SearchSettings:
    """Values that are drawn where earlier trials did well, in place of a grid."""

    space: dict[str, Range | list[Any]]
    """settings of a trial and what they are drawn from, as {sac.actor_lr: {low: 1e-4, high: 1e-2, log: true},
    sac.batch_size: [128, 256]}"""
    samples: int = 20
    """trials of the search (2 to 100000)"""
    confirm_seeds: tuple[int, ...] = (100, 101, 102, 103, 104)
    """seeds that the search never sees, on which its winner is set against the base"""
    grace: float = 0.3
    """share of a trial before which it is not ended early; a third of those that reach it, and later points, go on
    (above 0 to 1; 1: no trial is ended early)"""
    seed: int = 0
    """seed of the draws"""

    def __post_init__(self) -> None:
        if not self.space:
            raise SettingsError("search.space is empty: name a setting, as {sac.gamma: {low: 0.9, high: 0.999}}")
        if not 2 <= self.samples <= 100_000:
            raise SettingsError(f"search.samples is {self.samples}: it must lie between 2 and 100000")
        if not 0.0 < self.grace <= 1.0:
            raise SettingsError(f"search.grace is {self.grace}: it must lie above 0 and not above 1")
        if not self.confirm_seeds or len(set(self.confirm_seeds)) < len(self.confirm_seeds):
            raise SettingsError(
                f"search.confirm_seeds is {list(self.confirm_seeds)}: give at least one seed, and each once"
            )
        for key, values in self.space.items():
            if not isinstance(values, Range) and not all(isinstance(value, str | int | float) for value in values):
                raise SettingsError(f"search.space.{key} is {values}: a list may hold numbers, words and truth values")


@dataclass(frozen=True)
class SweepConfig:
    """Many trials that answer one question: a trial, and what is varied in it."""

    name: str
    """the sweep's own name, and that of its MLflow experiment"""
    question: str
    """what the trials are to answer, in a sentence; the page's title"""
    base: TrialConfig
    """the trial that all others are variants of, as ../trials/demo.yaml; its `out` and `tracking.experiment` are not
    used"""
    out: Path
    """the output folder; run again with the same folder to go on where it stopped"""
    grid: dict[str, list[Any] | dict[str, Any]]
    """settings of a trial and their values, each with each, as {reward: [true, student], sac.gamma: [.99], seed: [0,
    1]}: a list, or names with values; a group such as `task` takes files of conf/, too, and a name may set more than
    its own key, as task: {walker: {task: conf/tasks/walker_walk.yaml, sac.total_steps: 500000}}"""
    search: SearchSettings | None = None
    """values that are drawn, with a grid that only sets others; empty: a grid alone"""
    cpus_per_trial: float = 1.0
    """CPU slots of a trial (above 0 to 1024); as many trials run at once as the machine or cluster has slots for"""
    gpus_per_trial: float | None = None
    """GPUs of a trial, a fraction where several share one (0 to 64); empty: 1 where there are GPUs, else 0"""
    threads_per_trial: int = 1
    """threads of torch and numpy in a trial (1 to 1024)"""
    retries: int = 1
    """how often a trial that crashed is started again, from where it was (0 to 100)"""
    dry_run: bool = False
    """print the trials and what they will cost, and do nothing"""
    resume: bool = False
    """go on with a sweep that was begun, or fail where there is none; without it the same happens where there is one"""

    def __post_init__(self) -> None:
        if not self.name or set(self.name) & set("/ \\"):
            raise SettingsError(f"name is {self.name!r}: give a word that can name a folder, as 'rewards'")
        if not self.question.strip():
            raise SettingsError("question is empty: say in a sentence what the sweep is to answer")
        varied = [key for key, values in self.grid.items() if len(values) > 1]
        if self.search is not None and varied:
            raise SettingsError(
                f"grid.{varied[0]} has several values and search is given: draw it in search.space, or leave one value"
            )
        if self.search is not None and self.base.seed in self.search.confirm_seeds:
            raise SettingsError(f"search.confirm_seeds holds {self.base.seed}, the seed of the search: take others")
        for name, value, low, high in (
            ("cpus_per_trial", self.cpus_per_trial, 0.01, 1024),
            ("gpus_per_trial", self.gpus_per_trial or 0, 0, 64),
            ("threads_per_trial", self.threads_per_trial, 1, 1024),
            ("retries", self.retries, 0, 100),
        ):
            if not low <= value <= high:
                raise SettingsError(f"{name} is {value}: it must lie between {low} and {high}")
