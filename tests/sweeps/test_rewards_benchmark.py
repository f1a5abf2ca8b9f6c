"""The rewards benchmark itself, on small networks."""

from pathlib import Path

import pytest
from torch import nn

from datamodules.results import read_json
from lightning_modules.student_network import StudentNetwork
from scripts.benchmark import main
from sweeps.benchmarks import backbones, rewards
from sweeps.benchmarks.rewards import PEERS, Peer, count_megaflop, default_student


def small(runtimes: tuple[str, ...] | None, batches: tuple[int, ...] = (16,)) -> Peer:
    return Peer(
        lambda: StudentNetwork("test_efficientnet", 32, 8), 32, runtimes, rounds=3, warm_up_rounds=0, batches=batches
    )


def test_rewards_writes_ratios_of_the_fastest_runtimes_and_shows_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = ("torch", "onnx", "openvino")
    peers = {
        "fast_student": small(quick, (16, 1)),
        "efficientnet_b0": small(quick),
        "vit_b32": small(quick),
        "vit_l14": small(None),
    }
    assert peers.keys() == PEERS.keys()
    monkeypatch.setattr(rewards, "PEERS", peers)
    monkeypatch.setattr(rewards, "TURN_MILLISECONDS", 5.0)
    path = main(["rewards", "--out", str(tmp_path)])
    result = read_json(path)
    assert result["ratios"].keys() == {
        "fast_student_over_vit_b32",
        "efficientnet_b0_over_vit_b32",
        "fast_student_over_vit_l14",
        "efficientnet_b0_over_vit_l14",
        "batch1_best_over_eager",
    }
    medians = result["medians"]
    assert all(ratio > 0 for ratio in result["ratios"].values())
    single = {name: ms for name, ms in medians.items() if name.startswith("fast_student_batch1_")}
    assert len(single) == 4
    assert result["ratios"]["batch1_best_over_eager"] == medians["fast_student_batch1_eager_ms"] / min(single.values())
    fastest = result["fastest"]["vit_b32"]
    assert medians[f"vit_b32_batch16_{fastest}_ms"] == min(
        medians[f"vit_b32_batch16_{name}_ms"] for name in ("eager", "torch", "onnx", "openvino")
    )
    assert {name for name in medians if name.startswith("vit_l14")} == {
        "vit_l14_batch16_eager_ms",
        f"vit_l14_batch16_{fastest}_ms",
    }
    assert len(set(result["megaflop_per_frame"].values())) == 1
    output = capsys.readouterr().out
    assert "megaflop_per_frame efficientnet_b0" in output
    assert output.splitlines()[-1] == str(path)


def test_operations_are_counted_as_by_hand() -> None:
    # 3 x 3 kernels over 3 channels, 2 outputs at each of 6 x 6 places; a multiply-add is two operations
    assert count_megaflop(nn.Conv2d(3, 2, 3), 8) == pytest.approx(2 * 27 * 2 * 36 / 1e6)


def test_fast_student_is_the_one_that_users_get() -> None:
    assert sum(weights.numel() for weights in default_student().parameters()) < 200_000


def test_backbones_are_measured_in_fitting_and_scoring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbones, "BACKBONES", ("test_efficientnet", "test_resnet"))
    monkeypatch.setattr(backbones, "RUNTIMES", ("torch",))
    monkeypatch.setattr(backbones, "PIXELS", 32)
    result = read_json(main(["backbones", "--out", str(tmp_path)]))
    medians = result["medians"]
    assert medians.keys() == {
        f"{name}_{what}"
        for name in ("test_efficientnet", "test_resnet")
        for what in ("fit_ms_per_frame", "batch1_ms", "batch16_ms")
    }
    assert all(ms > 0 for ms in medians.values())
    assert result["ratios"]["test_resnet_over_test_efficientnet_fit"] == pytest.approx(
        medians["test_resnet_fit_ms_per_frame"] / medians["test_efficientnet_fit_ms_per_frame"]
    )
    assert result["parameters"]["test_resnet"] == sum(
        weights.numel() for weights in StudentNetwork("test_resnet", 32).parameters()
    )


def test_every_backbone_of_the_ablation_takes_a_step_of_a_fit() -> None:
    for name in backbones.BACKBONES:
        backbones.fit_step(name)()
