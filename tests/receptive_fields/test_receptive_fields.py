"""Receptive fields equal tables worked out by hand, and the reach of the gradient."""

from __future__ import annotations

import json
import random
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from wavenet import (
    Causal,
    CausalConv1d,
    CausalConvTranspose1d,
    Chain,
    DilatedStack,
    GatedResidualBlock,
    Select,
    WaveNet,
    WaveNetConfig,
    receptive_field,
)
from wavenet.nn import State
from wavenet.receptive_fields import effective_kernel

CYCLE = [2**i for i in range(10)]


def reach_of_gradient(block: Causal) -> int:
    """Largest distance from an output back to the first input with a gradient, over one period."""
    block = block.double()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.uniform_(0.1, 0.5)  # all alike in sign: nothing cancels, no ReLU blocks
    period = max(1, int(block.step * block.rate))
    n = (block.past // block.step + 3) * block.step
    x = torch.rand(1, block.in_channels, n, dtype=torch.float64, requires_grad=True)
    y = block.stream(x, block.init_state(1))[0]
    y = y if isinstance(y, Tensor) else sum(part.sum(1, keepdim=True) for part in y)
    fields = []
    for out in range(y.shape[-1] - period, y.shape[-1]):
        (gradient,) = torch.autograd.grad(y[0, :, out].sum(), x, retain_graph=True)
        nonzero = gradient[0].abs().sum(0).nonzero()
        present = int(Fraction(out) / block.rate)
        fields.append(present - int(nonzero[0]) + 1 if len(nonzero) else 0)
    return max(fields)


# --- by hand ------------------------------------------------------------------------------------


def test_ten_layers_three_times_have_a_field_of_3070_samples_which_are_191_875_ms() -> None:
    field = receptive_field(CYCLE * 3, 16000)
    assert (field.samples, field.milliseconds, field.seconds) == (3070, 191.875, 0.191875)
    assert len(field.layers) == 30
    assert [layer.samples for layer in field.layers[:4]] == [2, 4, 8, 16]
    assert [layer.samples for layer in field.layers[9::10]] == [1024, 2047, 3070]
    assert field.layers[9].milliseconds == 64.0


def test_three_taps_with_dilations_1_2_4_have_fields_of_3_7_15_samples() -> None:
    field = receptive_field([1, 2, 4], kernel_size=3)
    assert [layer.samples for layer in field.layers] == [3, 7, 15]
    assert [layer.effective_kernel for layer in field.layers] == [3, 5, 9]
    assert [layer.kernel_size for layer in field.layers] == [3, 3, 3]
    assert [layer.dilation for layer in field.layers] == [1, 2, 4]
    assert field.samples == 15


@pytest.mark.parametrize(
    ("kernel_size", "dilations", "samples"),
    [
        (1, [1, 2, 4], 1),
        (2, [1], 2),
        (2, [7], 8),
        (2, CYCLE, 1024),
        (2, CYCLE * 2, 2047),
        (2, CYCLE * 5, 5116),
        (3, CYCLE, 2047),
        (5, [1, 3, 9], 53),
    ],
)
def test_stacks_worked_out_by_hand(kernel_size: int, dilations: list[int], samples: int) -> None:
    assert receptive_field(dilations, kernel_size=kernel_size).samples == samples
    stack = DilatedStack(1, 1, kernel_size=kernel_size, dilations=dilations)
    assert receptive_field(stack).samples == samples
    assert stack.past + 1 == samples


@pytest.mark.parametrize(
    ("preset", "samples", "milliseconds"),
    [("small", 2047, 127.9375), ("medium", 3070, 191.875), ("nv", 2047, 127.9375)],
)
def test_presets_configurations_and_models_agree(
    preset: str, samples: int, milliseconds: float
) -> None:
    config = WaveNetConfig.preset(preset)
    model = WaveNet(config)
    for thing in (config, model):
        field = receptive_field(thing)
        assert (field.samples, field.sample_rate) == (samples, 16000)
        assert field.milliseconds == milliseconds
    assert model.past + 1 == samples


def test_an_effective_kernel_is_what_the_dilated_taps_span() -> None:
    assert [effective_kernel(k, d) for k, d in ((1, 9), (2, 1), (2, 512), (3, 4))] == [1, 2, 513, 9]


def test_layers_behind_a_decimation_count_at_the_rate_of_the_first_input() -> None:
    encoder = Chain(
        CausalConv1d(1, 4, 4, stride=4),  # 3 samples back; then each sample is 4 of the input
        CausalConv1d(4, 4, 3, dilation=2),  # 4 of these, which are 16
        CausalConv1d(4, 4, 2, stride=2),  # 1 of them, which are 4; then each is 8 of the input
        CausalConv1d(4, 1, 2),  # 1, which are 8
    )
    field = receptive_field(encoder, 8000)
    assert [layer.samples for layer in field.layers] == [4, 20, 24, 32]
    assert field.milliseconds == 4.0


def test_a_layer_that_is_used_twice_counts_twice() -> None:
    shared = CausalConv1d(1, 1, 3)
    field = receptive_field(Chain(shared, shared))
    assert [layer.samples for layer in field.layers] == [3, 5]


# --- against the gradient -----------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_the_field_of_random_stacks_is_that_of_the_gradient(seed: int) -> None:
    draw = random.Random(seed)
    dilations = [draw.randint(1, 9) for _ in range(draw.randint(1, 5))]
    stack = DilatedStack(2, 2, kernel_size=draw.randint(1, 4), dilations=dilations)
    assert receptive_field(stack).samples == reach_of_gradient(stack)


@pytest.mark.parametrize("seed", range(12))
def test_the_field_of_random_chains_is_that_of_the_gradient(seed: int) -> None:
    draw = random.Random(seed)
    modules: list[nn.Module] = []
    for _ in range(draw.randint(2, 4)):
        stride, kernel_size = draw.randint(1, 3), draw.randint(1, 5)
        modules += draw.choice(
            [
                [CausalConv1d(1, 1, kernel_size, stride=stride, dilation=draw.randint(1, 3))],
                [CausalConvTranspose1d(1, 1, max(kernel_size, stride), stride=stride)],
                [GatedResidualBlock(1, 1, kernel_size=kernel_size), Select(1)],
            ]
        )
    chain = Chain(*modules)
    assert receptive_field(chain).samples == reach_of_gradient(chain)


def test_each_layer_has_the_field_of_the_network_up_to_it() -> None:
    stack = DilatedStack(2, 2, kernel_size=3, dilations=[1, 4, 2])
    for n_layers, layer in enumerate(receptive_field(stack).layers, start=1):
        upto = DilatedStack(2, 2, kernel_size=3, dilations=[1, 4, 2][:n_layers])
        assert layer.samples == reach_of_gradient(upto)


def test_the_field_of_a_model_is_that_of_the_gradient() -> None:
    config = WaveNetConfig(layers_per_stack=3, stacks=2, residual_channels=2, skip_channels=2)
    model = WaveNet(config.replace(distribution="gaussian"))
    assert receptive_field(model).samples == reach_of_gradient(model) == 15


class FivePast(Causal):
    """A block of somebody else's, of which only `past` is known."""

    in_channels, past = 1, 5

    def init_state(self, batch_size: int, *, device: Any = None, dtype: Any = None) -> State:
        return ()


def test_a_block_of_somebody_elses_counts_as_one_layer_of_its_past() -> None:
    field = receptive_field(Chain(CausalConv1d(1, 1, 2, stride=2), FivePast()))
    assert [layer.samples for layer in field.layers] == [2, 12]
    assert (field.layers[1].kernel_size, field.layers[1].dilation) == (6, 1)
    assert receptive_field(FivePast()).samples == 6


# --- how it is shown ----------------------------------------------------------------------------


def test_the_table_is_aligned_and_ends_in_the_total() -> None:
    assert str(receptive_field([1, 2, 512], 16000)) == (
        "layer    kernel  dilation  effective kernel  samples      ms\n"
        "layer 1       2         1                 2        2   0.125\n"
        "layer 2       2         2                 3        4   0.250\n"
        "layer 3       2       512               513      516  32.250\n"
        "receptive field: 516 samples = 32.250 ms at 16000 Hz"
    )


def test_without_a_sample_rate_there_are_no_milliseconds() -> None:
    field = receptive_field([1, 2])
    assert (field.seconds, field.milliseconds, field.layers[0].milliseconds) == (None, None, None)
    assert str(field) == (
        "layer    kernel  dilation  effective kernel  samples\n"
        "layer 1       2         1                 2        2\n"
        "layer 2       2         2                 3        4\n"
        "receptive field: 4 samples"
    )


def test_every_line_of_every_table_is_as_long_as_the_header() -> None:
    for thing in (WaveNetConfig.preset("medium"), DilatedStack(2, 2, dilations=CYCLE)):
        header, *rows, _ = str(receptive_field(thing)).splitlines()
        assert {len(row) for row in rows} == {len(header)}


def test_layers_of_a_network_are_named_by_their_paths() -> None:
    model = WaveNet(WaveNetConfig(layers_per_stack=2, stacks=1, residual_channels=2))
    names = [layer.name for layer in receptive_field(model).layers]
    assert names == ["stack.0.conv", "stack.1.conv"]
    assert {name for name, _ in model.named_modules()} >= {"stack.blocks.0.conv"}


def test_the_json_has_every_number() -> None:
    content = json.loads(receptive_field([1, 2], 8000, kernel_size=3).to_json())
    assert content == {
        "look_back": 6,
        "look_ahead": 0,
        "causal": True,
        "stride": 1,
        "padding": 6,
        "method": "law",
        "notes": [],
        "unbounded": [],
        "outputs": content["outputs"],
        "samples": 7,
        "sample_rate": 8000,
        "seconds": 7 / 8000,
        "milliseconds": 0.875,
        "layers": [
            {
                "name": "layer 1",
                "kernel_size": 3,
                "dilation": 1,
                "effective_kernel": 3,
                "samples": 3,
                "milliseconds": 0.375,
            },
            {
                "name": "layer 2",
                "kernel_size": 3,
                "dilation": 2,
                "effective_kernel": 5,
                "samples": 7,
                "milliseconds": 0.875,
            },
        ],
    }


def test_the_dictionary_is_a_copy() -> None:
    field = receptive_field([1, 2])
    field.to_dict()["layers"][0]["samples"] = 0
    assert field.layers[0].samples == 2


# --- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize("thing", ["1,2,4", 5, None, nn.Conv1d, 2.5], ids=str)
def test_other_things_have_no_receptive_field(thing: Any) -> None:
    with pytest.raises(TypeError, match=f"or a list of dilations, not {type(thing).__name__}"):
        receptive_field(thing)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"thing": []}, "dilations is empty; give one per layer"),
        ({"thing": [1, 0]}, "dilation=0 must be an integer of at least 1"),
        ({"thing": [1.5]}, "dilation=1.5 must be an integer of at least 1"),
        ({"thing": ["2"]}, "dilation='2' must be an integer of at least 1"),
        ({"thing": [1], "kernel_size": 0}, "kernel_size=0 must be an integer of at least 1"),
        ({"thing": [1], "sample_rate": 0}, "sample_rate=0 must be an integer of at least 1"),
        ({"thing": [1], "sample_rate": 16e3}, "sample_rate=16000.0 must be an integer"),
        (
            {"thing": WaveNetConfig(), "sample_rate": 8000},
            "sample_rate=8000 contradicts the model's 16000 Hz; leave it out",
        ),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        receptive_field(**arguments)
