"""Where trials run: what is missing is named beforehand, each has a device of its own, nodes may come from anywhere.

Nothing here has a GPU: Ray counts the logical ones that it was told of, and shows each trial its own, as it would real
ones. Nodes of the cluster are real raylets, all on this machine.
"""

import re
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

from datamodules.conf import read_conf
from datamodules.errors import SettingsError
from rllib_envs.settings import PpoSettings, SacSettings
from sweeps.launch import launch_sweep
from sweeps.settings import SweepConfig
from sweeps.slots import STOP, resources_of, seconds_left
from sweeps.space import trials_of
from tests.sweeps.launched import SECONDS, learning, start, wait_for, write_small

pytestmark = pytest.mark.timeout(1200)  # Ray starts many processes, on a machine that may be busy


ENDLESS = 1_000_000  # steps


def small(folder: Path, seeds: int = 1, **changed: Any) -> SweepConfig:
    path = write_small(folder, steps=ENDLESS, grid=f"seed: {list(range(seeds))}")
    return replace(read_conf(SweepConfig, path), **changed)


def slots(sweep: SweepConfig, *machines: dict[str, float]) -> list[dict[str, float]]:
    return resources_of(sweep, trials_of(sweep)[-1], machines)


def test_what_is_left_is_told_by_what_trials_took_and_how_many_run_at_once() -> None:
    # two at once: the first took 100 s, the other has run as long, and ten more wait for both slots
    assert seconds_left([100.0], [100.0], 11, 2) == 500.0
    assert seconds_left([100.0, 140.0], [30.0], 3, 2) == (3 * 120.0 - 30.0) / 2
    assert seconds_left([100.0], [400.0], 1, 1) == 0.0
    assert seconds_left([100.0], [], 0, 1) == 0.0


def test_slots_that_are_missing_are_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"cpus_per_trial is 3: the largest .* has 2 CPU slots.*RAY_ADDRESS"):
        slots(small(tmp_path, cpus_per_trial=3), {"CPU": 2.0})
    with pytest.raises(SettingsError, match=r"gpus_per_trial is 1: the largest .* has 0 GPU slots"):
        slots(small(tmp_path, gpus_per_trial=1), {"CPU": 2.0})


def test_only_a_single_gpu_is_shared(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"gpus_per_trial is 1\.5: above 1 it must be whole"):
        slots(small(tmp_path, gpus_per_trial=1.5), {"CPU": 2.0, "GPU": 4.0})
    assert slots(small(tmp_path, gpus_per_trial=2), {"CPU": 2.0, "GPU": 4.0}) == [{"CPU": 1.0, "GPU": 2}]


def test_a_slot_lies_on_one_machine(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"cpus_per_trial is 4: the largest of Ray's machines has 2 CPU slots"):
        slots(small(tmp_path, cpus_per_trial=4), {"CPU": 2.0}, {"CPU": 2.0})
    with pytest.raises(SettingsError, match=r"cpus_per_trial is 4 and gpus_per_trial 1: no machine of Ray's has both"):
        slots(small(tmp_path, cpus_per_trial=4), {"CPU": 8.0}, {"CPU": 2.0, "GPU": 1.0})
    assert slots(small(tmp_path, cpus_per_trial=4), {"CPU": 2.0}, {"CPU": 4.0}) == [{"CPU": 4.0, "GPU": 0.0}]


def test_a_trial_takes_a_gpu_where_there_are_some(tmp_path: Path) -> None:
    assert slots(small(tmp_path), {"CPU": 8.0, "GPU": 2.0}) == [{"CPU": 1.0, "GPU": 1.0}]
    assert slots(small(tmp_path), {"CPU": 8.0}) == [{"CPU": 1.0, "GPU": 0.0}]
    assert slots(small(tmp_path, gpus_per_trial=0.5), {"CPU": 8.0, "GPU": 2.0}) == [{"CPU": 1.0, "GPU": 0.5}]


@pytest.mark.parametrize(
    "learning", [{"sac": SacSettings(num_env_runners=2)}, {"sac": SacSettings(), "ppo": PpoSettings(num_env_runners=2)}]
)
def test_env_runners_have_slots_of_their_own_whatever_the_algorithm(learning: dict[str, Any], tmp_path: Path) -> None:
    sweep = small(tmp_path)
    sweep = replace(sweep, base=replace(sweep.base, **learning))
    wanted = [{"CPU": 1.0, "GPU": 0.0}, {"CPU": 1.0}, {"CPU": 1.0}]
    assert slots(sweep, {"CPU": 3.0}) == wanted
    assert slots(sweep, {"CPU": 2.0}, {"CPU": 1.0}) == wanted  # they may live elsewhere
    with pytest.raises(SettingsError, match=r"num_env_runners is 2 and each takes a CPU slot.* 1, Ray has 1 CPU slots"):
        slots(sweep, {"CPU": 1.0}, {"CPU": 1.0})
    with pytest.raises(SettingsError, match=r"beside cpus_per_trial, 1\.5, Ray has 0 CPU slots"):
        slots(replace(sweep, cpus_per_trial=1.5), {"CPU": 2.0})
    fit = replace(sweep, base=replace(sweep.base, reward="student", last_stage="fit"))
    assert slots(fit, {"CPU": 1.0}) == wanted[:1]  # a trial without an agent has none


def test_each_trial_has_the_slots_of_its_own_env_runners(tmp_path: Path) -> None:
    sweep = small(tmp_path, grid={"arm": {"one": {}, "two": {"sac.num_env_runners": 1}}})
    one, two = trials_of(sweep)
    assert [len(resources_of(sweep, trial, [{"CPU": 2.0}])) for trial in (one, two)] == [1, 2]
    with pytest.raises(SettingsError, match="trial arm_two: num_env_runners is 1"):
        resources_of(sweep, two, [{"CPU": 1.0}])


PLACE = re.compile(r"on (?P<host>\S+), Ray's node (?P<node>\w+), GPU (?P<gpu>.+)$", re.MULTILINE)


def places(out: Path) -> dict[str, list[dict[str, str]]]:
    """Where each trial began, and began again, by its own log."""
    return {
        log.parent.name: [found.groupdict() for found in PLACE.finditer(log.read_text())]
        for log in sorted(out.glob("trials/*/log.txt"))
    }


@pytest.fixture(scope="module")
def two_gpus() -> Iterator[None]:
    """A session of Ray with two logical GPUs, whatever the one that an earlier test left running had."""
    ray.shutdown()
    ray.init(
        address="local",
        num_cpus=8,
        num_gpus=2,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=100 * 2**20,
    )
    yield
    ray.shutdown()


def run_until(together: int, sweep: SweepConfig) -> tuple[dict[str, str], dict[str, str]]:
    """Run trials that would take hours until so many of them learn at once, then ask all to stop.

    Returns the GPU of each trial that had begun by then, and of each that ever began.
    """
    begun: dict[str, str] = {}

    def watch() -> None:
        try:
            wait_for(lambda: len(learning(sweep.out)) >= together)
            begun.update({name: found[0]["gpu"] for name, found in places(sweep.out).items()})
        finally:
            (sweep.out / STOP).touch()

    watcher = threading.Thread(target=watch)
    watcher.start()
    with pytest.raises(KeyboardInterrupt):
        launch_sweep(sweep, "")
    watcher.join()
    return begun, {name: found[0]["gpu"] for name, found in places(sweep.out).items()}


@pytest.mark.slow
@pytest.mark.usefixtures("two_gpus")
def test_two_gpus_give_two_trials_at_once_on_different_devices_and_a_third_waits(tmp_path: Path) -> None:
    at_once, ever = run_until(2, small(tmp_path, seeds=3))
    assert sorted(at_once.values()) == ["0", "1"]
    assert set(ever) == {"seed_0", "seed_1"}  # the third does not begin any more when the others are asked to stop


@pytest.mark.slow
@pytest.mark.usefixtures("two_gpus")
def test_half_a_gpu_each_gives_four_trials_at_once_on_two_devices(tmp_path: Path) -> None:
    at_once, _ = run_until(4, small(tmp_path, seeds=4, gpus_per_trial=0.5))
    assert sorted(at_once.values()) == ["0", "0", "1", "1"]


@pytest.mark.slow
@pytest.mark.usefixtures("two_gpus")
def test_a_trial_without_a_gpu_sees_none(tmp_path: Path) -> None:
    at_once, _ = run_until(1, small(tmp_path, gpus_per_trial=0))
    assert at_once == {"trial": "none"}


ONE_CPU = {"num_cpus": 1, "object_store_memory": 100 * 2**20}


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Two nodes of a CPU each, both on this machine."""
    nodes = Cluster(initialize_head=True, head_node_args={**ONE_CPU, "include_dashboard": False})
    nodes.add_node(**ONE_CPU)
    nodes.wait_for_nodes()
    yield nodes
    nodes.shutdown()


@pytest.mark.slow
def test_the_nodes_of_a_cluster_share_the_trials_and_that_of_a_lost_node_goes_on_elsewhere(
    cluster: Cluster, tmp_path: Path
) -> None:
    config, out = write_small(tmp_path, steps=ENDLESS, grid="seed: [0, 1]"), tmp_path / "sweep"
    (worker,) = cluster.worker_nodes
    with start(config, {"RAY_ADDRESS": cluster.address}) as process:
        wait_for(lambda: len(learning(out)) == 2, process)
        began = {name: [place["node"] for place in found] for name, found in places(out).items()}
        assert sorted(began.values()) == sorted([[cluster.head_node.node_id], [worker.node_id]])
        (lost,) = (name for name, nodes in began.items() if nodes == [worker.node_id])
        cluster.remove_node(worker, allow_graceful=False)
        third = cluster.add_node(**ONE_CPU)
        wait_for(lambda: len(places(out)[lost]) == 2, process)
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == 130
    assert [place["node"] for place in places(out)[lost]] == [worker.node_id, third.node_id]
