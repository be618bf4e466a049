"""Functions over the whole time axis: unbounded but causal, or finite in spite of a loop."""

import math
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from wavenet.receptive_fields import gradient, receptive_field

parts = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("over_time.py"))))

N_NETWORKS = 16


@pytest.mark.parametrize("length", [32, 62])
@pytest.mark.parametrize("joined", ["stack", "cat", "written"])
def test_a_causal_loop_of_three_taps_has_three_samples_at_every_length(
    joined: str, length: int
) -> None:
    field = receptive_field(parts.Loop(3, joined), input_shape=(1, 1, length))
    assert (field.samples, field.look_back, field.look_ahead, field.stride) == (3, 2, 0, 1)
    assert field.is_causal


CAUSAL = {
    "gru": parts.Over(nn.GRU(4, 4, batch_first=True)),
    "lstm": parts.Over(nn.LSTM(4, 4, num_layers=2, batch_first=True)),
    "rnn": parts.Over(nn.RNN(4, 4, batch_first=True)),
    "gru cell": parts.CellLoop(nn.GRUCell),
    "lstm cell": parts.CellLoop(nn.LSTMCell),
    "running mean": parts.Running(),
    **{form: parts.Over(parts.CausalAttention(form)) for form in parts.CausalAttention.FORMS},
}


@pytest.mark.parametrize("name", CAUSAL)
def test_without_end_and_causal(name: str) -> None:
    for arguments in ({"verify": True}, {"method": "gradient"}):
        field = receptive_field(CAUSAL[name], input_shape=(1, 4, 32), **arguments)
        assert field.samples == field.look_back == math.inf
        assert (field.look_ahead, field.stride) == (0, 1)
        assert field.is_causal
        assert field.unbounded
        assert "look-back unbounded, look-ahead 0 (causal)" in str(field)


def test_look_ahead_before_a_recurrent_layer_counts() -> None:
    network = nn.Sequential(nn.Conv1d(1, 4, 3), parts.Over(nn.GRU(4, 4, batch_first=True)))
    for method in ("trace", "gradient"):
        field = receptive_field(network, input_shape=(1, 1, 32), method=method)
        assert (field.look_back, field.look_ahead) == (math.inf, 2)
        assert not field.is_causal


def test_a_recurrent_layer_in_both_directions_is_not_causal() -> None:
    network = parts.Over(nn.GRU(4, 4, batch_first=True, bidirectional=True))
    for method in ("trace", "gradient"):
        field = receptive_field(network, input_shape=(1, 4, 32), method=method)
        assert (field.look_back, field.look_ahead) == (math.inf, math.inf)


class Band(nn.Module):
    """Attention to neighbours alone."""

    def forward(self, x: Tensor) -> Tensor:
        n = torch.arange(x.shape[-1])
        near = (n[:, None] - n[None]).abs() <= 3
        x = x.transpose(1, 2)
        return nn.functional.scaled_dot_product_attention(x, x, x, near).transpose(1, 2)


def test_attention_to_neighbours_alone_has_a_finite_field() -> None:
    field = receptive_field(Band(), input_shape=(1, 4, 40), verify=True)
    assert (field.samples, field.look_back, field.look_ahead) == (7, 3, 3)


class Middle(nn.Module):
    """A shift by half of the input."""

    def forward(self, x: Tensor) -> Tensor:
        return x + x.roll(x.shape[-1] // 2, -1)


class Ends(nn.Module):
    """The last sample and the first."""

    def forward(self, x: Tensor) -> Tensor:
        return x[..., -1] - x[..., 0]


@pytest.mark.parametrize("network", [Middle(), Ends()])
@pytest.mark.parametrize("method", ["trace", "gradient"])
def test_a_field_that_grows_with_the_input_has_no_end(network: nn.Module, method: str) -> None:
    field = receptive_field(network, input_shape=(1, 1, 64), method=method)
    assert field.samples == math.inf
    assert field.unbounded


def test_a_field_that_depends_on_the_length_has_a_note_with_both_lengths() -> None:
    field = receptive_field(nn.AdaptiveAvgPool1d(4), input_shape=(1, 1, 64))
    assert field.samples == 16
    assert "16 samples of an input of 64, 8 of one of 32" in field.notes[0]


class Writes(nn.Module):
    """Writes a later sample into a buffer of zeros."""

    def forward(self, x: Tensor) -> Tensor:
        buffer = torch.zeros(1, 1, x.shape[-1])
        buffer[..., :-2] = x[..., 2:]
        return x + buffer


def test_what_is_written_into_a_buffer_is_not_lost() -> None:
    field = receptive_field(Writes(), input_shape=(1, 1, 40))
    assert (field.samples, field.look_ahead, field.method) == (3, 2, "gradient")


def plainly_measured(network: nn.Module, n: int, length: int) -> list[int]:
    """Return the inputs with a gradient, over quiet and loud inputs; none where a ReLU is shut."""
    x = torch.randn(32, 4, length)
    x = (x * torch.logspace(-1, 2, 32)[:, None, None]).requires_grad_()
    y = network.float().eval()(x)
    (gradient,) = torch.autograd.grad(y[..., n].sum(), x)
    found: list[int] = gradient.abs().sum((0, 1)).nonzero().flatten().tolist()
    return found


@pytest.mark.slow
def test_random_networks_by_formula_by_gradient_and_by_their_own_gradient() -> None:
    by_formula = plainly = n_causal = 0
    for seed in range(N_NETWORKS):
        network, finite, causal = parts.random_network(seed)
        auto = receptive_field(network, input_shape=(1, 4, 32), verify=True)
        measured = receptive_field(network, input_shape=(1, 4, 32), method="gradient")
        by_formula += auto.method == "trace"
        assert auto.is_finite == measured.is_finite == finite, seed
        assert auto.is_causal == measured.is_causal == causal, seed
        if causal:
            assert (auto.samples, auto.stride) == (measured.samples, measured.stride), seed
            assert auto.stride == 1
            inputs = plainly_measured(network, 16, 32)
            assert max(inputs, default=16) <= 16
            assert not finite or 16 - min(inputs, default=16) <= auto.look_back, seed
            n_causal, plainly = n_causal + 1, plainly + bool(inputs)
    assert by_formula >= N_NETWORKS // 4
    assert plainly >= 0.8 * n_causal  # the yardstick has something to say of most of them


class CentredByValue(nn.Module):
    """Subtracts the mean over time of what it has upsampled, and asks for a value meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv1d(1, 1, 64, 64), nn.ConvTranspose1d(1, 1, 64, 64)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.up(self.down(x))
        return y - y.mean(-1, keepdim=True) if float(y.sum()) != 0.25 else y


def test_one_output_that_depends_on_the_whole_input_is_enough(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    positions = []
    original = gradient._input_range
    monkeypatch.setattr(
        gradient, "_input_range", lambda *args: positions.append(1) or original(*args)
    )
    field = receptive_field(CentredByValue(), input_shape=(1, 1, 640))
    assert (field.look_back, field.look_ahead) == (math.inf, math.inf)
    assert field.method == "gradient"
    assert len(positions) <= 4  # one at each length, not one for each output of a period
