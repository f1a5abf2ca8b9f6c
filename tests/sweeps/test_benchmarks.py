"""What benchmarks share, and the rendering benchmark itself in a few rounds."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from datamodules.errors import UnknownNameError
from datamodules.records import encode_frame
from datamodules.results import read_json
from scripts.benchmark import main
from sweeps import benchmarks
from sweeps.benchmarks import agents, fitting, interleaved_medians, loading, rendering, run_benchmark, teacher


class Clock:
    """A clock that goes on when it is told to."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def go_on(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(benchmarks, "time", clock)
    return clock


def test_peers_take_turns_and_their_medians_are_told_apart(clock: Clock) -> None:
    turns: list[str] = []

    def peer(name: str, seconds: float) -> None:
        turns.append(name)
        clock.go_on(seconds)

    medians = interleaved_medians({"slow": lambda: peer("slow", 0.02), "fast": lambda: peer("fast", 0.001)}, rounds=5)
    assert "".join(turn[0] for turn in turns[:8]) == "ssffssff"
    assert medians == pytest.approx({"slow": 20, "fast": 1})


def test_preparation_of_a_round_is_not_timed(clock: Clock) -> None:
    medians = interleaved_medians({"peer": lambda: None}, rounds=3, before=lambda number: clock.go_on(0.02))
    assert medians["peer"] == 0


def test_unknown_benchmark_offers_the_closest_name(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown benchmark 'rendring': did you mean 'rendering'"):
        run_benchmark("rendring", tmp_path)


def test_rendering_writes_its_ratios_and_shows_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(rendering, "ROUNDS", 5)
    path = main(["rendering", "--out", str(tmp_path)])
    result = read_json(path)
    assert path == tmp_path / "rendering" / "result.json"
    assert result["ratios"].keys() == {"fast_over_default_cartpole", "fast_over_default_walker"}
    for name, ratio in result["ratios"].items():
        task = name.removeprefix("fast_over_default_")
        assert ratio == pytest.approx(result["medians"][f"{task}_default_ms"] / result["medians"][f"{task}_fast_ms"])
        assert ratio > 0
    output = capsys.readouterr().out
    assert "ratios fast_over_default_walker" in output
    assert output.splitlines()[-1] == str(path)


@pytest.mark.slow
def test_teacher_asks_real_networks_and_says_that_weights_are_random(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, smaller in {"BATCH": 4, "ROUNDS": 1, "PREPROCESSING_ROUNDS": 1, "STORED": 2000}.items():
        monkeypatch.setattr(teacher, name, smaller)
    result = read_json(main(["teacher", "--out", str(tmp_path)]))
    medians, ratios = result["medians"], result["ratios"]
    for name in ("bundled", "vit_b32"):
        rate = 4 / medians[f"{name}_batch_ms"] * 1000
        assert medians[f"{name}_queries_per_second"] == pytest.approx(rate)
        assert medians[f"{name}_million_queries_hours"] == pytest.approx(1e6 / rate / 3600)
        assert medians[f"{name}_image_text_reward_ms"] > 0
        assert 0 < ratios[f"model_over_wall_{name}"] < 1
    pil, ours = (medians[f"preprocessing_{peer}_batch_ms"] for peer in ("pil", "ours"))
    assert ratios["preprocessing_over_pil"] == pytest.approx(pil / ours)
    assert result["new_prompt"] == {"frames": 2000, "teacher_queries": 0}
    assert "random weights" in capsys.readouterr().out


@pytest.mark.slow
def test_loading_measures_both_ways_on_the_same_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"SAMPLES": 2_000, "EPISODE_STEPS": 50, "DRAWN": 20, "BLOCK_BATCHES": 2, "CACHED_BLOCK_BATCHES": 10}
    for name, value in {**small, "ROUNDS": 2}.items():
        monkeypatch.setattr(loading, name, value)
    result = read_json(run_benchmark("loading", tmp_path))
    medians, costs = result["medians"], result["costs"]
    png = max(medians["png_frames_per_second"], medians["png_two_workers_frames_per_second"])
    assert result["ratios"]["cache_over_png"] == pytest.approx(medians["cache_frames_per_second"] / png)
    assert result["ratios"]["cache_over_png"] > 0
    assert costs["streamed_frames"] == pytest.approx(2_000, abs=loading.BATCH)
    assert 50 < costs["streaming_peak_resident_mib"] < 4096


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This process.*fork:DeprecationWarning")
def test_fitting_measures_fits_beside_the_fastest_plain_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "SAMPLES", 240)
    monkeypatch.setattr(fitting, "EPISODE_STEPS", 12)
    small = {"test_efficientnet": 1.0, "efficientnet_b0": 0.2}
    fits = {name: replace(fitting.FITS[name], data_fraction=share, rounds=1) for name, share in small.items()}
    assert fits.keys() == fitting.FITS.keys()
    monkeypatch.setattr(fitting, "FITS", fits)
    result = read_json(run_benchmark("fitting", tmp_path))
    for name in fits:
        rates = {
            peer: result["medians"][f"{name}_{peer}_frames_per_second"]
            for peer in ("ours", "ours_bf16", *(f"plain_{processes}_processes" for processes in (0, 1, 2)))
        }
        plain = max(rate for peer, rate in rates.items() if peer.startswith("plain"))
        for peer in ("ours", "ours_bf16"):
            assert result["ratios"][f"{peer}_over_plain_loop_{name}"] == pytest.approx(rates[peer] / plain)
            assert rates[peer] > 0


def test_plain_loop_learns_from_its_pictures(tmp_path: Path) -> None:
    (tmp_path / "bright.png").write_bytes(encode_frame(np.full((8, 8, 3), 250, np.uint8)))
    (tmp_path / "dark.png").write_bytes(encode_frame(np.full((8, 8, 3), 5, np.uint8)))
    pictures = fitting.PngFrames(tmp_path, torch.tensor([1.0, -1.0]))
    frame, reward = pictures[0]
    # (250 / 255 - mean) / std of ImageNet's red channel
    assert (float(frame[0, 0, 0]), float(reward)) == (pytest.approx((250 / 255 - 0.485) / 0.229), 1.0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 1))
    loop = fitting.PlainLoop(network, {"learning_rate": 0.001, "weight_decay": 0.0, "loss": "mse"}, 1.0)
    for _ in range(100):
        assert loop.epoch(DataLoader(pictures, batch_size=2)) > 0
    learned = loop.network(torch.stack([pictures[0][0], pictures[1][0]]))
    assert learned[:, 0].tolist() == pytest.approx([1.0, -1.0], abs=0.2)


@pytest.mark.slow
def test_agents_measures_all_peers_in_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, smaller in {"BATCH": 16, "HIDDEN": (8,), "BLOCK_SECONDS": 0.1, "ROUNDS": 1, "STEPS_A_CALL": 16}.items():
        monkeypatch.setattr(agents, name, smaller)
    result = read_json(run_benchmark("agents", tmp_path))
    rates, ratios = result["medians"], result["ratios"]
    assert all(rate > 0 for rate in rates.values())
    stock = max(rates["stock_rllib_steps_per_second"], rates["stock_rllib_one_thread_steps_per_second"])
    assert ratios["ours_over_stock_rllib"] == pytest.approx(rates["ours_steps_per_second"] / stock)
    assert ratios["ours_over_sb3"] == pytest.approx(rates["ours_steps_per_second"] / rates["sb3_steps_per_second"])
    assert ratios.keys() == {
        "ours_over_sb3",
        "ours_over_stock_rllib",
        "ours_8_envs_over_stock_rllib",
        "student_reward_over_true_reward",
        "student_over_vit_b32_in_loop",
        "two_runners_over_one",
    }
