"""Whatever asks for a size takes the integers of every library, and no bool."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import wavenet
from wavenet.nn import (
    Delay,
    DepthwiseSeparableConv1d,
    FiLM,
    FrameLift,
    LayerNorm,
    LinearPrediction,
    TemporalBlock,
)
from wavenet.values.integers import as_integer, is_integer, is_number

MODEL = wavenet.WaveNet(
    wavenet.WaveNetConfig(
        layers_per_stack=2, stacks=1, residual_channels=4, skip_channels=4, distribution="gaussian"
    )
).eval()


def test_integers_of_every_library_are_integers_and_bools_are_none() -> None:
    for value in (3, np.int64(3), np.uint8(3), np.array(3), torch.tensor(3)):
        assert is_integer(value)
        assert type(as_integer("size", value)) is int
    for value in (
        True,
        np.bool_(True),
        torch.tensor(True),
        3.0,
        np.float32(3),
        "3",
        None,
        [3],
        np.array([3, 4]),
    ):
        assert not is_integer(value)
        with pytest.raises(ValueError, match="size=.* must be an integer of at least 1"):
            as_integer("size", value)
    with pytest.raises(ValueError, match=r"size=np.int64\(0\) must be an integer of at least 1"):
        as_integer("size", np.int64(0))


def test_numbers_of_every_library_are_numbers_and_bools_and_text_are_none() -> None:
    for value in (3, 0.5, np.float32(3), np.array(3.0), torch.tensor(0.5), math.nan, 10**400):
        assert is_number(value)
    bools = (True, np.bool_(True), np.array(True), torch.tensor(True))
    for value in (*bools, "3", b"3", None, [3], np.zeros(2), torch.zeros(2), torch.tensor(1j), 1j):
        assert not is_number(value)


BLOCKS: dict[str, Callable[[Callable[[int], Any]], torch.nn.Module]] = {
    "convolution": lambda n: wavenet.CausalConv1d(
        n(2), n(4), n(3), dilation=n(2), groups=n(2), stride=n(2)
    ),
    "transposed": lambda n: wavenet.CausalConvTranspose1d(n(2), n(4), n(3), stride=n(2)),
    "residual": lambda n: wavenet.GatedResidualBlock(
        n(2), n(3), kernel_size=n(2), dilation=n(2), gate_channels=n(6), cond_channels=n(2)
    ),
    "stack": lambda n: wavenet.DilatedStack(n(2), n(3), dilations=np.array([n(1), n(2)])),
    "delay": lambda n: Delay(n(2), n(3)),
    "separable": lambda n: DepthwiseSeparableConv1d(n(2), n(4), n(3), dilation=n(2), stride=n(2)),
    "temporal block": lambda n: TemporalBlock(n(2), n(4), n(3), dilation=n(2)),
    "layer norm": lambda n: LayerNorm(n(4)),
    "film": lambda n: FiLM(n(4), n(3)),
    "lift": lambda n: FrameLift(n(8), centre_samples=n(3)),
    "prediction": lambda n: LinearPrediction(
        n(4), pitch_taps=n(3), min_lag_samples=n(5), max_lag_samples=n(9)
    ),
}


@pytest.mark.parametrize("make", BLOCKS.values(), ids=BLOCKS)
def test_a_block_of_numpy_sizes_is_that_of_python_sizes(
    make: Callable[[Callable[[int], Any]], torch.nn.Module],
) -> None:
    expected = make(int)
    made = make(np.int64)
    assert repr(made) == repr(expected)
    if isinstance(made, wavenet.Causal):
        assert type(made.past) is int
        assert made.past == expected.past  # type: ignore[union-attr]
        assert made.rate == expected.rate


def test_generation_takes_numpy_sizes_and_refuses_bools() -> None:
    expected = wavenet.generate(MODEL, n_samples=8, batch_size=2, seed=1)
    made = wavenet.generate(MODEL, n_samples=np.int64(8), batch_size=np.int32(2), seed=np.int64(1))
    assert torch.equal(made, expected)
    chunks = wavenet.stream(MODEL, n_samples=8, batch_size=2, seed=1, chunk_samples=np.int16(4))
    assert torch.equal(torch.cat(list(chunks), dim=-1), expected)
    for name in ("n_samples", "batch_size", "seed"):
        with pytest.raises(ValueError, match=f"{name}=True must be an integer"):
            wavenet.generate(MODEL, **{"n_samples": 4, name: True})
    with pytest.raises(ValueError, match="chunk_samples=True must be an integer"):
        wavenet.stream(MODEL, n_samples=4, chunk_samples=True)


def test_distributions_take_numpy_sizes() -> None:
    made = wavenet.make_distribution("logistic_mixture", np.int64(3))
    assert made == wavenet.make_distribution("logistic_mixture", 3)
    assert type(made.n_params) is int
