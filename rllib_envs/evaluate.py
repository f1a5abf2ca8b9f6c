"""How good is a trained agent? Its returns on named seeds, scored by several rewards, and a video of the first episode.

No Ray here: the policy is read from `policy.safetensors`.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from datamodules.errors import SettingsError
from datamodules.progress import Report, progress_bar, silent
from datamodules.results import write_result
from datamodules.tasks import Task
from lightning_modules.reward_function import RewardFunction
from lightning_modules.settings import TeacherSettings
from rllib_envs import video
from rllib_envs.agent_files import CARD, AgentCard, Policy, load_policy
from rllib_envs.agent_reward import check_reward, make_reward
from rllib_envs.evaluations import EVALUATIONS, read_evaluations
from rllib_envs.judges import STUDENT, TEACHER, Judge, make_judges
from rllib_envs.overoptimisation import Overoptimisation, overoptimisation_of
from rllib_envs.play import PlayedEpisode, Returns, play_episodes
from rllib_envs.refinement_records import latest_student
from rllib_envs.reward_env import RewardVectorEnv
from rllib_envs.scores import is_success, normalised_score
from rllib_envs.threads import torch_threads

MOST_SIDE_BY_SIDE = 8
RANDOM_EPISODES = 100
"""episodes of the random policy: its returns scatter widely, and without a frame to draw they cost little"""
VIDEO = "agent.mp4"
CURVE_COLOURS = {STUDENT: video.STUDENT, TEACHER: video.TEACHER}


@dataclass(frozen=True)
class EvaluationResult:
    """An agent's returns, one an episode, in the order of the seeds."""

    true_returns: list[float]
    """the simulator's own reward, summed over all frames"""
    learned_returns: list[float]
    """what the agent was trained on, summed over all decisions"""
    student_returns: list[float] | None
    """the reward of the student given, summed over all decisions of the same episodes; None without one"""
    teacher_returns: list[float] | None
    """the teacher's own reward over the same episodes, standardised (judges.py); None without a teacher"""
    scores: list[float] | None
    """normalised scores: 1 is the highest return of a dm_control task, or a task's reference; None: it states none"""
    successes: list[bool] | None
    """whether each episode ended where the task wants it (scores.py); None: the task states no `success_reward`"""
    random_returns: list[float]
    """true returns of a policy that acts at random, on `RANDOM_EPISODES` seeds from the first one on"""
    seeds: list[int]
    """what each episode started from"""
    teacher_queries: int
    """frames that the teacher scored for this evaluation"""
    overoptimisation: dict[str, Overoptimisation | None]
    """by gold return, `true` or `teacher`: how it fell in training while the learned return rose; None: it did not.
    Empty where the agent learned from the true reward, or where its learning curve is too short to tell"""
    seconds: float
    """duration of the evaluation"""


def evaluate_agent(
    agent: Path,
    seeds: Sequence[int],
    out: Path,
    report: Report = silent,
    *,
    student: Path | None = None,
    teacher: TeacherSettings | None = None,
    chance: Sequence[float] | None = None,
) -> EvaluationResult:
    """Play one episode a seed, record the first one, and write `result.json` and `agent.mp4`.

    Args:
        agent: folder written by `train_agent`.
        seeds: one episode each; seeds from 1,000,000 on start no training episode.
        out: folder for the result and the video.
        report: called with the episodes done and to do.
        student: folder of a student that scores the same episodes, whatever the agent was trained on.
        teacher: a teacher that does; each decision is a query.
        chance: `random_policy_returns` of the agent's task from the first seed on, where they are known already.

    Raises:
        DataError: the folder holds no agent, or a student is missing or does not fit.
        SettingsError: no seeds are given, or `out` holds an agent.
    """
    if not seeds:
        raise SettingsError("no seeds are given: evaluation needs at least one episode")
    if (out / CARD).exists():
        raise SettingsError(f"{out} holds an agent, whose result.json would be lost: give --out another folder")
    start = time.monotonic()
    card = AgentCard.read(agent)
    card = check_reward(replace(card, student=latest_student(agent) or card.student))
    curve = read_evaluations(agent / EVALUATIONS)
    total = len(seeds) + RANDOM_EPISODES
    with torch_threads():
        judges = make_judges(card, student, teacher)
        reward = make_reward(card)
        first, frames = _play_first(agent, card, reward, seeds[0], judges)
        video.write_episode(out / VIDEO, frames, charts_of(card, first.episodes[0]))
        report(1, total, "one episode filmed")
        returns = Returns(first.episodes + _play_others(agent, card, reward, seeds[1:], judges).episodes)
        report(len(seeds), total, "agent played")
        if chance is None:
            chance = random_policy_returns(card.task, seeds[0])
    report(total, total, "random policy played")
    scores = [normalised_score(card.task, value) for value in returns.true]
    successes = [is_success(card.task, episode) for episode in returns.episodes]
    result = EvaluationResult(
        true_returns=returns.true,
        learned_returns=returns.learned,
        student_returns=returns.judged(STUDENT) if student else None,
        teacher_returns=returns.judged(TEACHER) if teacher else None,
        scores=[score for score in scores if score is not None] or None,
        successes=[success for success in successes if success is not None] or None,
        random_returns=list(chance),
        seeds=list(seeds),
        teacher_queries=sum(judge.queries for judge in judges.values()) + _asked_by_reward(card, returns),
        overoptimisation={} if card.reward == "true" else overoptimisation_of(curve),
        seconds=time.monotonic() - start,
    )
    asked = {"agent": str(agent), "seeds": list(seeds), "student": student and str(student), "teacher": teacher}
    write_result(out, asdict(result), asked)
    return result


def random_policy_returns(task: Task, first_seed: int) -> list[float]:
    """True returns of the random policy on RANDOM_EPISODES seeds from the first one on; no frame is drawn."""
    seeds = range(first_seed, first_seed + RANDOM_EPISODES)
    environment = RewardVectorEnv(task, MOST_SIDE_BY_SIDE, None)
    returns = play_episodes(environment, random_policy(environment, first_seed), seeds)
    environment.close()
    return returns.true


def evaluate_folder(
    agent: Path,
    out: Path,
    *,
    episodes: int,
    first_seed: int,
    student: Path | None = None,
    teacher: TeacherSettings | None = None,
) -> Path:
    """What scripts.evaluate_agent does: evaluate with a progress bar. Returns the path of `result.json`."""
    if episodes < 1:
        raise SettingsError(f"episodes is {episodes}: it must be at least 1")
    with progress_bar("evaluate", "episodes") as report:
        seeds = range(first_seed, first_seed + episodes)
        evaluate_agent(agent, seeds, out, report, student=student, teacher=teacher)
    return out / "result.json"


def random_policy(environment: RewardVectorEnv, seed: int) -> Policy:
    """Uniformly random actions, of their own generator."""
    environment.action_space.seed(seed)
    return lambda observations: np.asarray(environment.action_space.sample())


def _play_first(
    agent: Path, card: AgentCard, reward: RewardFunction | None, seed: int, judges: dict[str, Judge]
) -> tuple[Returns, list[video.Frame]]:
    """One episode alone, with its film: a frame a decision."""
    frames: list[video.Frame] = []
    environment = RewardVectorEnv(card.drawn_task, 1, reward, observations=card.observations)

    def film() -> None:
        frames.append(environment.render(video.SIDE)[0])

    returns = play_episodes(environment, _policy(agent, card, environment), [seed], judges, film)
    environment.close()
    return returns, frames


def _play_others(
    agent: Path, card: AgentCard, reward: RewardFunction | None, seeds: Sequence[int], judges: dict[str, Judge]
) -> Returns:
    """The other episodes, side by side; never in more simulators than episodes, as idle ones are scored as well."""
    whole = len(seeds) - len(seeds) % MOST_SIDE_BY_SIDE
    episodes: tuple[PlayedEpisode, ...] = ()
    for some, count in ((seeds[:whole], MOST_SIDE_BY_SIDE), (seeds[whole:], len(seeds) - whole)):
        if some:
            environment = RewardVectorEnv(card.drawn_task, count, reward, observations=card.observations)
            episodes += play_episodes(environment, _policy(agent, card, environment), some, judges).episodes
            environment.close()
    return Returns(episodes)


def charts_of(card: AgentCard, episode: PlayedEpisode) -> list[video.Chart]:
    """The true reward of a frame; below it what the agent was trained on and what others said of the same frames."""
    true = video.Curve("true", video.TRUE, episode.true / card.task.frames_per_step)
    charts = [video.Chart("true reward, a frame", [true])]
    said = episode.judged if card.reward == "true" else {card.reward: episode.learned, **episode.judged}
    if said:
        curves = [video.Curve(name, CURVE_COLOURS.get(name, video.MUTED), values) for name, values in said.items()]
        charts.append(video.Chart("learned reward, a decision", curves))
    return charts


def _policy(agent: Path, card: AgentCard, environment: RewardVectorEnv) -> Policy:
    observations, actions = environment.single_observation_space, environment.single_action_space
    return load_policy(agent, card, observations, actions)


def _asked_by_reward(card: AgentCard, returns: Returns) -> int:
    return returns.steps * len(card.teacher.clips) if card.reward == "teacher" and card.teacher else 0
