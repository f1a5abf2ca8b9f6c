"""Sac as a trainable of Ray Tune: a trial whose process is killed goes on from its last checkpoint."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from ray import tune
from ray.rllib.callbacks.callbacks import RLlibCallback

from datamodules.tasks import Task
from rllib_envs.sac import TASK_ENVIRONMENT, Sac, SacConfig
from rllib_envs.settings import SacSettings

TINY = SacSettings(total_steps=2_000, num_envs=2, learning_starts=64, batch_size=8, hidden=(8,), updates_per_step=0.25)


class KilledOnce(RLlibCallback):
    """Writes a line for each result, and kills its own process at the third."""

    def on_train_result(self, *, algorithm: Sac, result: dict[str, Any], **kwargs: Any) -> None:
        log = Path(algorithm.config.env_config["log"])
        before = log.read_text().splitlines() if log.exists() else []
        counters = [result["training_iteration"], algorithm.steps, algorithm.updates, len(algorithm.replay)]
        log.write_text("\n".join([*before, json.dumps(counters)]))
        if len(before) == 2:
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_running")
def test_a_killed_trial_goes_on_with_its_counters_and_its_replay(pole: Task, tmp_path: Path) -> None:
    log = tmp_path / "log"
    environment = {"task": pole, "make_reward": None, "seed": 0, "log": str(log)}
    config = SacConfig().sac(TINY).environment(TASK_ENVIRONMENT, env_config=environment)
    config.debugging(seed=0, log_level="ERROR").callbacks(KilledOnce)
    tuner = tune.Tuner(
        Sac,
        param_space=config,
        run_config=tune.RunConfig(
            storage_path=str(tmp_path / "tune"),
            stop={"training_iteration": 5},
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1),
            failure_config=tune.FailureConfig(max_failures=1),
            verbose=0,
        ),
    )
    (result,) = tuner.fit()
    assert result.error is None
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    iterations = [iteration for iteration, *_ in lines]
    assert iterations == [1, 2, 3, 3, 4, 5]  # the third was killed before its checkpoint
    for _, steps, updates, replay in lines:
        assert updates == int((steps - TINY.learning_starts) * TINY.updates_per_step)
        assert replay == steps
    killed, again = lines[2], lines[3]
    assert again[1] == killed[1] > lines[1][1]
