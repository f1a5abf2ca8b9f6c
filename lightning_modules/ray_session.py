"""Ray for one training or labelling: as small and as quiet as it goes, or the cluster that is there."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from datamodules.errors import SuiteError

OBJECT_STORE_BYTES = 100 * 2**20
"""Ray's own default takes 30 % of the memory; nothing large passes between processes here"""

STARTS = 3
"""attempts to start it: Ray gives its own processes 30 seconds, which a busy machine does not always keep"""


@contextmanager
def ray_session() -> Iterator[None]:
    """Run the block with Ray: the session that is running, the cluster of `RAY_ADDRESS`, or a small one of its own.

    RLlib needs Ray even where sampler and learner live in this very process (its EnvRunnerGroup stores an object).
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    ours = not ray.is_initialized()
    with quiet():
        if ours:
            _start()
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
    logger.addFilter(_is_not_ours)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            yield
    finally:
        logger.removeFilter(_is_not_ours)
        logger.setLevel(level)


def _is_not_ours(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], SuiteError))


def _start() -> None:
    if "RAY_ADDRESS" in os.environ:
        ray.init(log_to_driver=False, logging_level=logging.ERROR)
        return
    for attempt in range(1, STARTS + 1):
        try:
            ray.init(
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                object_store_memory=OBJECT_STORE_BYTES,
            )
        except Exception as failure:  # Ray raises just that
            ray.shutdown()
            if "timed out" not in str(failure) or attempt == STARTS:
                raise
        else:
            return
