"""Any module: published fields, causality, what has no end, what cannot be traced, wrong input."""

import math
import runpy
import time
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import wavenet
from wavenet.receptive_fields import VerificationError, receptive_field

networks = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("networks.py"))))


class Filter(nn.Module):
    """A recursive filter as a loop over time."""

    def forward(self, x: Tensor) -> Tensor:
        y = [x[..., :1]]
        for t in range(1, x.shape[-1]):
            y.append(0.9 * y[-1] + x[..., t : t + 1])
        return torch.cat(y, -1)


class Of(nn.Module):
    """A module from a function."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function
        self.conv = nn.Conv1d(1, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


# Araujo, Norris and Sim (2019), table of receptive fields: AlexNet 195, VGG-16 212, and ResNets of
# 50, 101 and 152 layers 483, 1027 and 1507 with the strides in the last block of each stage.
@pytest.mark.parametrize(
    ("network", "published"),
    [
        (networks.alexnet(), 195),
        (networks.vgg16(), 212),
        (networks.resnet((3, 4, 6, 3), at_the_end=True), 483),
        (networks.resnet((3, 4, 23, 3), at_the_end=True), 1027),
        (networks.resnet((3, 8, 36, 3), at_the_end=True), 1507),
        (networks.resnet((3, 4, 6, 3)), 427),  # as torchvision places the strides
    ],
)
def test_published_fields_of_vision_networks(network: nn.Module, published: int) -> None:
    field = receptive_field(network, input_shape=(1, 3, 224, 224))
    assert field.samples == (published, published)
    assert field.stride == (32, 32)
    assert field.method == "trace"


def test_vgg16_measured_by_gradient_is_212_as_well() -> None:
    field = receptive_field(networks.alexnet(), input_shape=(1, 3, 64, 64), verify=True)
    assert field.samples == (195, 195)


def test_averages_with_a_field_far_longer_than_the_first_input_are_measured() -> None:
    """Each counts for its width: else the input looks long enough before it is."""
    network = nn.Sequential(*(nn.AvgPool1d(101, 1, padding=50) for _ in range(3)))
    assert receptive_field(network, input_shape=(1, 1, 120), verify=True).samples == 301


def test_wav2vec2_feature_encoder_has_a_field_of_400_samples_and_stride_320() -> None:
    encoder = networks.Encoder()
    field = receptive_field(encoder, 16000, input_shape=(1, 16000), verify=True)
    assert (field.samples, field.stride, field.milliseconds) == (400, 320, 25.0)


def test_law_trace_and_gradient_agree_on_a_wavenet() -> None:
    model = wavenet.WaveNet(wavenet.WaveNetConfig.preset("tiny", layers_per_stack=5))
    fields = [receptive_field(model, method=m) for m in ("auto", "trace", "gradient")]
    assert [field.method for field in fields] == ["law", "trace", "gradient"]
    assert {field.samples for field in fields} == {model.past + 1}
    assert all(field.is_causal for field in fields)
    assert receptive_field(model, verify=True).samples == model.past + 1


def test_causal_chain_that_changes_the_rate_is_verified() -> None:
    chain = wavenet.Chain(
        wavenet.CausalConv1d(1, 2, 4, stride=2),
        wavenet.CausalConv1d(2, 2, 3, dilation=2),
        wavenet.CausalConvTranspose1d(2, 1, 4, stride=2),
    )
    law, measured = receptive_field(chain, verify=True), receptive_field(chain, method="gradient")
    assert law.samples == chain.past + 1 == 15
    assert law.look_back == measured.look_back == receptive_field(chain, method="trace").look_back


def test_a_block_that_declares_less_than_its_field_is_named() -> None:
    chain = wavenet.Chain(wavenet.CausalConv1d(1, 1, 2), networks.Lying())
    with pytest.raises(VerificationError, match=r"^layer 1 \(Lying\): it declares a field of 4"):
        receptive_field(chain, verify=True)


def test_a_wrong_formula_is_caught_at_its_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    from wavenet.receptive_fields import rules
    from wavenet.receptive_fields.windows import Window

    def wrong(call):
        axis = call.x.ndim - 1
        call.layer.append((2, 1))
        return rules.through_windows(call, call.field, {axis: Window.convolution(3, 2, 0, 1)})

    monkeypatch.setitem(rules.RULES, "avg_pool1d", wrong)
    network = nn.Sequential(nn.Conv1d(1, 1, 3), nn.AvgPool1d(2), nn.Conv1d(1, 1, 3))
    with pytest.raises(
        VerificationError, match=r"^layer 1 \(AvgPool1d\): output \d+ depends on inputs"
    ):
        receptive_field(network, input_shape=(1, 1, 50), verify=True)


def test_a_network_is_causal_if_its_look_ahead_is_zero() -> None:
    both = receptive_field(networks.small(), 1000, input_shape=(1, 1, 50))
    assert (both.samples, both.look_back, both.look_ahead, both.padding) == (7, 3, 3, 3)
    assert not both.is_causal
    assert both.look_ahead_milliseconds == 3.0
    front = Of(lambda self, x: self.conv(F.pad(x, (1, 0)))[..., :-1])
    causal = receptive_field(front, input_shape=(1, 1, 50), verify=True)
    assert (causal.samples, causal.look_back, causal.look_ahead) == (3, 2, 0)
    assert causal.is_causal


# Each looks along time in a way of its own; (samples, look-back, look-ahead, stride).
FORMS = {
    "slice": (lambda self, x: x[..., 3:-2:2], (1, 0, 3, 2)),
    "narrow": (lambda self, x: x.narrow(-1, 2, 20), (1, 0, 2, 1)),
    "flipped twice": (lambda self, x: F.pad(x.flip(-1), (2, 0)).flip(-1), (1, 0, 0, 1)),
    "differences": (lambda self, x: x[..., 1:] - x[..., :-1], (2, 0, 1, 1)),
    "roll": (lambda self, x: x + x.roll(4, -1), (5, 4, 0, 1)),
    "transposed layout": (lambda self, x: self.conv(x).transpose(1, 2).relu().mT, (3, 1, 1, 1)),
    "frames of 4": (lambda self, x: x.view(1, 1, -1, 4).mean(-1), (4, 0, 3, 4)),
    "frames to samples": (
        lambda self, x: x.unsqueeze(-1).expand(-1, -1, -1, 3).flatten(-2),
        (1, 0, 0, Fraction(1, 3)),
    ),
    "unfold": (lambda self, x: x.unfold(-1, 5, 2).sum(-1), (5, 0, 4, 2)),
    "repeat": (lambda self, x: x.repeat_interleave(2, -1), (1, 0, 0, Fraction(1, 2))),
    "interpolate linear": (
        lambda self, x: F.interpolate(x, scale_factor=2, mode="linear"),
        (2, 1, 1, Fraction(1, 2)),
    ),
    "interpolate to a size": (
        lambda self, x: F.interpolate(F.avg_pool1d(x, 2), size=x.shape[-1]) + x,
        (2, 1, 1, 1),
    ),
    "gate": (lambda self, x: torch.tanh(self.conv(x)) * torch.sigmoid(x), (3, 1, 1, 1)),
    "dead relu": (lambda self, x: F.relu(self.conv(x) - 1e9), (3, 1, 1, 1)),
    "residual minus": (lambda self, x: x - self.conv(x), (3, 1, 1, 1)),
    "cat of zeros": (lambda self, x: torch.cat([x.new_zeros(1, 1, 5), x], -1), (1, 5, 0, 1)),
    "channels side by side": (
        lambda self, x: torch.cat([x, self.conv(self.conv(x))], 1).sum(1, keepdim=True),
        (5, 2, 2, 1),
    ),
    "einsum": (
        lambda self, x: torch.einsum("bct,dc->bdt", self.conv(x), torch.ones(3, 1)),
        (3, 1, 1, 1),
    ),
    "in place": (lambda self, x: self.conv(x).relu_().add_(x), (3, 1, 1, 1)),
    "split and summed": (lambda self, x: sum(x.repeat(1, 4, 1).chunk(2, 1)), (1, 0, 0, 1)),
    "folded and back": (
        lambda self, x: self.conv(x).repeat(1, 2, 1).flatten(1).tanh().view(1, 2, -1),
        (3, 1, 1, 1),
    ),
    "spectrum": (
        lambda self, x: torch.stft(
            x[:, 0], 16, 8, window=torch.hann_window(16), return_complex=True
        ).abs(),
        (16, 8, 7, 8),
    ),
    "if on a shape": (lambda self, x: self.conv(x) if x.shape[-1] % 2 == 0 else x, (3, 1, 1, 1)),
}


@pytest.mark.parametrize("name", FORMS)
def test_functions_along_time(name: str) -> None:
    function, expected = FORMS[name]
    verify = name != "spectrum"  # a complex spectrum has no positive linear counterpart
    field = receptive_field(Of(function), input_shape=(1, 1, 48), method="trace", verify=verify)
    assert (field.samples, field.look_back, field.look_ahead, field.stride) == expected


# Every time depends on every other: the reason is given with the module's path.
ENDLESS = {
    "attention": (networks.Attention(), "attention (MultiheadAttention): attends"),
    "gru": (networks.Recurrent(), "gru (GRU): is recurrent"),
    "pooling": (
        nn.Sequential(nn.Conv1d(1, 1, 3), nn.AdaptiveAvgPool1d(1)),
        "1 (AdaptiveAvgPool1d)",
    ),
    "instance norm": (nn.Sequential(nn.InstanceNorm1d(1)), "0 (InstanceNorm1d): normalises"),
    "group norm": (nn.Sequential(nn.GroupNorm(1, 1)), "0 (GroupNorm): normalises over time"),
    "layer norm": (nn.Sequential(nn.LayerNorm(64)), "0 (LayerNorm): normalises over time"),
    "softmax": (nn.Sequential(nn.Softmax(-1)), "0 (Softmax): softmax runs over"),
    "linear": (nn.Sequential(nn.Linear(64, 64)), "0 (Linear): is fully connected"),
    "flatten": (nn.Sequential(nn.Conv1d(1, 2, 3), nn.Flatten(), nn.Linear(124, 2)), "2 (Linear)"),
    "mean": (Of(lambda self, x: x - x.mean(-1, keepdim=True)), "Of: mean: takes the mean"),
    "cumsum": (Of(lambda self, x: x.cumsum(-1)), "cumsum runs over all"),
    "product of times": (Of(lambda self, x: x.mT @ x), "multiplies every time with every other"),
    "first sample": (Of(lambda self, x: x - x[..., :1]), "one position is broadcast"),
    "reversed": (Of(lambda self, x: x + x.flip(-1)), "joined with one that runs backwards"),
    "filter": (Filter(), "depends on the start of an input of shape"),
    "statistics": (nn.Sequential(nn.BatchNorm1d(1, track_running_stats=False)), "0 (BatchNorm1d)"),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_the_reason_for_an_unbounded_field_is_named(name: str) -> None:
    network, where = ENDLESS[name]
    field = receptive_field(network, input_shape=(1, 1, 64))
    assert field.samples == math.inf
    assert where in field.unbounded[0]
    assert "receptive field: unbounded" in str(field)
    assert field.to_dict()["samples"] is None


def test_normalising_over_channels_alone_is_no_look_along_time() -> None:
    network = Of(lambda self, x: F.layer_norm(self.conv(x).mT, (1,)).mT)
    assert receptive_field(network, input_shape=(1, 1, 40), verify=True).samples == 3


def test_a_spectrogram_that_is_averaged_over_frequency_keeps_its_time() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, (3, 5), padding=(1, 2)), nn.AdaptiveAvgPool2d((1, 40)))
    field = receptive_field(network, input_shape=(1, 1, 16, 40))
    assert field.samples == (math.inf, 5)


def test_code_that_branches_on_values_is_measured_with_a_note() -> None:
    field = receptive_field(networks.DecidesByValue(), input_shape=(1, 1, 64))
    assert (field.samples, field.look_back, field.look_ahead) == (401, 200, 200)
    assert field.method == "gradient"
    assert "could not be traced" in field.notes[0]
    with pytest.raises(ValueError, match="^cannot trace DecidesByValue: it does not run on shapes"):
        receptive_field(networks.DecidesByValue(), input_shape=(1, 1, 64), method="trace")


def unseen(x: Tensor) -> Tensor:
    """Compute as an extension would, which no function mode intercepts."""
    with torch._C.DisableTorchFunction():
        return torch.roll(x, -1, -1)


def test_code_behind_the_back_of_torch_functions_is_noticed() -> None:
    network = Of(lambda self, x: self.conv(x) + unseen(self.conv(x)))
    with pytest.raises(ValueError, match="code that torch functions do not show"):
        receptive_field(network, input_shape=(1, 1, 40), method="trace")
    assert receptive_field(network, input_shape=(1, 1, 40)).samples == 4


def test_slicing_channels_of_different_reach_is_measured_not_guessed() -> None:
    network = Of(lambda self, x: torch.cat([x, self.conv(x)], 1)[:, :1])
    field = receptive_field(network, input_shape=(1, 1, 40))
    assert (field.samples, field.method) == (1, "gradient")


def test_every_output_has_a_field_of_its_own() -> None:
    field = receptive_field(networks.TwoOutputs(), input_shape=(1, 1, 40), verify=True)
    assert [(output.name, output.samples) for output in field.outputs] == [("near", 3), ("far", 9)]
    assert field.samples == 9


def test_layers_are_named_with_their_path_and_their_own_field() -> None:
    field = receptive_field(networks.small(), 1000, input_shape=(1, 1, 40))
    assert [(layer.name, layer.samples, layer.milliseconds) for layer in field.layers] == [
        ("0", 3, 3.0),
        ("2", 7, 7.0),
    ]


def test_the_last_step_of_a_convolutional_classifier_has_a_finite_field() -> None:
    network = Of(lambda self, x: self.conv(self.conv(x))[..., -1])
    field = receptive_field(network, input_shape=(1, 1, 40))
    assert (field.samples, field.look_back, field.look_ahead) == (5, 2, 2)


def test_an_output_that_runs_backwards_has_a_size_and_no_look_back() -> None:
    field = receptive_field(Of(lambda self, x: self.conv(x).flip(-1)), input_shape=(1, 1, 40))
    assert (field.samples, field.look_back, field.look_ahead) == (3, None, None)
    assert "runs backwards" in field.notes[0]


def test_the_users_module_stays_as_it_was() -> None:
    network = nn.Sequential(nn.Conv1d(1, 2, 3), nn.BatchNorm1d(2), nn.Dropout()).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    receptive_field(network, input_shape=(1, 1, 40), verify=True)
    assert network.training
    assert all(p.requires_grad and p.grad is None for p in network.parameters())
    assert not network[0]._forward_hooks
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_200_layers_are_analysed_far_below_2_seconds() -> None:
    layers = [
        layer
        for _ in range(200)
        for layer in (nn.Conv1d(4, 4, 3, padding=1), nn.BatchNorm1d(4), nn.ReLU())
    ]
    network = nn.Sequential(*layers)
    began = time.process_time()
    field = receptive_field(network, input_shape=(1, 4, 16000))
    assert field.samples == 401
    assert len(field.layers) == 200
    assert time.process_time() - began < 10  # generous: a loaded machine is no failure


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: receptive_field(nn.Conv1d(2, 1, 3), input_shape=(1, 1, 40)),
            r"^Conv1d does not accept input_shape=\(1, 1, 40\): .*2 channels, but got 1",
        ),
        (lambda: receptive_field(nn.Conv1d(1, 1, 3)), "^input_shape is missing; say what Conv1d"),
        (
            lambda: receptive_field(nn.Conv1d(1, 1, 3, dilation=0), input_shape=(1, 1, 40)),
            "does not accept .*dilation should be greater than zero",
        ),
        (
            lambda: receptive_field(nn.Conv1d(1, 1, 9), input_shape=(1, 1, 4)),
            r"does not accept input_shape=\(1, 1, 4\): .*[Kk]ernel size",
        ),
        (
            lambda: receptive_field(nn.Conv1d(1, 1, 3), input_shape=(1, 1, 0)),
            "input_shape=0 must be an integer of at least 1",
        ),
        (
            lambda: receptive_field([1, 2], method="guess"),
            "method='guess' is unknown; choose one of",
        ),
        (lambda: receptive_field([1, 0]), "dilation=0 must be an integer of at least 1"),
        (lambda: receptive_field([]), "dilations is empty"),
    ],
)
def test_wrong_input_ends_in_one_clear_line(call, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_other_things_are_refused() -> None:
    with pytest.raises(TypeError, match="a module, such as a causal block .* not str"):
        receptive_field("model")


@pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated:DeprecationWarning")
@pytest.mark.parametrize("method", ["auto", "trace", "gradient"])
def test_torchscript_is_refused_by_name(method: str) -> None:
    scripted = torch.jit.script(nn.Sequential(nn.Conv1d(1, 2, 3), nn.ReLU()))
    for network in (scripted, nn.Sequential(nn.Conv1d(1, 1, 3), scripted)):
        with pytest.raises(ValueError, match="of TorchScript, whose code cannot be followed"):
            receptive_field(network, input_shape=(1, 1, 32), method=method)


def test_a_compiled_block_has_the_field_of_the_block_inside() -> None:
    block = wavenet.Chain(wavenet.CausalConv1d(1, 2, 3), nn.Tanh())
    assert receptive_field(torch.compile(block, backend="eager")).samples == 3


def test_an_input_shape_of_one_number_is_refused() -> None:
    with pytest.raises(TypeError, match=r"input_shape=100 is no shape; give one such as"):
        receptive_field(nn.Conv1d(1, 1, 3), input_shape=100)  # type: ignore[arg-type]
