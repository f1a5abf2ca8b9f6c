"""Ray for one training or labelling: as small and as quiet as it goes, or the cluster that is there."""

import gc
import logging
import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from datamodules.errors import MissingDependencyError, SuiteError

OBJECT_STORE_BYTES = 100 * 2**20
"""Ray's own default takes 30 % of the memory; nothing large passes between processes here"""

CONNECT_SECONDS = 5.0

STARTS = 3
"""attempts to start it: Ray gives its own processes 30 seconds, which a busy machine does not always keep"""


@contextmanager
def ray_session() -> Iterator[None]:
    """Run the block with Ray: the session that is running, the cluster of `RAY_ADDRESS`, or a small one of its own.

    Raises MissingDependencyError if the cluster of `RAY_ADDRESS` cannot be reached.

    RLlib needs Ray even where sampler and learner live in this very process (its EnvRunnerGroup stores an object).
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Ray's workers take nice 15, and one that has to share a core with the learner is left to starve
    os.environ.setdefault("RAY_worker_niceness", "0")
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
    level, filters = logger.level, list(logger.filters)
    logger.setLevel(logging.ERROR)
    logger.addFilter(_is_not_ours)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            yield
    finally:
        logger.filters[:] = filters  # a session inside another one leaves the outer one's filter
        logger.setLevel(level)


def _is_not_ours(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], SuiteError))


def _start() -> None:
    if "RAY_ADDRESS" in os.environ:
        _join(os.environ["RAY_ADDRESS"])
        return
    for attempt in range(1, STARTS + 1):
        if attempt > 1:
            _forget_dead_processes()
        try:
            ray.init(
                address="local",  # otherwise Ray joins whichever cluster somebody last started on this machine
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


def _forget_dead_processes() -> None:
    """Drop those of a start that failed: Ray has killed them, and Python warns of each that nobody has waited for."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def _join(address: str) -> None:
    """Use the cluster at `address`; Ray itself would wait for minutes where nobody listens."""
    try:
        host, _, port = address.rpartition(":")
        if port.isdigit() and "://" not in address:  # not 'auto', not ray://HOST:PORT
            socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
        ray.init(log_to_driver=False, logging_level=logging.ERROR)
    except OSError as error:  # a ConnectionError is one
        raise MissingDependencyError(
            f"no Ray cluster lets us in at RAY_ADDRESS={address} ({error}): start one with `ray start --head`, correct "
            "the address, or unset RAY_ADDRESS; if the cluster asks for a token, set RAY_AUTH_MODE=token and "
            "RAY_AUTH_TOKEN"
        ) from error
