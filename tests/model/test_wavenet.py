"""The model predicts the next sample from the past and every conditioning, and from no more."""

from __future__ import annotations

import copy
import math
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavenet import FeatureConfig, MelConfig, WaveNet, WaveNetConfig, log_mel
from wavenet.distributions import STEP
from wavenet.nn import flatten_state

EXACT = 1e-10
HOP = 4
FEATURES = FeatureConfig(channels=3, hop_samples=HOP)
SMALL: dict[str, Any] = {
    "layers_per_stack": 3,
    "stacks": 2,
    "residual_channels": 6,
    "skip_channels": 24,
}
UPSAMPLED = {"channels": 3, "hop_samples": 8, "upsampling": {"scales": [2, 4]}}
SMALL_MEL = MelConfig(n_fft=64, win_samples=32, hop_samples=8, n_mels=5)
CONFIGS: dict[str, WaveNetConfig] = {
    "unconditional": WaveNetConfig(**SMALL),
    "speakers": WaveNetConfig(**SMALL, speakers=3, distribution="gaussian"),
    "features": WaveNetConfig(**SMALL, features=FEATURES, distribution="logistic_mixture"),
    "features and speakers": WaveNetConfig(
        **SMALL, features=FEATURES, speakers=3, cond_channels=5, distribution="gaussian_mixture"
    ),
    "mel": WaveNetConfig(**SMALL, mel=SMALL_MEL, distribution_size=32, kernel_size=3),
    "prediction": WaveNetConfig(
        **SMALL, mel=SMALL_MEL, distribution="gaussian_mixture", linear_prediction=4
    ),
    "prediction with pitch": WaveNetConfig(
        **SMALL,
        mel=SMALL_MEL,
        distribution="logistic_mixture",
        linear_prediction=4,
        pitch_taps=3,
        speakers=3,
    ),
}
each_config = pytest.mark.parametrize("name", CONFIGS)
conditional = pytest.mark.parametrize("name", [name for name in CONFIGS if name[0] != "u"])


def build(name: str) -> WaveNet:
    """In float64, with weights that are all alike in size: none starts near zero."""
    model = WaveNet(CONFIGS[name]).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 4
            parameter.normal_(std=1 / math.sqrt(fan_in))
    return model


def inputs(model: WaveNet, batch: int = 2, n: int = 24) -> dict[str, Tensor]:
    """The arguments of the model, by name."""
    given = {"x": torch.rand(batch, 1, n, dtype=torch.float64) * 1.8 - 0.9}
    local = model.config.local
    if local is not None:
        n_frames = -(-n // local.hop_samples)
        given["mel"] = torch.randn(batch, local.channels, n_frames, dtype=torch.float64)
    if model.config.speakers:
        given["speaker"] = torch.arange(batch) % model.config.speakers
    return given


def largest_difference(a: Tensor, b: Tensor) -> float:
    assert a.shape == b.shape
    return float((a - b).detach().abs().max())


# --- what predicts what -------------------------------------------------------------------------


@each_config
def test_params_at_t_predict_sample_t_plus_1(name: str) -> None:
    model = build(name)
    given = inputs(model)
    params = model(**given)
    assert params.shape == (2, model.distribution.n_params, 24)
    for t in (0, 1, 11, 22):
        changed = given["x"].clone()
        changed[..., t + 1 :] = torch.rand_like(changed[..., t + 1 :])
        other = model(**(given | {"x": changed}))
        assert torch.equal(other[..., : t + 1], params[..., : t + 1])
        assert not torch.equal(other[..., t + 1], params[..., t + 1])


@each_config
def test_params_at_t_hear_sample_t_and_past_samples_before_it(name: str) -> None:
    model = build(name)
    n = model.past + 4
    given = inputs(model, n=n)
    given["x"].requires_grad_()
    (gradient,) = torch.autograd.grad(model(**given)[..., -1].square().sum(), given["x"])
    reached = gradient.abs().sum((0, 1)).nonzero().flatten().tolist()
    # With pitch taps it depends on the lag; `past` is the longest.
    earliest = n - 1 - model.past
    assert reached[0] > earliest if model.config.pitch_taps else reached[0] == earliest
    assert reached[-1] == n - 1


@each_config
def test_the_parallel_pass_is_streaming_from_the_warm_state(name: str) -> None:
    model = build(name)
    given = inputs(model)
    params = model(**given)
    x = given.pop("x")
    cond = model.condition(**given, n_samples=24) if "mel" in given else model.condition(**given)
    first = None if cond is None else cond[..., :1]
    for length in (1, 5, 24):
        state, pieces = model.warm_state(2, first), []
        for start in range(0, 24, length):
            part = slice(start, start + length)
            columns = cond if cond is None or cond.shape[-1] == 1 else cond[..., part]
            y, state = model.stream(x[..., part], state, columns)
            pieces.append(y)
        assert largest_difference(torch.cat(pieces, -1), params) < EXACT


@each_config
@pytest.mark.parametrize("hooked", [False, True])
def test_what_follows_silence_in_one_pass_has_the_bits_of_streaming_it(
    name: str, hooked: bool
) -> None:
    model = build(name)
    if hooked:
        model.stack.register_forward_hook(
            lambda module, inputs, answer: ((answer[0][0], 2 * answer[0][1]), answer[1])
        )
    given = {name: value[:1] for name, value in inputs(model).items() if name != "x"}
    cond = model.condition(**given)
    first = None if cond is None else cond[..., :1]
    params, state = model.after_silence(first)
    expected, after = model.stream(torch.zeros(1, 1, 1).double(), model.warm_state(1, first), first)
    assert torch.equal(params, expected)
    pairs = zip(flatten_state(state), flatten_state(after), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


@each_config
def test_silence_before_the_first_sample_changes_nothing(name: str) -> None:
    """A file begins where silence ends: `forward` is what follows an endless silence."""
    model = build(name)
    given = inputs(model)
    n_silent = model.past + 3
    cond = model.condition(given.get("mel"), given.get("speaker"))
    if cond is not None and cond.shape[-1] > 1:
        cond = torch.cat([cond[..., :1].expand(-1, -1, n_silent), cond[..., :24]], -1)
    x = F.pad(given["x"], (n_silent, 0))
    late = model.stream(x, model.init_state(2), cond)[0][..., n_silent:]
    assert largest_difference(late, model(**given)) < EXACT


# --- conditioning -------------------------------------------------------------------------------


@conditional
def test_every_conditioning_reaches_every_output(name: str) -> None:
    model = build(name)
    given = inputs(model)
    params = model(**given)
    if "mel" in given:
        other = given | {"mel": given["mel"] + 1}
        assert float((model(**other) - params).detach().abs().amax(1).min()) > 1e-6
    if "speaker" in given:
        other = given | {"speaker": (given["speaker"] + 1) % 3}
        assert float((model(**other) - params).detach().abs().amax(1).min()) > 1e-6


@conditional
def test_every_layer_and_every_channel_of_the_conditioning_gets_a_gradient(name: str) -> None:
    model = build(name)
    given = inputs(model)
    if "mel" in given:
        given["mel"].requires_grad_()
    model(**given).square().sum().backward()
    if "mel" in given:
        gradient = given["mel"].grad
        assert gradient is not None
        assert float(gradient.abs().sum((0, 2)).min()) > 0
    if "speaker" in given:
        gradient = model.speaker_embedding.table.weight.grad
        assert gradient is not None
        assert gradient.abs().sum(1).gt(0).tolist() == [True, True, False]  # 0 and 1 spoke
    for block in model.stack.blocks:
        assert float(block.cond_projection.weight.grad.abs().min()) > 0


@pytest.mark.parametrize("name", ["features", "features and speakers", "mel"])
def test_conditioning_is_the_lift_of_its_frames_and_commutes_with_projections(name: str) -> None:
    model = build(name)
    given = inputs(model)
    given.pop("x")
    frames = model.condition_frames(**given)
    cond = model.condition(**given)
    assert frames is not None
    assert cond is not None
    assert torch.equal(cond, model.frame_lift(frames))
    projection = model.stack.blocks[1].cond_projection
    assert largest_difference(projection(cond), model.frame_lift(projection(frames))) < EXACT
    assert torch.equal(model.condition(**given, n_samples=13), cond[..., :13])


@pytest.mark.parametrize("name", ["features", "mel"])
def test_context_frames_are_the_reach_of_the_conditioning_in_frames(name: str) -> None:
    model = build(name)
    local = model.config.local
    assert local is not None
    hop = local.hop_samples
    mel = torch.randn(1, local.channels, 15, dtype=torch.float64, requires_grad=True)
    cond = model.condition(mel)
    assert cond is not None
    (gradient,) = torch.autograd.grad(cond[..., 7 * hop : 8 * hop].square().sum(), mel)
    reached = gradient.abs().sum((0, 1)).nonzero().flatten().tolist()
    assert reached == list(range(7 - model.context_frames, 8 + model.context_frames))


def test_a_model_without_local_features_has_no_context_frames() -> None:
    assert WaveNet(CONFIGS["speakers"]).context_frames == 0


def test_speakers_alone_are_one_column_and_no_conditioning_is_none() -> None:
    model = WaveNet(CONFIGS["speakers"])
    cond = model.condition(speaker=torch.tensor([1, 2]))
    assert cond is not None
    assert cond.shape == (2, 32, 1)
    assert WaveNet(CONFIGS["unconditional"]).condition() is None


def test_one_speaker_or_one_mel_serves_all_rows_of_the_other() -> None:
    model = build("features and speakers")
    mel, speaker = torch.randn(1, 3, 6).double(), torch.tensor([0, 2])
    both = model.condition(mel, speaker)
    assert both is not None
    for row in range(2):
        alone = model.condition(mel, speaker[row : row + 1])
        assert alone is not None
        assert largest_difference(both[row : row + 1], alone) < EXACT


# --- learning -----------------------------------------------------------------------------------


def toy_batch(kind: str, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
    """Noise around a level that only the conditioning gives: quantised x [B, 1, T], and that."""
    level = torch.randint(2, (16,), generator=generator)
    noise = torch.randn(16, 1, 32, generator=generator)
    if kind == "speaker":  # the sign is the speaker's
        x = 0.3 * (2 * level[:, None, None] - 1) + 0.02 * noise
        return x, {"speaker": level}
    # The amplitude of white noise is the mel's, and changes in the middle of the row.
    loud = torch.stack([level, 1 - level], -1).repeat_interleave(4, -1)[:, None]
    x = torch.where(loud.repeat_interleave(HOP, -1) == 1, 0.3, 0.01) * noise
    return x.clamp(-1, 1), {"mel": loud.float().repeat(1, 3, 1)}


@pytest.mark.parametrize("kind", ["speaker", "mel"])
def test_a_model_learns_what_only_the_conditioning_explains(kind: str) -> None:
    conditioning = {"speakers": 2} if kind == "speaker" else {"features": FEATURES}
    config = WaveNetConfig(
        layers_per_stack=2,
        stacks=1,
        residual_channels=8,
        skip_channels=16,
        distribution="gaussian",
        **conditioning,
    )
    model = WaveNet(config)
    generator = torch.Generator().manual_seed(0)

    def bits(x: Tensor, given: dict[str, Tensor], input_gain: float) -> Tensor:
        params = model(model.distribution.quantize(x * input_gain), **given)
        log_prob = model.distribution.log_prob(params[..., :-1], x[:, 0, 1:])
        return -log_prob[:, HOP:].mean() / math.log(2)

    # The input is silenced here: the level must come from the conditioning.
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(120):
        loss = bits(*toy_batch(kind, generator), input_gain=0.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    x, given = toy_batch(kind, generator)
    with torch.no_grad():
        right = float(bits(x, given, input_gain=0.0))
        (wrong_way,) = given.values()
        swapped = {key: 1 - value for key, value in given.items()}
        wrong = float(bits(x, swapped, input_gain=0.0))
        mixed = float(bits(x, {next(iter(given)): wrong_way.roll(1, 0)}, input_gain=0.0))
    assert right < mixed - 1
    assert mixed < wrong


# --- sizes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("preset", "multiply_adds"), [("small", 233504), ("medium", 909376), ("nv", 868416)]
)
def test_presets_cost_what_their_sizes_say(preset: str, multiply_adds: int) -> None:
    config = WaveNetConfig.preset(preset)
    model = WaveNet(config)
    residual, skip = config.residual_channels, config.skip_channels
    layer = 2 * residual * 2 * residual + residual * residual + residual * skip
    head = skip * skip + skip * 256
    by_hand = residual + len(config.dilations) * layer + head
    assert model.multiply_adds == by_hand == multiply_adds


@pytest.mark.parametrize(
    ("preset", "layers", "stacks", "residual", "skip", "mel"),
    [
        ("small", 10, 2, 32, 128, None),
        ("medium", 10, 3, 64, 128, 80),
        ("nv", 10, 2, 64, 256, None),
    ],
)
def test_presets_have_their_published_sizes(
    preset: str, layers: int, stacks: int, residual: int, skip: int, mel: int | None
) -> None:
    config = WaveNetConfig.preset(preset)
    assert (config.layers_per_stack, config.stacks) == (layers, stacks)
    assert (config.residual_channels, config.skip_channels) == (residual, skip)
    assert (config.mel.n_mels if config.mel else None) == mel
    assert config.distribution == "mu_law"
    assert WaveNet(config).distribution.n_params == 256


def test_tiny_is_smaller_than_small() -> None:
    tiny, small = (WaveNet(WaveNetConfig.preset(name)) for name in ("tiny", "small"))
    assert tiny.multiply_adds < small.multiply_adds


@each_config
def test_training_starts_at_the_distributions_initial_guess(name: str) -> None:
    model = WaveNet(CONFIGS[name])
    given = {key: v.float() if v.is_floating_point() else v for key, v in inputs(model).items()}
    x = model.distribution.quantize(torch.randn(2, 24) / 10)
    if model.predictor is not None:  # what it predicts is near if the mel is that of the signal
        given["mel"] = log_mel(x, SMALL_MEL)
    params = model(**given)
    if model.predictor is None:
        guess = model.distribution.initial_params()[:, None]
        assert float((params - guess).detach().abs().mean()) < 0.3
    nats = -float(model.distribution.log_prob(params, x).detach().mean())
    assert nats / math.log(2) < 17.5  # near the 16 bits of knowing nothing, or below


@each_config
def test_signals_between_layers_start_at_unit_scale(name: str) -> None:
    wide = CONFIGS[name].replace(residual_channels=32, skip_channels=64)
    model = WaveNet(wide)
    x = torch.randn(4, 32, 200)
    cond = None
    if model.stack.cond_channels is not None:
        cond = torch.randn(4, model.stack.cond_channels, 200)
    y, skip_sum = model.stack(x, cond)
    assert 0.5 < float(y.detach().std()) < 2
    assert 0.05 < float(skip_sum.detach().std()) < 2


# --- configuration ------------------------------------------------------------------------------


@each_config
def test_a_configuration_survives_its_dictionary(name: str) -> None:
    config = CONFIGS[name]
    assert WaveNetConfig.from_dict(config.to_dict()) == config
    assert hash(WaveNetConfig.from_dict(config.to_dict())) == hash(config)


@pytest.mark.parametrize("preset", ["tiny", "small", "medium", "nv"])
def test_presets_survive_their_dictionaries_and_may_be_named_in_one(preset: str) -> None:
    config = WaveNetConfig.preset(preset)
    assert WaveNetConfig.from_dict(config.to_dict()) == config
    assert WaveNetConfig.from_dict({"preset": preset}) == config
    changed = WaveNetConfig.from_dict({"preset": preset, "stacks": 7})
    assert changed == config.replace(stacks=7) == WaveNetConfig.preset(preset, stacks=7)


def test_speaker_names_come_back_as_a_tuple() -> None:
    config = WaveNetConfig(speakers=2, speaker_names=["ann", "bob"])
    assert config.speaker_names == ("ann", "bob")
    assert config.to_dict()["speaker_names"] == ["ann", "bob"]
    assert WaveNetConfig.from_dict(config.to_dict()) == config


def test_a_mel_may_be_named() -> None:
    config = WaveNetConfig.from_dict({"mel": "tacotron2", "sample_rate": 22050})
    assert config.mel == MelConfig.preset("tacotron2")


def test_a_configuration_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        WaveNetConfig().stacks = 2


def test_dilations_double_within_a_stack_and_begin_anew() -> None:
    assert WaveNetConfig(layers_per_stack=3, stacks=2).dilations == (1, 2, 4, 1, 2, 4)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"residual_chanels": 3}, "model.residual_chanels is unknown; did you mean residual_ch"),
        ({"layer": 3}, "model.layer is unknown; did you mean layers_per_stack?"),
        ({"zzz": 3}, "model.zzz is unknown; known: sample_rate, layers_per_stack"),
        ({"mel": {"hop": 3}}, "model.mel.hop is unknown"),
        ({"features": {"channels": 3}}, "model.features: .*missing.*hop_samples"),
        ({"features": {"channels": 0, "hop_samples": 4}}, "channels=0 must be an integer"),
        ({"stacks": "3"}, "model.stacks is '3', expected int"),
        ({"stacks": 0}, "stacks=0 must be an integer of at least 1"),
        ({"kernel_size": -1}, "kernel_size=-1 must be an integer of at least 1"),
        ({"gate_channels": 0}, "gate_channels=0 must be an integer of at least 1"),
        ({"gate_channels": 5}, "gate_channels=5 must be even"),
        ({"distribution": "poisson"}, "unknown distribution 'poisson': choose one of mu_law"),
        ({"distribution_size": 1}, "classes must be a whole number in 2..65536, got 1"),
        ({"mel": "best"}, "unknown mel preset 'best'; known are"),
        ({"mel": "hifigan"}, "mel.sample_rate=22050 Hz differs .* sample_rate=16000 Hz"),
        (
            {"mel": "wavenet-16k", "features": {"channels": 1, "hop_samples": 1}},
            "mel and features are both set",
        ),
        ({"speakers": -1}, "speakers=-1 does not fit the 0 different speaker_names"),
        ({"speakers": 2, "speaker_names": ["a"]}, "speakers=2 does not fit the 1 different"),
        ({"speakers": 2, "speaker_names": ["a", "a"]}, "speakers=2 does not fit the 1 different"),
        (
            {"one_hot_input": True, "distribution": "gaussian"},
            "one_hot_input=True needs classes and distribution='gaussian' has none; use mu_law",
        ),
        (
            {"features": UPSAMPLED, "cond_channels": 2},
            "cond_channels=2 is less than the 3 channels",
        ),
        (
            {"features": {"channels": 3, "hop_samples": 9, "upsampling": {"scales": [2, 4]}}},
            "hop_samples=9 is not the product of the upsampling's scales, 8",
        ),
        (
            {"features": {"channels": 3, "hop_samples": 1, "upsampling": {"band_kernel_size": 2}}},
            "band_kernel_size=2 must be odd",
        ),
        ({"cond_channels": 3}, "cond_channels=3 without mel, features or speakers conditions on"),
        ({"preset": "big"}, "preset='big' is unknown; choose one of tiny, small, medium, nv"),
        ({"preset": "tiny", "stack": 1}, "model.stack is unknown; did you mean stacks?"),
    ],
)
def test_settings_that_make_no_model_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        WaveNetConfig.from_dict(values)
    assert "\n" not in str(caught.value)


def test_settings_of_another_type_than_their_class_are_named() -> None:
    for given, name in (({"mel": "hifigan"}, "MelConfig"), ({"mel": {"n_mels": 4}}, "MelConfig")):
        with pytest.raises(ValueError, match=rf"mel=.* must be a {name}; names and plain values"):
            WaveNetConfig(**given)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"features=\{'channels': 3\} must be a FeatureConfig"):
        WaveNetConfig(features={"channels": 3})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="config='tiny' is no WaveNetConfig; make one, such as"):
        WaveNet("tiny")  # type: ignore[arg-type]


# --- wrong calls --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("unconditional", {"mel": torch.zeros(2, 3, 6)}, "mel is shape (2, 3, 6), but this model "),
        ("unconditional", {"speaker": torch.zeros(2).long()}, "but this model takes no speaker"),
        ("speakers", {}, "speaker is None, but this model takes speaker indices [B] from 0 to 2"),
        ("speakers", {"speaker": torch.tensor([0, 3])}, "speaker=[0, 3] must be within 0 to 2"),
        ("speakers", {"speaker": 1}, "speaker is 1, expected a tensor of indices [B]"),
        ("speakers", {"speaker": torch.tensor(1)}, "expected a tensor of indices [B]"),
        ("speakers", {"speaker": torch.ones(2)}, "expected a tensor of indices [B]"),
        ("speakers", {"speaker": torch.tensor([True])}, "expected a tensor of indices [B], int64"),
        (
            "speakers",
            {"speaker": torch.zeros(1, dtype=torch.uint8)},
            "expected a tensor of indices",
        ),
        ("speakers", {"speaker": torch.tensor([0, 1, 2])}, "expected (2, 32, 1)"),
        ("features", {}, "mel is None, but this model takes mel [B, 3, F]"),
        ("features", {"mel": torch.zeros(3, 6)}, "mel has shape (3, 6), expected [B, 3, F]"),
        ("features", {"mel": torch.zeros(2, 3, 0)}, "with at least one frame"),
        ("features", {"mel": torch.zeros(2, 4, 6)}, "mel has 4 channels, but this model was built"),
        ("features", {"mel": torch.zeros(2, 3, 5)}, "5 frames of 4 samples describe 20 samples, "),
        ("features", {"mel": torch.zeros(3, 3, 6)}, "expected (2, 3, 1)"),
        (
            "features and speakers",
            {"mel": torch.zeros(2, 3, 6), "speaker": torch.tensor([0, 1, 2])},
            "speaker has 3 rows and mel 2; give one for each row",
        ),
        ("unconditional", {"x": torch.zeros(2, 2, 24)}, "x has shape (2, 2, 24), expected [B, 1,"),
        ("unconditional", {"x": torch.zeros(2, 24)}, "x has shape (2, 24), expected [B, 1, T]"),
        ("unconditional", {"x": torch.zeros(2, 1, 0)}, "x has 0 samples, but a call takes"),
    ],
)
def test_a_wrong_call_is_one_line_that_says_what_the_model_takes(
    name: str, given: dict[str, Any], message: str
) -> None:
    model = WaveNet(CONFIGS[name])
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the text is compared below)
        model(**({"x": torch.zeros(2, 1, 24)} | given))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


# --- types, copies, compilers -------------------------------------------------------------------


@each_config
def test_a_deep_copy_gives_the_same_and_shares_nothing(name: str) -> None:
    model = build(name)
    given = inputs(model)
    other = copy.deepcopy(model)
    before = model(**given)
    assert torch.equal(other(**given), before)
    nn.init.zeros_(other.input_projection.weight)
    assert torch.equal(model(**given), before)
    assert other.config == model.config


@each_config
def test_a_model_in_bfloat16_hears_as_in_float32_to_its_precision(name: str) -> None:
    model = WaveNet(CONFIGS[name]).eval()
    narrow = copy.deepcopy(model).bfloat16()
    given = inputs(model)
    as_floats = {k: v.float() if v.is_floating_point() else v for k, v in given.items()}
    as_bfloats = {k: v.bfloat16() if v.is_floating_point() else v for k, v in given.items()}
    params, rough = model(**as_floats), narrow(**as_bfloats)
    assert rough.dtype == torch.bfloat16
    # A predictor's coefficients are rounded too, and what it predicts is their sum.
    assert largest_difference(rough.float(), params) < (0.1 if model.predictor is None else 0.5)


def test_a_compiled_model_gives_the_same() -> None:
    model = build("features and speakers")
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    given = inputs(model)
    assert largest_difference(compiled(**given), model(**given)) < EXACT


def test_an_exported_model_gives_the_same() -> None:
    model = build("speakers")
    given = inputs(model)
    x, speaker = given["x"], given["speaker"]
    time = torch.export.Dim("time", min=2, max=1000)
    shapes = {"x": {2: time}, "mel": None, "speaker": None}
    program = torch.export.export(model, (x, None, speaker), dynamic_shapes=shapes)
    longer = torch.rand(2, 1, 57, dtype=torch.float64)
    exported = program.module()(longer, None, speaker)
    assert largest_difference(exported, model(longer, speaker=speaker)) < EXACT


def test_two_streams_of_one_model_do_not_meet() -> None:
    model = build("unconditional")
    x = torch.rand(2, 1, 1, 20, dtype=torch.float64)
    expected = [model(one) for one in x]
    states = [model.warm_state(1), model.warm_state(1)]
    for t in range(20):
        for i in range(2):
            y, states[i] = model.stream(x[i, ..., t : t + 1], states[i])
            assert largest_difference(y, expected[i][..., t : t + 1]) < EXACT


def test_a_model_hears_mu_law_companded_samples() -> None:
    model = WaveNet(CONFIGS["unconditional"])
    x = torch.tensor([[[0.0, STEP, 0.5, -1.0]]])
    encoded = model.distribution.network_input(x)
    expected = torch.log1p(255 * x.abs()) / math.log(256) * x.sign()
    assert torch.allclose(encoded, expected, atol=1e-6)


@torch.no_grad()
def test_a_one_hot_model_hears_the_class_of_a_sample_and_no_more() -> None:
    config = CONFIGS["unconditional"].replace(one_hot_input=True, distribution_size=32)
    model = WaveNet(config).eval()
    model.head[3].weight.mul_(10)
    x = torch.rand(2, 1, 40) * 2 - 1
    centre = model.distribution.quantize(x)
    assert torch.equal(model(x), model(centre))
    other = x.clone()
    other[..., 20] = -x[..., 20]
    changed = (model(x) - model(other)).abs().amax(dim=(0, 1)) > 0
    assert changed.tolist()[:20] == [False] * 20
    assert bool(changed[20])
    columns = model.input_projection.weight[..., 0].T  # [classes, R]
    projected = columns[model.distribution.classify(x[:, 0])] + model.input_projection.bias
    entry, _ = model.project_input(model.entry_values(x), ())
    assert torch.equal(entry, projected.mT)


@torch.no_grad()
def test_upsampled_features_are_frames_of_one_sample_and_speakers_are_added_behind() -> None:
    config = WaveNetConfig.from_dict({**SMALL, "features": UPSAMPLED, "speakers": 2})
    model = WaveNet(config).eval()
    mel, speaker = torch.randn(2, 3, 4), torch.tensor([0, 1])
    frames, cond = model.condition_frames(mel, speaker), model.condition(mel, speaker)
    assert frames is not None
    assert cond is not None
    assert frames.shape == (2, 3, 32)
    assert torch.equal(cond, frames)
    embedded = model.speaker_embedding(speaker)
    assert torch.equal(cond, model.frame_encoder(mel) + embedded)
    assert model.context_frames == 2


def test_the_state_of_a_model_is_that_of_its_stack() -> None:
    model = build("unconditional")
    (stack,) = model.init_state(3)
    shapes = [tuple(part.shape) for part in flatten_state(stack)]
    assert shapes == [(3, 6, dilation) for dilation in (1, 2, 4, 1, 2, 4)]
