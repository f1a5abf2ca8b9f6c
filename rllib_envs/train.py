"""Train an agent: SAC or PPO on frames' rewards, evaluated on the way, resumable after a stop."""

from dataclasses import asdict, fields, replace
from pathlib import Path

from datamodules.differences import first_difference
from datamodules.errors import DataError
from datamodules.locks import try_lock
from datamodules.progress import Report, progress_bar, silent
from datamodules.results import read_json, write_result
from datamodules.tasks import Task
from lightning_modules.settings import TeacherSettings
from rllib_envs.agent_files import CARD, AgentCard, AgentResult, OnEvaluation, OnPicture, RewardKind
from rllib_envs.agent_reward import check_reward, measure_teacher_scales
from rllib_envs.frame_encoder import check_pixels
from rllib_envs.gl import prepare_gl, require_gl
from rllib_envs.judges import check_judge
from rllib_envs.refinement_check import check_refinement
from rllib_envs.refinement_settings import RefinementSettings
from rllib_envs.settings import LearningSettings
from rllib_envs.simulators import make_simulator
from rllib_envs.threads import torch_threads

RESULT, LOCK = "result.json", "agent.lock"


def train_agent(
    task: Task,
    reward: RewardKind,
    learning: LearningSettings,
    out: Path,
    *,
    seed: int,
    student: Path | None = None,
    teacher: TeacherSettings | None = None,
    judge: TeacherSettings | None = None,
    spread_penalty: float = 0.0,
    refinement: RefinementSettings | None = None,
    labels: Path | None = None,
    report: Report = silent,
    on_evaluation: OnEvaluation | None = None,
    on_picture: OnPicture | None = None,
) -> AgentResult:
    """Train until `total_steps`, or go on with a training that was stopped.

    Args:
        task: what to do.
        reward: what the agent is rewarded with.
        learning: how it learns.
        out: folder for the agent: agent.json, policy.safetensors, evaluations.jsonl, checkpoint/, result.json. A
            finished one is left as it is.
        seed: seed of networks, episodes and batches.
        student: the student's folder, for reward 'student'.
        teacher: which teacher, for reward 'teacher' and for a refinement.
        judge: a teacher that scores the evaluations on the way, too, and decides nothing; each decision is a query.
        spread_penalty: how much of the spread of an ensemble of students is taken off its reward (at least 0).
        refinement: when and how the student is repaired with new labels; they and the new students lie in
            refinements/ below `out`.
        labels: what the student was fitted to, for a refinement.
        report: called with the agent decisions done and to do.
        on_evaluation: called with each new line of evaluations.jsonl.
        on_picture: called with a picture of each evaluation; without it none is drawn.

    Raises:
        SuiteError: a mistake in the arguments, found before any work starts, or an `out` that holds another agent.
    """
    given = AgentCard(
        task,
        reward,
        learning,
        seed,
        student=student,
        teacher=teacher,
        judge=judge,
        spread_penalty=spread_penalty,
        refinement=refinement,
        labels=labels if refinement else None,
    )
    card = check_reward(given)
    check_refinement(card)
    if judge is not None:
        check_judge(task, judge)
    if not (out / CARD).exists():
        _check_simulator(card)
    out.mkdir(parents=True, exist_ok=True)
    if (lock := try_lock(out / LOCK)) is None:
        raise DataError(f"another process trains the agent in {out}: wait for its end, or choose another --out")
    with lock:
        card = claim(out, card)
        if (out / RESULT).exists():
            return read_result(out)
        return _train(card, out, report, on_evaluation, on_picture)


def _check_simulator(card: AgentCard) -> None:
    """Raise SuiteError where there is no such simulator, or its frames cannot be drawn or seen."""
    if card.observations == "pixels":
        check_pixels(card.task.render.frame_pixels)
    make_simulator(card.task).close()
    if card.reward != "true" or card.judge or card.observations == "pixels":
        require_gl()


def read_result(agent: Path) -> AgentResult:
    """What a finished training did. Raises DataError where `result.json` says something else."""
    finished = read_json(agent / RESULT)
    try:
        return AgentResult(
            **{field.name: finished[field.name] for field in fields(AgentResult) if field.name in finished}
        )
    except TypeError as error:
        raise DataError(
            f"{agent / RESULT} is not that of a training ({error}): choose another --out, or remove it to train on "
            "from the last checkpoint"
        ) from error


def _train(
    card: AgentCard, out: Path, report: Report, on_evaluation: OnEvaluation | None, on_picture: OnPicture | None
) -> AgentResult:
    prepare_gl()  # RLlib imports dm_control, and with it whatever GL backend it finds first
    from lightning_modules.ray_session import ray_session
    from rllib_envs.training import Training

    with torch_threads() as own, ray_session():
        training = Training(card, out, own)
        try:
            result = training.run(report, on_evaluation, on_picture)
        finally:
            training.close()
    write_result(out, asdict(result), card.content())
    return result


def train_folder(
    task: Task,
    reward: RewardKind,
    learning: LearningSettings,
    out: Path,
    *,
    seed: int,
    student: Path | None,
    teacher: TeacherSettings | None,
    judge: TeacherSettings | None,
    spread_penalty: float,
    refinement: RefinementSettings | None = None,
    labels: Path | None = None,
) -> Path:
    """What scripts.train_agent does: train with a progress bar. Returns the path of `result.json`."""
    with progress_bar("train", "steps") as report:
        train_agent(
            task,
            reward,
            learning,
            out,
            seed=seed,
            student=student,
            teacher=teacher,
            judge=judge,
            spread_penalty=spread_penalty,
            refinement=refinement,
            labels=labels,
            report=report,
        )
    return out / RESULT


def claim(out: Path, card: AgentCard) -> AgentCard:
    """Make `out` this agent's folder; returns the card with what is measured once.

    Raises DataError when the folder holds an agent of another task, reward, student, seed or other settings, or
    something else.
    """
    if not (out / CARD).exists():
        if (out / RESULT).exists():
            raise DataError(f"{out} holds a {RESULT} and no agent, so it is not for one: choose another --out")
        if card.reward == "teacher":
            card = measure_teacher_scales(card)
        card.write(out)
        return card
    before = AgentCard.read(out)
    wanted = replace(card, teacher_scales=before.teacher_scales)
    # the student's digest tells more than its path
    there, here = (replace(each, student=None, labels=None).content() for each in (before, wanted))
    difference = first_difference(there, here)
    if difference:
        raise DataError(f"{out} holds another agent: {difference}; choose another --out, or remove that folder")
    return wanted
