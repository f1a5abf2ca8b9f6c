"""torch's threads are lent, not taken."""

import pytest
import torch

from rllib_envs.threads import torch_threads


def fail_with_threads(count: int) -> None:
    before = torch.get_num_threads()
    with torch_threads(count) as own:
        assert own == before
        assert torch.get_num_threads() == count
        raise RuntimeError("stop")


def test_threads_are_set_and_given_back_even_after_an_error() -> None:
    before = torch.get_num_threads()
    with pytest.raises(RuntimeError, match="stop"):
        fail_with_threads(before + 1)
    assert torch.get_num_threads() == before
