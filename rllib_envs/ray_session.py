"""Ray for one training in this process: as small and as quiet as it goes, or the cluster that is there."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import ray

OBJECT_STORE_BYTES = 100 * 2**20
"""Ray's own default takes 30 % of the memory; everything here runs in one process, which shares nothing"""


@contextmanager
def ray_session() -> Iterator[None]:
    """Run the block with Ray: the session that is running, the cluster of `RAY_ADDRESS`, or a small one of its own.

    RLlib needs Ray even where sampler and learner live in this very process (its EnvRunnerGroup stores an object).
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    ours = not ray.is_initialized()
    with quiet():
        if ours and "RAY_ADDRESS" in os.environ:
            ray.init(log_to_driver=False, logging_level=logging.ERROR)
        elif ours:
            ray.init(
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                object_store_memory=OBJECT_STORE_BYTES,
            )
        try:
            yield
        finally:
            if ours:
                ray.shutdown()


@contextmanager
def quiet() -> Iterator[None]:
    """Keep RLlib's start-up notes and deprecation warnings off the console; errors still show.

    A SuiteError that comes out of an environment is raised to the caller, so RLlib's own traceback of it is dropped.
    """
    logger = logging.getLogger("ray.rllib")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*Overriding environment rllib-single-agent-env-v0.*")
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        yield
    logger.setLevel(level)
