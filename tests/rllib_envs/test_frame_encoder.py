"""The encoder of stacked frames, held against torch's functions."""

import pytest
import torch
import torch.nn.functional as F
from gymnasium import spaces
from torch import Tensor

from datamodules.errors import SettingsError
from rllib_envs.frame_encoder import FEATURES, SMALLEST, FrameEncoder, check_pixels, shift_of
from rllib_envs.sac_networks import make_actor, make_networks

ARM = spaces.Box(-1.0, 1.0, (2,))


def stacks_of(count: int, pixels: int) -> Tensor:
    return torch.randint(0, 256, (count, pixels, pixels, 9), dtype=torch.uint8)


def test_features_are_four_convolutions_of_centred_frames() -> None:
    torch.manual_seed(0)
    encoder = FrameEncoder(84, 9)
    stacks = stacks_of(3, 84)
    values = stacks.permute(0, 3, 1, 2).float() / 255 - 0.5
    for layer, stride in zip(list(encoder.convolutions)[::2], (2, 2, 1, 1), strict=True):
        values = F.relu(F.conv2d(values, layer.weight, layer.bias, stride))
    assert values.shape == (3, 32, 16, 16)
    features = encoder(stacks)
    assert features.shape == (3, encoder.outputs)
    torch.testing.assert_close(features, values.flatten(1), rtol=1e-4, atol=1e-5)


def test_the_papers_shift_is_four_of_84_pixels() -> None:
    assert shift_of(84) == 4
    assert shift_of(24) == 1


def test_frames_that_nothing_would_be_left_of_are_refused() -> None:
    assert FrameEncoder(SMALLEST, 9)(stacks_of(1, SMALLEST)).shape == (1, 32)
    with pytest.raises(SettingsError, match=rf"render\.frame_pixels is {SMALLEST - 1}"):
        check_pixels(SMALLEST - 1)


def test_actor_and_critics_share_the_encoder_and_have_trunks_of_their_own() -> None:
    torch.manual_seed(0)
    networks = make_networks((24, 24, 9), ARM, (8,), initial_temperature=1.0)
    actor, stacks = networks.actor, stacks_of(5, 24)
    features = actor.encoder(stacks)
    torch.testing.assert_close(actor.act(stacks, explore=False), actor.network(features)[:, :2].tanh())
    assert actor.network[0](features).shape == networks.critics.trunk(features).shape == (5, FEATURES)
    assert networks.critics(features, torch.zeros(5, 2)).shape == (2, 5, 1)
    inside = {id(parameter) for parameter in networks.critics.parameters()}
    assert not inside & {id(parameter) for parameter in actor.parameters()}
    for slow, fast in zip(networks.target_critics.parameters(), networks.critics.parameters(), strict=True):
        assert torch.equal(slow, fast)
        assert slow.data_ptr() != fast.data_ptr()


def test_an_actor_of_states_has_no_weights_but_its_network() -> None:
    actor = make_actor((4,), ARM, (8,))
    assert all(name.startswith("network.") for name in actor.state_dict())
