"""How busy the machine is while a run goes on: processor, memory, disk, network and GPUs, by MLflow's own monitors."""

import logging
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Thread

from mlflow.system_metrics.metrics.base_metrics_monitor import BaseMetricsMonitor
from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

SECONDS_BETWEEN_SAMPLES = 10.0
log = logging.getLogger(__name__)


class SystemMetrics:
    """Takes a sample every SECONDS_BETWEEN_SAMPLES and a last one at the end, in a thread of its own.

    MLflow's thread would write past the spool, and stop for good when a server is away.
    """

    def __init__(self, record: Callable[[dict[str, float]], None]) -> None:
        """Start; `record` is called with metrics under MLflow's names (`system/cpu_utilization_percentage`)."""
        self._record = record
        self._ended = Event()
        self._thread = Thread(target=self._sample_until_end, name="system metrics", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Record the last sample."""
        self._ended.set()
        self._thread.join()

    def _sample_until_end(self) -> None:
        try:
            monitors = _monitors()
            _sample(monitors)  # a processor's load is that since the sample before
            while not self._ended.is_set():
                self._ended.wait(SECONDS_BETWEEN_SAMPLES)
                self._record(_sample(monitors))
        except Exception:  # a machine that does not tell, or a record that is lost: no reason to stop a training
            log.warning("the machine's load is no longer recorded; all else is", exc_info=True)


def _monitors() -> list[BaseMetricsMonitor]:
    monitors: list[BaseMetricsMonitor] = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    with suppress(Exception):  # there is no NVIDIA GPU, or no driver for it
        monitors.append(GPUMonitor())
    return monitors


def _sample(monitors: list[BaseMetricsMonitor]) -> dict[str, float]:
    sample: dict[str, float] = {}
    for monitor in monitors:
        monitor.collect_metrics()
        sample |= {f"system/{name}": float(value) for name, value in monitor.aggregate_metrics().items()}
        monitor.clear_metrics()
    return sample
