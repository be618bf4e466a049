"""A stream whose graph of gradients grows with every chunk is told of it, once."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

import wavenet
from wavenet import CausalConv1d, Chain, DilatedStack
from wavenet.nn import State, StateGradientWarning, detach_state, gradients, through_states
from wavenet.testing import check_causal

MESSAGE = "CausalConv1d: stream continues from a state that requires gradients, so all chunks"


@pytest.fixture(autouse=True)
def _as_in_a_new_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(gradients._Warned, "already", False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def chain() -> Chain:
    return Chain(CausalConv1d(1, 2, 2), nn.Tanh(), CausalConv1d(2, 1, 3))


def after(n_chunks: int, block: Chain, x: Tensor) -> State:
    state = block.init_state(1)
    for _ in range(n_chunks):
        _, state = block.stream(x, state)
    return state


def test_a_loop_with_gradients_warns_once() -> None:
    block, x = chain(), torch.randn(1, 1, 4)
    state = after(3, block, x)
    with pytest.warns(StateGradientWarning, match=MESSAGE):
        _, state = block.stream(x, state)
    for _ in range(3):
        _, state = block.stream(x, state)


def test_streams_that_hold_no_graph_do_not_warn() -> None:
    block, x = chain(), torch.randn(1, 1, 4)
    with torch.no_grad():
        _, state = block.stream(x, block.init_state(1))
        block.stream(x, state)
    _, state = block.stream(x, block.init_state(1))
    block.stream(x, detach_state(state))
    block(x)
    block.warm_state(1)
    conditioned = Chain(DilatedStack(1, 1, dilations=[1, 2], cond_channels=2))
    conditioned.warm_state(1, torch.randn(1, 2, 5))


def test_gradients_that_are_intended_do_not_warn_and_leave_the_warning_for_others() -> None:
    block, x = chain(), torch.randn(1, 1, 4)
    with through_states():
        after(10, block, x)
    check_causal(block)
    state = after(3, block, x)
    with pytest.warns(StateGradientWarning, match=MESSAGE):
        block.stream(x, state)


def test_training_from_the_state_of_silence_does_not_warn() -> None:
    """That state depends on the weights."""
    mel = wavenet.MelConfig(
        sample_rate=8000, n_fft=64, win_samples=64, hop_samples=16, n_mels=4, f_max_hz=4000
    )
    sizes = {"layers_per_stack": 2, "stacks": 1, "residual_channels": 4, "skip_channels": 4}
    config = wavenet.WaveNetConfig(sample_rate=8000, distribution="gaussian", mel=mel, **sizes)
    model, x = wavenet.WaveNet(config), torch.zeros(1, 1, 64)
    for _ in range(3):
        model(x, torch.zeros(1, 4, 4)).sum().backward()
        block = DilatedStack(1, 1, dilations=[1, 2])
        state = block.warm_state(1)
        (_, skip), state = block.stream(x, state)
        (_, skip), _ = block.stream(x, state)
        skip.sum().backward()
