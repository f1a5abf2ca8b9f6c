"""Train an agent with SAC or PPO."""

from pathlib import Path
from typing import Literal

from datamodules.tasks import Task
from lightning_modules.settings import TeacherSettings
from rllib_envs.refinement_settings import RefinementSettings
from rllib_envs.settings import PpoSettings, SacSettings, learning_settings
from scripts.command import run


def train_agent(  # noqa: PLR0917  (arguments of a command)
    task: Task,
    out: Path,
    sac: SacSettings = SacSettings(),  # noqa: B008  (it cannot be changed)
    ppo: PpoSettings | None = None,
    reward: Literal["student", "teacher", "random", "true"] = "student",
    student: Path | None = None,
    teacher: TeacherSettings | None = None,
    judge: TeacherSettings | None = None,
    spread_penalty: float = 0.0,
    refinement: RefinementSettings | None = None,
    labels: Path | None = None,
    seed: int = 0,
) -> Path:
    """Train an agent on a learned reward, or on the true one to compare with; the same command goes on after a stop.

    python -m scripts.train_agent --task conf/tasks/cartpole_swingup.yaml --student runs/x/student \\
        --sac conf/sac/demo.yaml --out runs/x/agent

    10000 decisions of the demo take about two minutes on one core.

    Args:
        task: a file of conf/tasks, or single settings
        out: folder for the agent
        sac: a file of conf/sac, or single settings
        ppo: a file of conf/ppo, or single settings: learn by PPO instead
        reward: what the agent is rewarded with
        student: folder of a fitted student, for reward 'student'
        teacher: a file of conf/teacher, for reward 'teacher', for a refinement, or for sentences that the student's
            embedding head lacks
        judge: a file of conf/teacher; it scores the evaluations on the way (teacher_returns in evaluations.jsonl) and
            decides nothing; each of their decisions is a query
        spread_penalty: of an ensemble of students: the reward is their mean less this times their spread (at least 0)
        refinement: a file of conf/refinement: the teacher is asked again during training, and the student repaired
        labels: the labels that the student was fitted to, for a refinement
        seed: seed of networks, episodes and batches
    """
    from rllib_envs.train import train_folder  # torch and ray load only after the arguments proved right

    return train_folder(
        task,
        reward,
        learning_settings(sac, ppo),
        out,
        seed=seed,
        student=student,
        teacher=teacher,
        judge=judge,
        spread_penalty=spread_penalty,
        refinement=refinement,
        labels=labels,
    )


if __name__ == "__main__":
    run(train_agent)
