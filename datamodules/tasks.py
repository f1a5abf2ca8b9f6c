"""What to do and how it looks: Task, Prompts, Camera and RenderSettings, checked when they are made."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from datamodules.errors import SettingsError


@dataclass(frozen=True)
class Prompts:
    """The sentences that make the reward (Rocamonde et al. 2024, goal-baseline regularisation)."""

    goal: tuple[str, ...]
    """what the agent should look like, in words; the mean of several sentences is used (at least one)"""
    baseline: tuple[str, ...] = ()
    """what it looks like anyway, without the goal; empty means plain cosine similarity, and then alpha must be 0"""
    alpha: float = 0.0
    """strength of the projection on the line from baseline to goal (0 to 1)"""

    def __post_init__(self) -> None:
        if not self.goal:
            raise SettingsError(
                "prompts.goal is empty: give at least one sentence, as goal: ['a pole standing upright']"
            )
        for name, sentences in (("goal", self.goal), ("baseline", self.baseline)):
            for sentence in sentences:
                if not sentence.strip():
                    raise SettingsError(f"prompts.{name} holds an empty sentence: write the sentence or take it out")
        if not 0.0 <= self.alpha <= 1.0:
            raise SettingsError(f"prompts.alpha is {self.alpha}: it must lie between 0 and 1")
        if self.alpha > 0 and not self.baseline:
            raise SettingsError(
                f"prompts.alpha is {self.alpha} but prompts.baseline is empty: add a baseline or set alpha to 0"
            )


@dataclass(frozen=True)
class Camera:
    """Where the frame is taken from: a camera of the model, by name or number, or a free camera."""

    name: str | int | None = None
    """a camera of the simulator's model, by name or number; leave empty for the free camera (MuJoCo tasks only)"""
    distance: float | None = None
    """free camera: distance to the look-at point, in metres; empty: the model's default view"""
    azimuth: float = 90.0
    """free camera: in degrees"""
    elevation: float = -20.0
    """free camera: in degrees, negative looks down"""
    lookat: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """free camera: the point in the middle of the frame, in metres"""

    def __post_init__(self) -> None:
        if self.name is not None and self.distance is not None:
            raise SettingsError(
                f"camera.name ({self.name!r}) and camera.distance ({self.distance}) exclude each other: keep one"
            )
        if self.distance is not None and self.distance <= 0:
            raise SettingsError(f"camera.distance is {self.distance}: it must be above 0 metres")


@dataclass(frozen=True)
class RenderSettings:
    """How frames are drawn. The same settings serve collection and reward; they are part of every manifest."""

    frame_pixels: int = 84
    """side of the square frame that student and agent see, in pixels (16 to 512)"""
    teacher_pixels: int = 96
    """side of the square frame that the teacher labels, in pixels (16 to 1024)"""
    shadows: bool = False
    """draw shadows (several times slower in software GL)"""
    reflections: bool = False
    """draw reflections (several times slower in software GL)"""
    multisamples: int = 0
    """samples a pixel for anti-aliasing (0 to 16; 0 is about three times faster than 4 in software GL)"""

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("frame_pixels", self.frame_pixels, 16, 512),
            ("teacher_pixels", self.teacher_pixels, 16, 1024),
            ("multisamples", self.multisamples, 0, 16),
        ):
            if not low <= value <= high:
                raise SettingsError(f"render.{name} is {value}: it must lie between {low} and {high}")


@dataclass(frozen=True)
class Task:
    """One thing to learn: a simulator, how it is seen, how long an episode lasts, and the sentence that rewards it."""

    name: str
    """the task's own name; it appears in data sets, runs and pages"""
    family: Literal["dm_control", "gymnasium"]
    """which library the simulator comes from"""
    simulator: str
    """dm_control: DOMAIN-TASK, as 'cartpole-swingup'; gymnasium: the environment id, as 'CartPole-v1', or
    MODULE:ID where a module of your own registers it"""
    prompts: Prompts
    """the sentences that make the reward"""
    episode_frames: int = 1000
    """length of an episode in simulator frames; always this long where the reward is learned"""
    frames_per_step: int = 2
    """simulator frames for one agent decision (the action repeat)"""
    camera: Camera = field(default_factory=Camera)
    """where the frame is taken from"""
    render: RenderSettings = field(default_factory=RenderSettings)
    """how the frame is drawn"""
    reward_per_frame: tuple[float, float] = (0.0, 1.0)
    """lowest and highest true reward of one simulator frame; dm_control's tasks lie in (0, 1)"""
    success_reward: float | None = None
    """a state counts as a success when its true reward, a simulator frame, reaches this; empty: no such notion"""
    score_range: tuple[float, float] | None = None
    """true returns of an episode that score 0 and 1: a random policy's and a reference's; empty: dm_control's scores
    are shares of the highest return, and others have none"""

    def __post_init__(self) -> None:
        if self.family == "dm_control" and self.simulator.count("-") != 1:
            raise SettingsError(
                f"simulator is {self.simulator!r}: dm_control tasks are named DOMAIN-TASK, as 'cartpole-swingup'"
            )
        if not 1 <= self.frames_per_step <= self.episode_frames:
            raise SettingsError(
                f"frames_per_step is {self.frames_per_step} and episode_frames is {self.episode_frames}: "
                "frames_per_step must lie between 1 and episode_frames"
            )
        if self.episode_frames % self.frames_per_step:
            raise SettingsError(
                f"episode_frames ({self.episode_frames}) must be a multiple of frames_per_step ({self.frames_per_step})"
            )
        low, high = self.reward_per_frame
        if self.success_reward is not None and not low < self.success_reward <= high:
            raise SettingsError(
                f"success_reward is {self.success_reward}: it must lie above {low} and not above {high}, the ends of "
                "reward_per_frame"
            )
        if self.score_range is not None and not self.score_range[0] < self.score_range[1]:
            raise SettingsError(
                f"score_range is {list(self.score_range)}: give the return that scores 0 and a higher one that scores 1"
            )

    @property
    def episode_steps(self) -> int:
        """Agent decisions in an episode."""
        return self.episode_frames // self.frames_per_step


def as_the_teacher_sees(task: Task) -> Task:
    """The task drawn at the size of the frames that the teacher labels."""
    return replace(task, render=replace(task.render, frame_pixels=task.render.teacher_pixels))


def task_from_dict(content: Mapping[str, Any]) -> Task:
    """The task that `dataclasses.asdict` turned into a dict, after a round trip through JSON or not."""
    prompts, camera, score_range = content["prompts"], content["camera"], content.get("score_range")
    return Task(
        **{
            **content,
            "prompts": Prompts(**{**prompts, "goal": tuple(prompts["goal"]), "baseline": tuple(prompts["baseline"])}),
            "camera": Camera(**{**camera, "lookat": tuple(camera["lookat"])}),
            "render": RenderSettings(**content["render"]),
            "reward_per_frame": tuple(content["reward_per_frame"]),
            "score_range": score_range and tuple(score_range),
        }
    )
