"""What one trial is: every setting of every stage, in one file, free of torch and ray."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from datamodules.errors import SettingsError
from datamodules.tasks import Task
from lightning_modules.settings import TeacherSettings
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
    collect: CollectSettings = field(default_factory=CollectSettings)
    """which frames the teacher is asked about"""
    reward: Literal["student", "teacher", "random", "true"] = "student"
    """what the agent is rewarded with"""
    spread_penalty: float = 0.0
    """of an ensemble of students (model.members): the reward is their mean less this times their spread (at least 0)"""
    evaluation_episodes: int = 10
    """episodes of the final evaluation (2 to 1000); the random policy beside it plays 100"""
    judge: bool = False
    """whether the teacher scores the episodes of all evaluations, too; each of their decisions is a query"""
    seed: int = 0
    """seed of collection, fit and agent (0 to 999999)"""
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
