"""The student network over architectures of every kind that timm has, at small frame sizes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from datamodules.errors import DataError, MissingDependencyError, SettingsError, UnknownNameError
from lightning_modules.student_network import StudentNetwork

ABLATION = [
    "efficientnet_b0",
    "mobilenetv3_large_100",
    "mobilenetv3_small_100",
    "mobilenetv4_conv_small",
    "resnet18",
    "vit_tiny_patch16_224",
    "test_efficientnet",
]
SMALL = ["test_efficientnet", "test_resnet", "test_convnext", "test_vit", "mobilenetv3_small_050"]


@pytest.mark.parametrize("backbone", SMALL)
def test_one_reward_a_frame(backbone: str) -> None:
    network = StudentNetwork(backbone, pixels=64, head_width=8).eval()
    rewards = network(torch.rand(3, 3, 64, 64))
    assert rewards.shape == (3,)
    assert rewards.dtype == torch.float32


def test_head_is_as_wide_as_asked() -> None:
    linear = [
        layer for layer in StudentNetwork("test_resnet", 32, head_width=17).heads[0] if hasattr(layer, "in_features")
    ]
    assert [(layer.out_features) for layer in linear] == [17, 1]


def test_unknown_backbone_names_the_closest() -> None:
    with pytest.raises(UnknownNameError, match=r"'mobilenetv3_smal_050': did you mean .*'mobilenetv3_small_050'"):
        StudentNetwork("mobilenetv3_smal_050", 84)


@pytest.mark.parametrize("backbone", ["hf_hub:timm/resnet18", "local-dir:/tmp"])
def test_foreign_sources_are_no_backbones(backbone: str) -> None:
    with pytest.raises(UnknownNameError, match="unknown backbone"):
        StudentNetwork(backbone, 84)


@pytest.mark.slow
@pytest.mark.parametrize("pixels", [64, 84, 96, 128])
@pytest.mark.parametrize("backbone", ABLATION)
def test_backbones_of_the_ablation_learn_a_batch_at_every_size(backbone: str, pixels: int) -> None:
    network = StudentNetwork(backbone, pixels)
    loss = network(torch.rand(4, 3, pixels, pixels)).square().mean()
    loss.backward()
    assert torch.isfinite(loss)
    silent = [name for name, weight in network.named_parameters() if weight.grad is None]
    assert silent == []


def test_patches_shrink_to_the_next_size_that_divides_the_frame() -> None:
    assert [StudentNetwork("test_vit", pixels).backbones[0].patch_embed.patch_size[0] for pixels in (64, 84, 90)] == [
        16,
        14,
        15,
    ]


def test_frames_that_no_similar_patch_divides_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"'test_vit' cannot take frames of 82 x 82 .*patch size \(16\)"):
        StudentNetwork("test_vit", 82)


def test_a_checkpoint_gives_the_backbone_its_weights(tmp_path: Path) -> None:
    first = StudentNetwork("test_resnet", 32).backbones[0].state_dict()
    save_file(first, tmp_path / "first.safetensors")
    second = StudentNetwork("test_resnet", 32, weights=str(tmp_path / "first.safetensors")).backbones[0].state_dict()
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor)


def test_weights_that_are_missing_or_another_s_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        MissingDependencyError, match=r"no backbone checkpoint at 'nowhere\.pth'.*'random' or 'imagenet'"
    ):
        StudentNetwork("test_resnet", 32, weights="nowhere.pth")
    save_file(StudentNetwork("test_efficientnet", 32).backbones[0].state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(DataError, match=r"other\.safetensors does not load into 'test_resnet'"):
        StudentNetwork("test_resnet", 32, weights=str(tmp_path / "other.safetensors"))


def test_pretrained_weights_without_a_network_name_the_file_to_place(tmp_path: Path) -> None:
    """In a process of its own: the hub's client reads its switches once, at import."""
    program = (
        "from lightning_modules.student_network import StudentNetwork; StudentNetwork('resnet18', 64, 8, 'imagenet')"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert "MissingDependencyError: the pretrained weights of 'resnet18' could not be downloaded" in done.stderr
    assert "https://huggingface.co/timm/resnet18" in done.stderr


def test_head_without_units_is_refused() -> None:
    with pytest.raises(SettingsError, match="head_width is 0: it must be at least 1"):
        StudentNetwork("test_resnet", 84, head_width=0)
