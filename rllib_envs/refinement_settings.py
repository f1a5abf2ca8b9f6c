"""Settings of refinement, free of torch and ray so that any conf file loads anywhere."""

from dataclasses import dataclass
from typing import Literal

from datamodules.errors import SettingsError

Strategy = Literal["random", "median", "spread", "coreset", "mixed", "suspects"]
"""Which of the visited frames the teacher is asked about; `lightning_modules.query_choice` says what each does."""


@dataclass(frozen=True)
class RefinementSettings:
    """When the teacher is asked again during training, about what, and what the student makes of the answers."""

    every_steps: int = 2_500
    """agent decisions between two looks at what the agent visits (at least 1)"""
    query_budget: int = 240
    """most queries of all refinements of one training together, audits included (1 to 100000000)"""
    queries: int = 32
    """visited frames that the teacher is asked about in one refinement (1 to 10000)"""
    audited: int = 16
    """further ones, drawn at random, that measure the student's error before and after (2 to 10000); they are labels of
    the next refinement"""
    strategy: Strategy = "coreset"
    """which frames: random; median (reward next to the visited median); spread (where an ensemble's members disagree);
    coreset (far from each other and from all labels); mixed (coreset among those of large spread); suspects (coreset
    among those of the highest reward, which the agent may be exploiting)"""
    gradient_steps: int = 100
    """fine-tuning steps of one refinement (1 to 100000)"""
    learning_rate: float = 2e-3
    """Adam's learning rate of these steps (above 0 to 1)"""
    tolerance: float = 0.02
    """a refinement is rejected when the squared error on held-out labels, or on the audited frames, grows by more, in
    units of the reward's variance (0 to 10)"""
    least_drift: float | None = None
    """refine only where drift is at least this: how many times as far from the nearest labelled frame a visited one is
    as a held-out one (above 0); empty: drift decides nothing"""
    least_error: float | None = None
    """refine only where the audited squared error is at least this, in units of the reward's variance (above 0); empty:
    the error decides nothing; of two thresholds one is enough"""

    most_overrated: float | None = None
    """end the training when visited frames are worth so many standard deviations of the reward more to the student than
    to the teacher, on the mean of the audited ones and after the refinement, because the agent exploits it (above 0);
    empty: never"""

    def __post_init__(self) -> None:
        for name, low, high in (
            ("every_steps", 1, 1_000_000_000),
            ("query_budget", 1, 100_000_000),
            ("queries", 1, 10_000),
            ("audited", 2, 10_000),
            ("gradient_steps", 1, 100_000),
            ("tolerance", 0.0, 10.0),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise SettingsError(f"refinement.{name} is {value}: it must lie between {low} and {high}")
        if not 0.0 < self.learning_rate <= 1.0:
            raise SettingsError(f"refinement.learning_rate is {self.learning_rate}: it must lie above 0 and at most 1")
        for name in ("least_drift", "least_error", "most_overrated"):
            value = getattr(self, name)
            if value is not None and value <= 0.0:
                raise SettingsError(f"refinement.{name} is {value}: it must lie above 0, or be left empty")
