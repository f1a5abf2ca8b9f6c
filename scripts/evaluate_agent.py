"""Measure a trained agent's true return."""

from pathlib import Path

from scripts.command import run


def evaluate_agent(agent: Path, out: Path | None = None, episodes: int = 10, first_seed: int = 1_000_000) -> Path:
    """Play fresh episodes with an agent and with a random policy, and record a video of the first one.

    python -m scripts.evaluate_agent --agent runs/x/agent

    Ten episodes of a cart-pole and the random policy's hundred take some ten seconds.

    Args:
        agent: folder written by scripts.train_agent
        out: folder for result.json and agent.mp4; empty: `evaluation` beside the agent's folder
        episodes: how many (at least 1)
        first_seed: the episodes start from this seed and those after it; 1000000 and above start no training episode
    """
    from rllib_envs.evaluate import evaluate_folder  # torch loads only after the arguments proved right

    return evaluate_folder(agent, out or agent.parent / "evaluation", episodes, first_seed)


if __name__ == "__main__":
    run(evaluate_agent)
