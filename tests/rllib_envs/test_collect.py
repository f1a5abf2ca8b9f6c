"""Collecting frames: what is in the shards, that it can be drawn again, and when it is not done again."""

import pickle
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gymnasium import spaces
from numpy.testing import assert_array_equal

from datamodules.conf import read_conf
from datamodules.errors import DataError, SettingsError
from datamodules.manifest import read_manifest
from datamodules.records import Sample
from datamodules.shards import read_samples
from datamodules.tasks import RenderSettings, Task
from rllib_envs.collect import collect_frames, draw_policy
from rllib_envs.settings import CollectSettings
from rllib_envs.simulators import make_simulator

FEW = CollectSettings(frames=45, episode_steps=4)


def as_bytes(sample: Sample) -> tuple[object, ...]:
    assert sample.frame is not None
    assert sample.teacher_frame is not None
    return sample.key, sample.policy, sample.frame.tobytes(), sample.teacher_frame.tobytes(), sample.state.tobytes()


def test_every_frame_can_be_drawn_again_from_its_state(pole: Task, tmp_path: Path) -> None:
    result = collect_frames(pole, FEW, tmp_path, seed=1)
    samples = list(read_samples(tmp_path))
    assert (result.samples, result.episodes, len(samples)) == (45, 12, 45)
    simulator = make_simulator(pole)
    for sample in samples[::7]:
        simulator.set_state(sample.state)
        assert_array_equal(simulator.render(84), sample.frame)
        assert_array_equal(simulator.render(96), sample.teacher_frame)


def test_samples_are_numbered_by_episode_and_step(falling_pole: Task, tmp_path: Path) -> None:
    collect_frames(falling_pole, FEW, tmp_path, seed=0)
    samples = list(read_samples(tmp_path))
    assert [(sample.episode, sample.step) for sample in samples] == [divmod(index, 4) for index in range(45)]
    assert {(sample.task, sample.seed) for sample in samples} == {("falling_pole", 0)}
    assert all(sample.embedding is None for sample in samples)


def test_all_policies_and_starts_occur(falling_pole: Task, tmp_path: Path) -> None:
    collect_frames(falling_pole, CollectSettings(frames=200, episode_steps=2), tmp_path, seed=0)
    assert {sample.policy for sample in read_samples(tmp_path)} == {
        "noise from anywhere",
        "noise from reset",
        "random from anywhere",
        "random from reset",
    }


def test_same_seed_gives_the_same_frames_and_another_does_not(pole: Task, tmp_path: Path) -> None:
    for folder, seed in (("one", 3), ("same", 3), ("other", 4)):
        collect_frames(pole, FEW, tmp_path / folder, seed=seed)
    one, same, other = (
        [as_bytes(sample) for sample in read_samples(tmp_path / name)] for name in ("one", "same", "other")
    )
    assert one == same
    assert one[0] != other[0]


def test_finished_folder_is_not_collected_again(falling_pole: Task, tmp_path: Path) -> None:
    first = collect_frames(falling_pole, FEW, tmp_path, seed=0)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    second = collect_frames(falling_pole, FEW, tmp_path, seed=0)
    assert (first.collected_before, second.collected_before) == (False, True)
    assert (second.samples, second.digest) == (first.samples, first.digest)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == times


def test_folder_of_another_task_is_refused_and_kept(pole: Task, falling_pole: Task, tmp_path: Path) -> None:
    digest = collect_frames(falling_pole, FEW, tmp_path, seed=0).digest
    with pytest.raises(DataError, match="belongs to something else"):
        collect_frames(pole, FEW, tmp_path, seed=0)
    with pytest.raises(DataError, match=r"collection\.seed is 0, here it is 1"):
        collect_frames(falling_pole, FEW, tmp_path, seed=1)
    assert read_manifest(tmp_path).digest == digest


def killing_collector(task: Task, settings: CollectSettings, out: Path, frames: int) -> None:
    """Collect in a process of its own that is killed, as by `kill -9`, after some frames."""
    code = f"""
import os, pickle, signal, sys
from rllib_envs.collect import collect_frames

def kill_in_time(done, total, note=""):
    if done == {frames}:
        os.kill(os.getpid(), signal.SIGKILL)

task, settings, out = pickle.load(sys.stdin.buffer)
collect_frames(task, settings, out, 0, kill_in_time)
"""
    killed = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps((task, settings, out)), capture_output=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()


CUT = CollectSettings(frames=300, episode_steps=20)  # the first shard, of 256 samples, ends within an episode


@pytest.mark.parametrize("simulator", ["cartpole-swingup", "Ant-v5"])
def test_a_killed_collection_goes_on_and_ends_with_the_same_bytes(pole: Task, tmp_path: Path, simulator: str) -> None:
    family = "gymnasium" if simulator == "Ant-v5" else "dm_control"
    task = replace(pole, simulator=simulator, family=family, render=RenderSettings(32, 32))
    collect_frames(task, CUT, tmp_path / "whole", seed=0)
    killing_collector(task, CUT, tmp_path / "killed", frames=270)
    with pytest.raises(DataError, match="no finished data set"):
        read_manifest(tmp_path / "killed")
    reported: list[int] = []
    result = collect_frames(task, CUT, tmp_path / "killed", 0, lambda done, total, note="": reported.append(done))
    assert reported == list(range(257, 301))
    assert (result.samples, result.collected_before) == (300, False)
    names = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert names == ["manifest.json", "shard-000000.tar", "shard-000001.tar"]
    assert sorted(path.name for path in (tmp_path / "killed").iterdir()) == names
    for name in names:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes()


def test_a_collection_begun_with_other_settings_is_refused(falling_pole: Task, tmp_path: Path) -> None:
    killing_collector(falling_pole, CUT, tmp_path, frames=20)
    with pytest.raises(DataError, match=r"collection\.frames is 300, here it is 301"):
        collect_frames(falling_pole, replace(CUT, frames=301), tmp_path, seed=0)


def test_progress_reaches_the_total(falling_pole: Task, tmp_path: Path) -> None:
    reported: list[tuple[int, int]] = []
    collect_frames(falling_pole, FEW, tmp_path, 0, lambda done, total, note="": reported.append((done, total)))
    assert reported == [(done, 45) for done in range(1, 46)]


def test_pendulum_needs_one_yaml_file(tmp_path: Path) -> None:
    path = tmp_path / "pendulum.yaml"
    path.write_text(
        "name: p\nfamily: dm_control\nsimulator: pendulum-swingup\nprompts: {goal: [a pendulum pointing up]}\n"
    )
    assert collect_frames(read_conf(Task, path), FEW, tmp_path / "frames", seed=0).samples == 45


def test_smooth_noise_is_smooth_and_stays_within_bounds() -> None:
    space = spaces.Box(-1.0, 1.0, (2,), np.float32)
    settings = CollectSettings(noise_share=1.0)
    spreads, changes = [], []
    for seed in range(30):
        name, act = draw_policy(space, settings, np.random.default_rng(seed))
        taken = np.array([act() for _ in range(200)])
        assert name == "noise"
        assert np.abs(taken).max() <= 1.0
        spreads.append(taken.std())
        changes.append(np.abs(np.diff(taken, axis=0)).mean())
    assert min(spreads) < 0.1
    assert max(spreads) > 0.6
    uniform = np.random.default_rng(0).uniform(-1, 1, (200, 2))
    assert np.mean(changes) < np.abs(np.diff(uniform, axis=0)).mean() / 2


def test_discrete_noise_holds_its_actions() -> None:
    settings = CollectSettings(noise_share=1.0)
    kept = []
    for seed in range(30):
        _, act = draw_policy(spaces.Discrete(2), settings, np.random.default_rng(seed))
        taken = np.array([act() for _ in range(200)])
        assert set(taken) <= {0, 1}
        kept.append(np.mean(np.diff(taken) == 0))
    assert np.mean(kept) > 0.65


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"collect\.frames is 5: it must lie between 20"):
        CollectSettings(frames=5)
    with pytest.raises(SettingsError, match=r"collect\.noise_share is 1\.5"):
        CollectSettings(noise_share=1.5)
    with pytest.raises(SettingsError, match=r"frames must be at least 10 times episode_steps"):
        CollectSettings(frames=100, episode_steps=50)
