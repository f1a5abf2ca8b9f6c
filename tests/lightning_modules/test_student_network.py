"""The student network over architectures of every kind that timm has, at small frame sizes."""

import pytest
import torch

from datamodules.errors import SettingsError, UnknownNameError
from lightning_modules.student_network import StudentNetwork

SMALL = ["test_efficientnet", "test_resnet", "test_convnext", "test_vit", "mobilenetv3_small_050"]


@pytest.mark.parametrize("backbone", SMALL)
def test_one_reward_a_frame(backbone: str) -> None:
    network = StudentNetwork(backbone, pixels=64, head_width=8).eval()
    rewards = network(torch.rand(3, 3, 64, 64))
    assert rewards.shape == (3,)
    assert rewards.dtype == torch.float32


def test_head_is_as_wide_as_asked() -> None:
    linear = [layer for layer in StudentNetwork("test_resnet", 32, head_width=17).head if hasattr(layer, "in_features")]
    assert [(layer.out_features) for layer in linear] == [17, 1]


def test_unknown_backbone_names_the_closest() -> None:
    with pytest.raises(UnknownNameError, match=r"'mobilenetv3_smal_050': did you mean .*'mobilenetv3_small_050'"):
        StudentNetwork("mobilenetv3_smal_050", 84)


@pytest.mark.parametrize("backbone", ["hf_hub:timm/resnet18", "local-dir:/tmp"])
def test_foreign_sources_are_no_backbones(backbone: str) -> None:
    with pytest.raises(UnknownNameError, match="unknown backbone"):
        StudentNetwork(backbone, 84)


def test_patches_that_do_not_divide_the_frame_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"'test_vit' cannot take frames of 84 x 84 .*patch size \(16\)"):
        StudentNetwork("test_vit", 84)


def test_patch_size_makes_a_transformer_fit() -> None:
    assert StudentNetwork("test_vit", 84, patch_size=14).eval()(torch.rand(2, 3, 84, 84)).shape == (2,)


def test_patch_size_of_a_convolutional_backbone_is_refused() -> None:
    with pytest.raises(SettingsError, match="'test_resnet' has no patches: leave patch_size out"):
        StudentNetwork("test_resnet", 84, patch_size=14)


def test_head_without_units_is_refused() -> None:
    with pytest.raises(SettingsError, match="head_width is 0: it must be at least 1"):
        StudentNetwork("test_resnet", 84, head_width=0)
