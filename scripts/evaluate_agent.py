"""Measure a trained agent: returns, normalised scores, successes, over-optimisation, a video."""

from pathlib import Path

from lightning_modules.settings import TeacherSettings
from scripts.command import run


def evaluate_agent(  # noqa: PLR0917  (arguments of a command)
    agent: Path,
    out: Path | None = None,
    episodes: int = 10,
    first_seed: int = 1_000_000,
    student: Path | None = None,
    teacher: TeacherSettings | None = None,
) -> Path:
    """Play fresh episodes with an agent and with a random policy, and film the first one beside its rewards.

    python -m scripts.evaluate_agent --agent runs/x/agent --teacher conf/teacher/bundled.yaml

    result.json holds one value an episode: true_returns (the simulator's own reward), learned_returns (what the agent
    was trained on) and, of the same frames, student_returns and teacher_returns where they are given. scores are true
    returns as shares of 1: of the highest return (dm_control), or between a random policy and a reference
    (score_range of the task). successes says which episodes ended in the goal (success_reward of the task).
    overoptimisation looks at the learning curve of the training: it names the steps between which the learned return
    rose while the true one fell by more than chance (Gao et al. 2023), or null.

    Ten episodes of a cart-pole and the random policy's hundred take some ten seconds.

    Args:
        agent: folder written by scripts.train_agent
        out: folder for result.json and agent.mp4; empty: `evaluation` beside the agent's folder
        episodes: how many (at least 1)
        first_seed: the episodes start from this seed and those after it; 1000000 and above start no training episode
        student: folder of a student that scores the same frames, too
        teacher: a file of conf/teacher that does; each decision of each episode is a query, counted in teacher_queries
    """
    from rllib_envs.evaluate import evaluate_folder  # torch loads only after the arguments proved right

    out = out or agent.parent / "evaluation"
    return evaluate_folder(agent, out, episodes=episodes, first_seed=first_seed, student=student, teacher=teacher)


if __name__ == "__main__":
    run(evaluate_agent)
