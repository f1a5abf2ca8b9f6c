"""The student network over architectures of every kind that timm has, at small frame sizes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from datamodules.errors import DataError, MissingDependencyError, SettingsError, UnknownNameError
from lightning_modules.student_network import EmbeddingHead, StudentNetwork

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
def test_one_reward_a_frame_and_member(backbone: str) -> None:
    network = StudentNetwork(backbone, pixels=64, head_width=8).eval()
    rewards = network(torch.rand(3, 3, 64, 64))
    assert rewards.shape == (3, 1)
    assert rewards.dtype == torch.float32


def test_embedding_has_a_unit_norm_for_each_clip() -> None:
    network = StudentNetwork("test_resnet", 32, 8, dims=(5, 3)).eval()
    embeddings = network(torch.rand(4, 3, 32, 32))
    assert embeddings.shape == (4, 1, 8)
    for part in embeddings.split([5, 3], dim=2):
        torch.testing.assert_close(part.norm(dim=2), torch.ones(4, 1))


def test_centred_head_begins_at_the_mean_embedding() -> None:
    embeddings = nn.functional.normalize(torch.tensor([[3.0, 4.0, 0.0], [4.0, 3.0, 0.0]]), dim=1)
    head = EmbeddingHead(features=2, width=4, dims=(3,))
    head.centre(embeddings)
    nn.init.zeros_(head.layers[2].weight)
    nn.init.zeros_(head.layers[2].bias)
    torch.testing.assert_close(head(torch.rand(1, 2)), torch.tensor([[1.0, 1.0, 0.0]]) / 2**0.5)
    nn.init.constant_(head.layers[2].bias, 1.0)  # one standard deviation along each axis: .1, .1 and none
    torch.testing.assert_close(head(torch.rand(1, 2)), torch.tensor([[1.0, 1.0, 0.0]]) / 2**0.5)
    with torch.no_grad():
        head.layers[2].bias.copy_(torch.tensor([1.0, -1.0, 7.0]))
    torch.testing.assert_close(head(torch.rand(1, 2)), torch.tensor([[0.8, 0.6, 0.0]]))


def test_members_have_backbones_of_their_own_or_share_one() -> None:
    frames = torch.rand(2, 3, 32, 32)
    own = StudentNetwork("test_resnet", 32, 8, members=3).eval()
    shared = StudentNetwork("test_resnet", 32, 8, members=3, shared_backbone=True).eval()
    assert [len(network.backbones) for network in (own, shared)] == [3, 1]
    assert [network(frames).shape for network in (own, shared)] == [(2, 3), (2, 3)]
    assert len(set(shared(frames)[0].tolist())) == 3
    one = StudentNetwork("test_resnet", 32, 8).eval()
    one.backbones[0].load_state_dict(own.backbones[2].state_dict())
    one.heads[0].load_state_dict(own.heads[2].state_dict())
    torch.testing.assert_close(own(frames)[:, 2:], one(frames))


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
    with pytest.raises(SettingsError, match="members is 0: it must be at least 1"):
        StudentNetwork("test_resnet", 84, members=0)
