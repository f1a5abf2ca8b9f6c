"""What RLlib logs beside its own metrics: the true return next to the learned one."""

from collections import defaultdict
from typing import Any

from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.env.single_agent_episode import SingleAgentEpisode

TRUE_RETURN = "true_return_mean"
"""the metric's name; RLlib's own `episode_return_mean` beside it is the return in the reward that trains the agent"""


class TrueReturn(RLlibCallback):  # type: ignore[misc]  # ray ships no types
    """Sums `info["true_reward"]` over each episode and logs it when the episode ends."""

    def __init__(self) -> None:
        super().__init__()
        self._so_far: defaultdict[str, float] = defaultdict(float)

    def on_sample_end(self, *, metrics_logger: Any, samples: list[SingleAgentEpisode], **kwargs: Any) -> None:
        """Add up the infos of each chunk; the first info of a chunk belongs to the step before it."""
        for episode in samples:
            self._so_far[episode.id_] += sum(info.get("true_reward", 0.0) for info in episode.get_infos()[1:])
            if episode.is_done:
                metrics_logger.log_value(TRUE_RETURN, self._so_far.pop(episode.id_), window=100)
