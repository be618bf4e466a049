"""``wavenet.causal``: geometry of every layer, weights, refusals, and uses of the block."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable

import pytest
import torch
from ordinary_networks import NETWORKS, Chomp, HiFiGAN, Plus, SpectralLSTM, TransposedNorm
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

import wavenet
from wavenet import CausalConv1d, causal
from wavenet.conversion import CausalNetwork
from wavenet.conversion.onset import DelayedRecurrent, Onset
from wavenet.nn import GRU, BatchNorm, LayerNorm, latency
from wavenet.processing import Processor
from wavenet.testing import check_causal

EXACT = 1e-12


def difference(module: nn.Module, block: CausalNetwork, n: int, *, first: int = 0) -> float:
    """Largest one of the columns that both have, from one on."""
    x = torch.randn(2, block.in_channels, n, dtype=torch.float64)
    with torch.no_grad():
        theirs, ours = module(x), block(x)[..., block.first_column :]
    n = min(theirs.shape[-1], ours.shape[-1])
    assert n > first
    return float((theirs[..., first:n] - ours[..., first:n]).abs().max())


class Applied(nn.Module):
    """A function as a module, behind a convolution."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.function = nn.Conv1d(2, 4, 1), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.conv(x))


# --- axes and inputs -----------------------------------------------------------------------------


class FeedForward(nn.Module):
    """The block of FastSpeech (Ren et al. 2019): ``[B, T, C]``, transposed around convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.out = nn.Conv1d(4, 8, 9, padding=4), nn.Conv1d(8, 4, 1)
        self.norm = nn.LayerNorm(4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.out(F.relu(self.into(x.transpose(1, 2)))).transpose(1, 2)
        return self.norm(x + y)


class Subsampled(nn.Module):
    """Strided and transposed convolutions of ``[B, T, C]``, and a gate over its channels."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv1d(3, 6, 4, stride=2), nn.ConvTranspose1d(6, 3, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.up(F.gelu(self.down(F.pad(x.permute(0, 2, 1), (2, 0))))).permute(0, 2, 1)
        return y * torch.softmax(x, dim=-1)


class TimeFirst(nn.Module):
    """An LSTM between projections, ``[T, B, C]``."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.lstm, self.out = nn.Linear(3, 6), nn.LSTM(6, 7), nn.Linear(7, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.lstm(F.elu(self.into(x)))[0])


@pytest.mark.parametrize(
    ("kind", "axes", "delay"),
    [(FeedForward, "BTC", 4), (Subsampled, "BTC", 2), (TimeFirst, "TBC", 0)],
)
def test_a_module_with_channels_last_is_a_block_with_channels_first(
    kind: type[nn.Module], axes: str, delay: int
) -> None:
    torch.manual_seed(0)
    module = kind().double()
    block = causal(module, delay=True, axes=axes)
    assert block.delay == delay
    x = torch.randn(2, block.in_channels, 40, dtype=torch.float64)
    to, back = ((2, 0, 1), (1, 2, 0)) if axes == "TBC" else ((0, 2, 1), (0, 2, 1))
    with torch.no_grad():
        theirs = module(x.permute(to)).permute(back)
        ours = block(x)[..., block.first_column :]
    first, n = 8, min(theirs.shape[-1], ours.shape[-1])
    assert n > 30
    assert (theirs[..., first:n] - ours[..., first:n]).abs().max() < EXACT
    check_causal(block.double())


def test_other_axes_and_further_inputs_are_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match=r"^axes='TCB' must be one of BCT, BTC, TBC$"):
        causal(FeedForward(), axes="TCB")
    with pytest.raises(ValueError, match=r"^into \(Conv1d, .*pass axes='BTC' if the module itself"):
        causal(FeedForward(), delay=True)
    with pytest.raises(ValueError, match=r"^0 \(Linear\) is linear over time; .*, or pass axes="):
        causal(nn.Sequential(nn.Linear(3, 4), nn.Conv1d(3, 2, 1)))
    with pytest.raises(
        ValueError, match=r"^Conditioned takes 2 inputs, x, cond; a block takes one"
    ):
        causal(Conditioned())


class Conditioned(nn.Module):
    """A convolution and what is added to it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.cond = nn.Conv1d(2, 4, 1), nn.Conv1d(3, 4, 1)

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        return torch.tanh(self.conv(x) + self.cond(cond))


# --- geometry -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", [1, 2, 6])
@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("padding", [0, 5])
def test_a_convolution_of_any_geometry_is_torchs(
    kernel: int, stride: int, dilation: int, padding: int
) -> None:
    torch.manual_seed(0)
    geometry = {"stride": stride, "dilation": dilation, "padding": padding}
    module = nn.Sequential(nn.Conv1d(2, 3, kernel, **geometry), nn.Conv1d(3, 2, 2)).double()  # type: ignore[arg-type]
    block = causal(module, delay=True)
    assert difference(module, block, 60, first=8) < EXACT
    lag = max(0, (kernel - 1) * dilation - padding)
    assert lag <= block.first_column * stride < lag + 3 * stride


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [(1, 1, 0), (3, 1, 0), (3, 1, 1), (2, 2, 1), (5, 2, 1), (6, 3, 0), (6, 3, 2), (2, 3, 0)],
)
def test_a_transposed_convolution_of_any_geometry_is_torchs(
    kernel: int, stride: int, padding: int
) -> None:
    module = nn.ConvTranspose1d(2, 3, kernel, stride, padding).double()
    block = causal(module, delay=True)
    assert difference(module, block, 30) < EXACT
    assert block.first_column == padding


def test_a_trimmed_transposed_convolution_needs_no_delay() -> None:
    module = nn.Sequential(nn.ConvTranspose1d(2, 3, 8, 4), Chomp(4)).double()
    block = causal(module)
    assert (block.delay, block.rate, block.first_column) == (0, 4, 0)
    assert difference(module, block, 30) < EXACT


def weight(*shape: int) -> Tensor:
    """The same numbers at every call."""
    n = torch.Size(shape).numel()
    return torch.linspace(-1, 1.5, n, dtype=torch.float64).view(shape).sin()


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x[..., 2:],
        lambda x: x[:, 1:3, 1:-1] * 2 - 1,
        lambda x: x.narrow(-1, 3, x.shape[-1] - 3),
        lambda x: F.avg_pool1d(x, 3, 2, 1),
        lambda x: F.max_pool1d(x, 4),
        lambda x: F.interpolate(x, scale_factor=3),
        lambda x: x[..., ::3],
        lambda x: x[:, :, 1::2],
        lambda x: x.repeat_interleave(2, dim=2),
        lambda x: F.pad(x, (-1, 2)),
        lambda x: x.transpose(1, 2).mT,
        lambda x: x.mean(1, keepdim=True) * x,
        lambda x: F.softmax(x, dim=1) + x.norm(dim=1, keepdim=True),
        lambda x: torch.where(x > 0, x, 0.2 * x).clamp(-1, 1),
        lambda x: 1 / (2 + x**2) - abs(x) + torch.maximum(x, -x),
        lambda x: F.glu(x, 1).sum(dim=1).unsqueeze(1),
        lambda x: F.normalize(F.relu(x.clone(), True) + x, dim=1),
        lambda x: F.layer_norm(x.transpose(1, 2), (4,)).transpose(1, 2),
        lambda x: x.abs().sqrt().to(x) + x.tanh().type_as(x),
        lambda x: x - (4 * x).to(torch.int32).to(x.dtype),
        lambda x: (x > 0).to(x) + (x > 0.2).double(),
        lambda x: torch.stack([x, x.tanh(), 2 * x], dim=0).mean(dim=0),
        lambda x: torch.stack([x, x.tanh()], 2).transpose(1, 2).sum(2),
        lambda x: torch.stack([x[:, :2], x[:, 2:]], -1).permute(3, 0, 1, 2).flatten(0, 0)[1],
        lambda x: x.view(x.shape[0], 2, 2, -1).transpose(1, 2).reshape(x.shape),
        lambda x: x.unflatten(1, (2, 2)).amax(2),
        lambda x: (x.view(len(x), 2, 2, -1) * x[:, :2].unsqueeze(2)).flatten(1, 2),
        lambda x: (x.view(len(x), 2, 2, -1) + x.mean(1)[:, None, None]).chunk(2, 2)[1].squeeze(2),
        lambda x: x.view(len(x), 2, 2, -1)[:, :, 1] - x.view(len(x), 2, 2, -1).unbind(1)[0],
        lambda x: F.softmax(x.view(len(x), 2, 2, -1), dim=2).reshape(x.shape),
        lambda x: torch.cat([x.view(len(x), 2, 2, -1)] * 2, dim=2).flatten(1, 2),
        lambda x: x.mT.unflatten(-1, (2, 2)).transpose(-1, -2).flatten(2).mT,
        lambda x: torch.tensor_split(x, [1, 3], dim=1)[1] + x.unbind(1)[0][:, None],
        lambda x: x.repeat(1, 2, 1) + x.mean(1, keepdim=True).expand(-1, 8, -1),
        lambda x: x.mean(1, keepdim=True).expand(x.shape[0], 3, x.shape[2]) * x[:, [2, 0, 1]],
        lambda x: x.flip(1) + torch.flip(x, dims=(-2,)) + x.roll(1, 1) + x.cumsum(dim=1),
        lambda x: torch.diff(x, dim=1) + x[:, 1:] * x.argmax(1, keepdim=True),
        lambda x: torch.diff(x),
        lambda x: torch.einsum("oc,bct->bot", weight(3, 4), x),
        lambda x: torch.einsum("bct,hdc->bhdt", x, weight(2, 3, 4)).flatten(1, 2),
        lambda x: weight(3, 4) @ x + torch.matmul(x.mT, weight(4, 3)).mT,
        lambda x: x.index_select(1, torch.tensor([3, 1])),
    ],
)
def test_a_function_of_torch_is_followed(function: Callable[[Tensor], Tensor]) -> None:
    module = Applied(function).double()
    block = causal(module, delay=True)
    assert difference(module, block, 36, first=2) < EXACT


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_linear_interpolation_is_a_transposed_convolution(factor: int) -> None:
    module = Applied(lambda x: F.interpolate(x, scale_factor=factor, mode="linear")).double()
    block = causal(module, delay=True)
    assert block.first_column == factor // 2
    assert difference(module, block, 20, first=factor) < EXACT


def test_activations_in_place_change_what_others_read_as_in_torch() -> None:
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.relu = nn.Conv1d(2, 2, 1), nn.ReLU(inplace=True)

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            z = self.relu(y)
            y += 1
            return y * z

    module = InPlace().double()
    assert difference(module, causal(module), 20) < EXACT
    x = torch.randn(1, 2, 5, dtype=torch.float64)
    kept = x.clone()
    causal(nn.Sequential(nn.ReLU(inplace=True), nn.Conv1d(2, 2, 1)).double())(x)
    assert torch.equal(x, kept)


def _skip_before_a_change(x: Tensor) -> Tensor:
    skip = x[..., 2:]
    return torch.relu_(x)[..., 2:] + skip


def _half_before_a_change(x: Tensor) -> Tensor:
    a, b = x.chunk(2, 1)
    x.mul_(2)
    return a * torch.sigmoid(b)


def _overlapping_parts(x: Tensor) -> Tensor:
    early, late = x[..., :-2], x[..., 2:]
    late.relu_()
    return early + 1


def _returned_after_a_change(x: Tensor) -> Tensor:
    y = x[:, :2]
    x.neg_()
    return y


@pytest.mark.parametrize(
    "function",
    [
        _skip_before_a_change,
        _half_before_a_change,
        _overlapping_parts,
        _returned_after_a_change,
    ],
)
def test_a_view_of_what_is_changed_in_place_is_refused_rather_than_wrong(
    function: Callable[[Tensor], Tensor],
) -> None:
    with pytest.raises(ValueError, match="in place that is a part of another one; copy it"):
        causal(Applied(function))


def test_halves_of_one_split_may_be_changed_in_place() -> None:
    def gated(x: Tensor) -> Tensor:
        a, b = x.chunk(2, 1)
        return a.tanh_() * b.sigmoid_()

    module = Applied(gated).double()
    assert difference(module, causal(module), 20) < EXACT


# --- weights ------------------------------------------------------------------------------------


def test_the_module_itself_stays_as_it_is() -> None:
    module = nn.Sequential(nn.Conv1d(1, 2, 3), nn.BatchNorm1d(2), nn.ReLU(inplace=True))
    module.train()
    before = copy.deepcopy(module.state_dict())
    block = causal(module)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(1)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert module.training
    assert block.training
    assert module[2].inplace
    assert not module[0]._forward_hooks


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
def test_computed_weights_stay_computed_and_are_trained() -> None:
    new = parametrizations.weight_norm(nn.Conv1d(2, 2, 3))
    old = nn.utils.weight_norm(nn.Conv1d(2, 2, 3))
    spectral = nn.utils.parametrizations.spectral_norm(nn.Conv1d(2, 2, 3))
    module = nn.Sequential(new, old, spectral).double().eval()
    block = causal(module)
    assert difference(module, block, 20) < EXACT
    names = {name.rpartition(".")[2] for name, _ in block.named_parameters()}
    assert {"original0", "original1", "weight_g", "weight_v", "original"} <= names
    block(torch.randn(1, 2, 9, dtype=torch.float64)).sum().backward()
    assert all(parameter.grad is not None for parameter in block.parameters())


@pytest.mark.parametrize(
    ("shape", "scaled"),
    [
        ((4, 1), lambda x, gain: gain * x),
        ((4,), lambda x, gain: gain[:, None] * x),
        ((4,), lambda x, gain: torch.where(x > 0, x, gain.view(1, -1, 1) * x)),
        ((1, 4), lambda x, gain: (x.transpose(1, 2) * gain.squeeze(0)).transpose(1, 2)),
    ],
)
def test_a_parameter_of_the_network_is_trained_in_the_block(
    shape: tuple[int, ...], scaled: Callable[[Tensor, Tensor], Tensor]
) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.gain = nn.Conv1d(1, 4, 3), nn.Parameter(torch.randn(shape))

        def forward(self, x: Tensor) -> Tensor:
            return scaled(self.conv(x), self.gain)

    module = Scaled().double()
    block = causal(module)
    assert difference(module, block, 20) < EXACT
    (gain,) = (one for name, one in block.named_parameters() if "conv" not in name)
    block(torch.randn(1, 1, 9, dtype=torch.float64)).sum().backward()
    assert torch.equal(gain, module.gain)
    assert gain.grad is not None
    assert bool(gain.grad.any())


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (F.dropout, nn.Dropout),
        (F.dropout1d, nn.Dropout1d),
        (F.alpha_dropout, nn.AlphaDropout),
        (F.feature_alpha_dropout, nn.FeatureAlphaDropout),
    ],
)
def test_dropout_draws_in_training_what_the_network_draws(
    function: Callable[..., Tensor], kind: type[nn.Module]
) -> None:
    block = causal(Applied(lambda x: function(x, 0.25, training=False)))
    (found,) = (part for part in block.nodes.values() if not isinstance(part, nn.Conv1d))
    assert type(found) is kind
    assert found.p == 0.25


def test_a_layer_that_is_called_twice_keeps_one_weight_and_two_states() -> None:
    conv = nn.Conv1d(2, 2, 3)
    module = nn.Sequential(conv, nn.Tanh(), conv).double()
    block = causal(module)
    assert len(list(block.parameters())) == 2
    assert len([part for part in block.modules() if isinstance(part, CausalConv1d)]) == 2
    assert difference(module, block, 20) < EXACT


def test_a_module_of_columns_is_kept_whole_with_its_parameters() -> None:
    block = causal(NETWORKS["BigVGAN"].build(), delay=True)
    kept = [part for part in block.nodes.values() if type(part).__name__ == "Snake"]
    assert len(kept) == 9
    assert all(isinstance(part.alpha, nn.Parameter) for part in kept)


def test_a_module_of_columns_gets_what_it_is_given_by_name() -> None:
    class Saturation(nn.Module):
        def forward(self, x: Tensor, gain: float = 1.0) -> Tensor:
            return torch.tanh(gain * x)

    class Driven(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.saturation = nn.Conv1d(1, 2, 3), Saturation()

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.saturation(self.conv(x), gain=3.0)
            return y

    module = Driven().double()
    assert difference(module, causal(module), 20) < EXACT


def test_norms_and_recurrent_layers_become_blocks() -> None:
    norm = nn.BatchNorm1d(3)
    module = nn.Sequential(nn.Conv1d(2, 3, 2), norm, TransposedNorm(3))
    kinds = [type(part) for part in causal(module).nodes.values()]
    assert kinds == [CausalConv1d, BatchNorm, LayerNorm]
    gru = causal(NETWORKS["RNNoise"].build())
    assert sum(isinstance(part, GRU) for part in gru.nodes.values()) == 2


def test_a_recurrent_layer_behind_a_delay_begins_with_its_signal() -> None:
    block = causal(SpectralLSTM(), delay=True, in_channels=1)
    late = [part for part in block.nodes.values() if isinstance(part, DelayedRecurrent)]
    assert [part.samples for part in late] == [1]
    hidden = late[0]
    x = torch.randn(1, 12, 4)
    first = hidden.stream(x[..., :1], hidden.init_state(1))[0]
    assert not bool(first.any())
    assert bool(hidden.stream(x, hidden.init_state(1))[0][..., 1:].all())


def test_an_onset_is_silent_for_its_first_columns() -> None:
    y = Onset(2, 3)(torch.ones(1, 2, 5))
    assert y[0].tolist() == [[0, 0, 0, 1, 1]] * 2


# --- what the block declares --------------------------------------------------------------------


def test_branches_are_aligned_and_the_delay_is_declared_in_samples_of_the_input() -> None:
    wide = nn.Conv1d(1, 1, 9, padding=4)
    block = causal(Plus(wide), delay=True)
    assert block.delay == block.first_column == 4
    assert latency(block, sample_rate=1000).milliseconds == 4
    # Half of 12 taps at the output rate, an eighth of a frame each, and more in frames before.
    vocoder = causal(HiFiGAN(), delay=True)
    assert vocoder.rate == 8
    assert vocoder.delay == vocoder.first_column / vocoder.rate


def test_a_receptive_field_is_told_layer_by_layer_where_layers_follow_each_other() -> None:
    module = nn.Sequential(nn.Conv1d(1, 2, 3), nn.ReLU(), nn.Conv1d(2, 2, 3, dilation=4))
    field = wavenet.receptive_field(causal(module))
    assert field.samples == 11
    assert [layer.name for layer in field.layers] == ["0", "2"]
    branched = wavenet.receptive_field(causal(NETWORKS["TCN"].build()))
    assert branched.samples == 1 + 2 * 2 * (1 + 2)


@pytest.mark.parametrize("name", ["WaveNet", "HiFi-GAN", "enhancement U-Net", "RNNoise"])
def test_processing_compiles_a_converted_network(name: str) -> None:
    pytest.importorskip("numba", reason="the extra audio is not installed")
    case = NETWORKS[name]
    torch.manual_seed(0)
    module = case.build().eval()
    for part in module.modules():  # parametrizations are computed once
        if nn.utils.parametrize.is_parametrized(part):
            nn.utils.parametrize.remove_parametrizations(part, "weight")
    block = causal(module, delay=case.delay)
    processor = Processor(block, block.init_state(1))
    assert processor.compiled
    x = torch.randn(1, block.in_channels, 12 * block.step)
    with torch.no_grad():
        whole = block(x)
    pieces = [processor(piece) for piece in x.split(3 * block.step, dim=-1)]
    assert float((torch.cat(pieces, dim=-1) - whole).abs().max()) < 1e-4


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.stack([x, 3 * x.tanh()]).mean(0),
        lambda x: x.view(len(x), 2, 2, -1).transpose(1, 2).reshape(x.shape).flip(1),
        lambda x: torch.einsum("oc,bct->bot", weight(3, 4).float(), x),
        lambda x: (x - weight(4, 1).float()) / (2 + weight(4, 1).float()),
        lambda x: (x.mT @ weight(4, 3).float()).mT[:, [2, 0]] + x.mean(1, keepdim=True),
        lambda x: x[:, :1] - x * x[:, 1:2],
        lambda x: F.glu(x, 1) + F.glu(x, dim=-2),
    ],
)
def test_processing_compiles_sums_of_channels(function: Callable[[Tensor], Tensor]) -> None:
    pytest.importorskip("numba", reason="the extra audio is not installed")
    block = causal(Applied(function)).eval()
    processor = Processor(block, block.init_state(1))
    assert processor.compiled
    x = torch.randn(1, 2, 24)
    pieces = torch.cat([processor(piece) for piece in x.split(8, dim=-1)], dim=-1)
    with torch.no_grad():
        assert float((pieces - block(x)).abs().max()) < 1e-5


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda x: torch.maximum(x, x.flip(1)), "the function maximum"),
        (lambda x: 1 / (x + weight(4, 1).float()), "the function __rdiv__"),
        (lambda x: x.softmax(1), "the function softmax"),
        (lambda x: x.view(len(x), 2, 2, -1).amax(2), "the function amax"),
    ],
)
def test_other_functions_are_named_and_run(function: Callable[[Tensor], Tensor], name: str) -> None:
    pytest.importorskip("numba", reason="the extra audio is not installed")
    block = causal(Applied(function)).eval()
    with pytest.warns(UserWarning, match=f"process: {name} is not compiled"):
        processor = Processor(block, block.init_state(1))
    x = torch.randn(1, 2, 24)
    with torch.no_grad():
        assert torch.allclose(processor(x), block(x), atol=1e-5)


def test_processing_compiles_an_onset() -> None:
    pytest.importorskip("numba", reason="the extra audio is not installed")
    block = wavenet.Chain(Onset(2, 3), CausalConv1d(2, 2, 2))
    processor = Processor(block, block.init_state(1))
    assert processor.compiled
    x = torch.randn(1, 2, 9)
    pieces = torch.cat([processor(piece) for piece in x.split(2, dim=-1)], dim=-1)
    with torch.no_grad():
        assert float((pieces - block(x)).abs().max()) < 1e-5


def test_what_processing_does_not_compile_is_named_and_runs() -> None:
    block = causal(nn.Sequential(nn.Conv1d(1, 2, 3), nn.MaxPool1d(3, 1, 1)), delay=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="CausalMaxPool1d is not compiled"):
            Processor(block, block.init_state(1))


def test_a_module_that_returns_its_input_is_a_delay_of_nothing() -> None:
    block = causal(nn.Identity(), in_channels=3)
    check_causal(block)
    assert block.past == 0


def _changed_channel(x: Tensor) -> Tensor:
    x.unflatten(1, (2, 2)).unbind(1)[0].mul_(2)
    return x + 1


def _changed_view(x: Tensor) -> Tensor:
    x[:, :2].mul_(2)
    return x + 1


# --- refusals -----------------------------------------------------------------------------------


class Block(nn.Module):
    """A network with a layer at ``encoder.3``."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv1d(1, 2, 1), nn.Tanh(), nn.Identity(), layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder(x)


def test_a_look_ahead_is_refused_with_the_layer_its_geometry_and_the_remedy() -> None:
    with pytest.raises(ValueError, match="looks") as caught:
        causal(Block(nn.Conv1d(2, 2, 7, padding=3)))
    assert str(caught.value) == (
        "encoder.3 (Conv1d, kernel 7, padding 3) looks 3 samples ahead; pass delay=True to turn "
        "that into a delay of 3 samples"
    )


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.GroupNorm(1, 2), r"encoder\.3 \(GroupNorm\) normalizes over time"),
        (nn.InstanceNorm1d(2), r"encoder\.3 \(InstanceNorm1d\) normalizes over time"),
        (nn.BatchNorm1d(2, track_running_stats=False), "normalizes by the mean over a batch"),
        (nn.LayerNorm(8), "normalizes over time; transpose its input"),
        (nn.AdaptiveAvgPool1d(1), "pools over time"),
        (nn.Linear(8, 8), "is linear over time"),
        (nn.Softmax(-1), "computes softmax over time"),
        (nn.CircularPad1d(1), "samples of the other end"),
        (nn.ConstantPad1d(1, 2.0), "pads with 2.0; a stream begins with zeros"),
        (nn.MaxPool1d(2, ceil_mode=True), "has ceil_mode"),
        (nn.Conv2d(2, 2, 3), r"encoder\.3 \(Conv2d\) calls conv2d"),
        (nn.ConvTranspose1d(2, 2, 3, dilation=2), "transposed convolution with a dilation"),
        (nn.Upsample(scale_factor=1.5), "no whole number"),
        (nn.Upsample(scale_factor=2, mode="linear", align_corners=True), "over the whole length"),
        (nn.LSTM(2, 2), r"encoder\.3 \(LSTM\) takes its input as \[T, B, C\]"),
        (nn.Flatten(), "calls flatten"),
    ],
)
def test_a_layer_without_a_counterpart_is_named(layer: nn.Module, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        causal(Block(layer), delay=True)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("encoder.3 ")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: x.cumsum(-1), "calls cumsum"),
        (_changed_view, "part of another one"),
        (lambda x: F.dropout(x, 0.5), "draws at random in evaluation mode"),
        (lambda x: F.dropout1d(x, 0.5), "evaluation mode, too; use nn.Dropout1d"),
        (lambda x: F.dropout1d(x.mT, 0.5, False), "drops whole channels, but its input is not"),
        (lambda x: x.flip(-1), "calls flip along time"),
        (lambda x: x.roll(1, -1), "calls roll along time"),
        (lambda x: x.flip(1, 2), "calls flip along time"),
        (lambda x: x.roll(1), "calls roll along time"),
        (lambda x: x.repeat(1, 1, 2), "calls repeat along time"),
        (lambda x: x @ x.mT, "calls matmul other than of its channels with a matrix"),
        (lambda x: x @ torch.ones(7, 7), "calls matmul other than of its channels"),
        (lambda x: torch.einsum("bct,bdt->bcd", x, x), "calls einsum other than of one signal"),
        (lambda x: torch.einsum("bct,ts->bcs", x, torch.ones(3, 3)), "einsum over time"),
        (lambda x: torch.einsum("bct->bc", x), "calls einsum over time"),
        (lambda x: torch.stack([x, x], 1), "returns 4 axes; a block returns"),
        (lambda x: x.transpose(1, 2).reshape(-1, 4), "mixes time with other axes"),
        (lambda x: x[:, [0, 1], None][:, 0, [1]], "is indexed by several tensors or lists"),
        (_changed_channel, "part of another one"),
        (lambda x: x - x.mean(-1, keepdim=True), "computes mean over time"),
        (lambda x: x[..., -1], "takes the sample of one time"),
        (lambda x: x[..., -8:], "takes a number of samples at one end"),
        (lambda x: x[:1], "takes some rows of the batch"),
        (lambda x: x + torch.arange(x.shape[-1]), "calls arange for as many samples"),
        (lambda x: torch.cat([x, x], -1), "along time"),
        (lambda x: x.view(x.shape[0], -1), "mixes time with other axes"),
        (lambda x: (x, x), "returns a tuple"),
        (lambda x: x.chunk(2, -1)[0], "along time"),
    ],
)
def test_a_function_without_a_counterpart_is_named(
    function: Callable[[Tensor], Tensor], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        causal(Applied(function))
    assert "\n" not in str(caught.value)


def test_hooks_blocks_and_other_objects_are_refused() -> None:
    hooked = nn.Sequential(nn.Conv1d(1, 1, 3))
    hooked[0].register_forward_hook(lambda module, args, output: 2 * output)
    with pytest.raises(ValueError, match=r"0 \(Conv1d, kernel 3\) has forward hooks"):
        causal(hooked)
    with pytest.raises(ValueError, match="CausalConv1d is a causal block already"):
        causal(CausalConv1d(1, 1, 3))
    with pytest.raises(TypeError, match="module is a int; pass an nn.Module"):
        causal(3)  # type: ignore[arg-type]
    message = r"cannot be run on \[B, 3, T\]: .*; pass in_channels if .* other than 3$"
    with pytest.raises(ValueError, match=message):
        causal(nn.Conv1d(2, 2, 1), in_channels=3)
    with pytest.raises(ValueError, match="in_channels"):
        causal(nn.Conv1d(2, 2, 1), in_channels=-3)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x / x.shape[-1] ** 0.5,
        lambda x: torch.relu(x) if x.shape[-1] > 10_000 else x,
    ],
)
def test_what_python_computes_of_the_length_is_refused(
    function: Callable[[Tensor], Tensor],
) -> None:
    with pytest.raises(ValueError, match="other numbers than the module: .* depends on the length"):
        causal(Applied(function))


def test_another_number_of_columns_for_a_short_signal_is_refused() -> None:
    with pytest.raises(ValueError, match="the module returns 10 columns for 65 samples, where it"):
        causal(Applied(lambda x: x if x.shape[-1] > 10_000 else x[..., :10]))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x[..., : x.shape[-1] // 2],
        lambda x: x[..., x.shape[-1] // 2 :],
        lambda x: x[..., : -(x.shape[-1] // 4)],
        lambda x: x[..., -100:],
    ],
)
def test_a_share_of_the_signal_or_one_end_is_refused(function: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(ValueError, match="takes a number of samples at one end, not the whole"):
        causal(Applied(function))


def test_a_network_for_long_signals_alone_is_converted_without_a_comparison() -> None:
    def long(x: Tensor) -> Tensor:
        if x.shape[-1] < 2000:
            raise RuntimeError("too short")
        return torch.tanh(x)

    module = Applied(long).double()
    assert difference(module, causal(module), 2000) < EXACT


def test_the_comparison_leaves_the_module_as_it_is() -> None:
    module = nn.Sequential(nn.ReLU(inplace=True), nn.Conv1d(4, 4, 3), nn.BatchNorm1d(4)).train()
    before = copy.deepcopy(module.state_dict())
    block = causal(module)
    assert module.training
    assert block.training
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())


@pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated:DeprecationWarning")
def test_torchscript_is_refused_by_name() -> None:
    scripted = torch.jit.script(nn.Sequential(nn.Conv1d(1, 2, 3), nn.ReLU()))
    traced = torch.jit.trace(nn.Conv1d(1, 2, 3), torch.zeros(1, 1, 8))
    with pytest.raises(ValueError, match=r"^module is a .* of TorchScript, whose code cannot be"):
        causal(scripted)
    with pytest.raises(ValueError, match=r"^1 is a .*; give the nn.Module that it was made of$"):
        causal(nn.Sequential(nn.Conv1d(1, 1, 1), traced))


def test_a_compiled_network_is_converted_as_the_one_inside() -> None:
    inner = nn.Sequential(nn.Conv1d(2, 2, 3), nn.Tanh()).double()
    outer = nn.Sequential(nn.Conv1d(2, 2, 1).double(), torch.compile(inner, backend="eager"))
    assert difference(inner, causal(torch.compile(inner, backend="eager")), 20) < EXACT
    assert difference(outer, causal(outer), 20) < EXACT


class InColumns(nn.Module):
    """A layer on ``[B, T, C]``, behind a convolution."""

    def __init__(self, leaf: nn.Module) -> None:
        super().__init__()
        self.conv, self.leaf = nn.Conv1d(2, 4, 1), leaf

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.leaf(self.conv(x).transpose(1, 2))
        return y.transpose(1, 2)


@pytest.mark.parametrize("leaf", [nn.GLU(dim=-1), nn.Softmax(-1), nn.LogSoftmax(-1)])
def test_a_layer_over_the_last_axis_of_transposed_columns_stays_over_channels(
    leaf: nn.Module,
) -> None:
    module = InColumns(leaf).double()
    block = causal(module)
    assert difference(module, block, 40) < EXACT
    check_causal(block)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.sub(1.5, x),
        lambda x: torch.div(1.5, x.abs() + 1),
        lambda x: 1.5 - x,
        lambda x: 1.5 / (x.abs() + 1),
        lambda x: torch.sub(x, 1.5),
        lambda x: torch.div(x, 1.5),
    ],
)
def test_a_number_keeps_its_side(function: Callable[[Tensor], Tensor]) -> None:
    module = Applied(function).double()
    assert difference(module, causal(module), 40) < EXACT


def test_a_lazy_layer_is_refused_with_the_remedy() -> None:
    network = nn.Sequential(nn.Conv1d(1, 2, 3), nn.LazyConv1d(3, 1))
    message = "^1 is a LazyConv1d that has no weights yet; run the network once"
    with pytest.raises(ValueError, match=message):
        causal(network)
    with pytest.raises(ValueError, match=message):
        wavenet.receptive_field(network, input_shape=(1, 1, 40))
    network(torch.zeros(1, 1, 40))
    assert causal(network).past == 2
