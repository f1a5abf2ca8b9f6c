"""What a trial cost: the rows of its page's table, and the metrics of its run."""

from collections.abc import Mapping
from typing import Any

from rllib_envs.costs import QUANTILES
from sweeps.answer import number
from sweeps.measures import Row
from sweeps.trial_files import TrialFiles

MEMORY = {
    "peak_memory_gib": ("Peak memory", "main memory, the processes that step simulators included"),
    "peak_gpu_memory_gib": ("Peak GPU memory", "as torch allocated it in the agent's training"),
}


def cost_rows(files: TrialFiles) -> list[Row]:
    """What the agent's training took, and what asking the teacher at every step would have."""
    rows = []
    queries, steps = files.result.get("teacher_queries"), files.training.get("steps")
    if queries is not None:
        rows.append(("Teacher queries", f"{queries:,}", "frames the teacher scored in this trial"))
    if steps is not None:
        rows.append(("Agent steps", f"{steps:,}", f"{files.training['updates']:,} gradient updates"))
    if queries is not None and steps is not None and files.reward == "student":
        saved = steps - queries
        remark = f"asking the teacher at every agent step would have taken {steps:,}"
        if saved < 0:
            remark += "; this run asked more, and gains only when the labels serve other prompts, seeds or longer runs"
        rows.append(("Queries saved", f"{saved:,}".replace("-", "\N{MINUS SIGN}"), remark))
    if "steps_per_second" in files.training:
        rows.append(
            ("Speed", f"{number(files.training['steps_per_second'])} steps/s", "of the agent's training, all included")
        )
    return rows + _latency_rows(files) + _memory_rows(files.training)


def cost_metrics(training: Mapping[str, Any]) -> dict[str, float]:
    """The costs of an agent's training, by the names of MLflow; those that its result.json has."""
    metrics = {f"{phase}_share": share for phase, share in training.get("cost_shares", {}).items()}
    if latency := training.get("reward_latency"):
        metrics |= {f"reward_{name}_seconds": latency[name] for name in QUANTILES}
    metrics |= {name: training[name] for name in MEMORY if training.get(name) is not None}
    return {f"cost/{name}": value for name, value in metrics.items()}


def _latency_rows(files: TrialFiles) -> list[Row]:
    latency = files.training.get("reward_latency")
    if latency is None:
        return []
    half, most, nearly_all = (f"{number(1000 * latency[name])} ms" for name in QUANTILES)
    learning = files.agent.get("sac") or files.agent.get("ppo")
    batch = f"{learning['num_envs']} frames a call; " if learning else ""
    return [
        (
            "Reward, a call",
            half,
            f"median of {latency['calls']:,}; {batch}95 % stay below {most}, 99 % below {nearly_all}",
        )
    ]


def _memory_rows(training: Mapping[str, Any]) -> list[Row]:
    known = {name: training[name] for name in MEMORY if training.get(name) is not None}
    return [(MEMORY[name][0], f"{number(gib)} GiB", MEMORY[name][1]) for name, gib in known.items()]
