"""`generate` and `stream`: the same request gives the same samples, however it is put."""

from __future__ import annotations

import itertools
import math
import re
import unicodedata
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import wavenet
from wavenet import FeatureConfig, WaveNet, WaveNetConfig
from wavenet.distributions import STEP
from wavenet.generation import GenerationState, Utterance, generate_queue
from wavenet.generation.randomness import UniformSource
from wavenet.nn import flatten_state, map_state

HOP = 5
SMALL: dict[str, Any] = {
    "layers_per_stack": 3,
    "stacks": 2,
    "residual_channels": 4,
    "skip_channels": 8,
}
FEATURES: dict[str, Any] = {"features": FeatureConfig(channels=3, hop_samples=HOP)}
CONFIGS: dict[str, WaveNetConfig] = {
    "plain": WaveNetConfig(**SMALL, distribution_size=64),
    "speakers": WaveNetConfig(
        **SMALL, distribution="gaussian", speakers=3, speaker_names=("ann", "bob", "cem")
    ),
    "features": WaveNetConfig(**SMALL, **FEATURES, distribution="logistic_mixture", kernel_size=3),
    "both": WaveNetConfig(**SMALL, **FEATURES, distribution="gaussian_mixture", speakers=2),
}
each_config = pytest.mark.parametrize("name", CONFIGS)


def build(name: str) -> WaveNet:
    """In float64, and its output depends much on its input: a slip would propagate."""
    torch.manual_seed(0)
    model = WaveNet(CONFIGS[name]).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 4
            parameter.normal_(std=1 / math.sqrt(fan_in))
        model.head[3].bias.copy_(model.distribution.initial_params())
    return model


def request(name: str, rows: int = 1, n_frames: int = 12) -> dict[str, Any]:
    """The conditioning of `rows` rows for 60 samples or fewer."""
    given: dict[str, Any] = {"n_samples": 47}
    if CONFIGS[name].features is not None:
        generator = torch.Generator().manual_seed(3)
        given["mel"] = torch.randn(rows, 3, n_frames, generator=generator)
    if CONFIGS[name].speakers:
        given["speaker"] = [row % 2 for row in range(rows)]
    return given


def generate(model: WaveNet, **given: Any) -> Any:
    return wavenet.generate(model, **({"engine": "eager", "seed": 7} | given))


def stream(model: WaveNet, **given: Any) -> Any:
    return wavenet.stream(model, **({"engine": "eager", "seed": 7} | given))


# --- what comes out -----------------------------------------------------------------------------


@each_config
def test_samples_are_float32_on_the_16_bit_grid_and_ordinary_tensors(name: str) -> None:
    samples = generate(build(name), **request(name, rows=2), batch_size=2)
    assert samples.shape == (2, 47)
    assert (samples.dtype, samples.device.type) == (torch.float32, "cpu")
    assert float(samples.abs().max()) <= 1
    assert torch.equal(samples / STEP, (samples / STEP).round())
    assert not samples.is_inference()
    samples.mul_(0.5).requires_grad_()


@pytest.mark.parametrize("engine", ["stream", "eager", "cpu"])
@each_config
def test_torchs_default_dtype_changes_nothing(name: str, engine: str) -> None:
    if engine == "cpu":
        pytest.importorskip("numba", reason="the CPU engine is compiled by numba")
    model, given = build(name).float(), request(name, rows=2) | {"batch_size": 2}
    speaker = 1 if "speaker" in given else None
    mel = given["mel"][0] if "mel" in given else None
    one = Utterance(mel=mel, speaker=speaker, n_samples=47, seed=3)

    def made() -> list[Tensor]:
        queue = dict(generate_queue(model, [one] * 3, rows=2, engine=engine))
        return [generate(model, **given, engine=engine), *queue.values()]

    expected = made()
    torch.set_default_dtype(torch.float64)
    try:
        found = made()
    finally:
        torch.set_default_dtype(torch.float32)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == torch.float32
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("n_samples", [10**15, 2**62])
def test_more_samples_than_the_memory_holds_are_refused_before_any_is_made(n_samples: int) -> None:
    with pytest.raises(ValueError, match=f"n_samples={n_samples} of 2 rows are more than the mem"):
        generate(build("plain"), n_samples=n_samples, batch_size=2)
    chunks = stream(build("plain"), n_samples=n_samples, chunk_samples=3)
    assert next(chunks).shape == (1, 3)


@each_config
def test_the_same_seed_gives_the_same_samples_and_another_one_others(name: str) -> None:
    model, given = build(name), request(name)
    first = generate(model, **given, seed=5)
    torch.rand(3)  # torch's global generator plays no part
    assert torch.equal(first, generate(model, **given, seed=5))
    assert not torch.equal(first, generate(model, **given, seed=6))


def test_no_seed_gives_other_samples_each_time_and_leaves_torchs_generator_alone() -> None:
    model = build("plain")
    before = torch.get_rng_state()
    first, second = (wavenet.generate(model, n_samples=40, engine="eager") for _ in range(2))
    assert not torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)


@each_config
def test_samples_do_not_depend_on_how_they_are_cut_into_chunks(name: str) -> None:
    model, given = build(name), request(name, rows=2)
    whole = generate(model, **given, batch_size=2)
    for chunk_samples in (1, 2, 7, 46, 47, 512):
        chunks = list(stream(model, **given, batch_size=2, chunk_samples=chunk_samples))
        lengths = [chunk.shape[-1] for chunk in chunks]
        assert all(length == chunk_samples for length in lengths[:-1])
        assert torch.equal(torch.cat(chunks, dim=-1), whole)


@each_config
def test_a_row_equals_the_same_request_alone(name: str) -> None:
    model, given = build(name), request(name, rows=3)
    together = generate(model, **given, seed=[4, 9, 1], batch_size=3)
    for row, seed in enumerate((4, 9, 1)):
        own = given | {key: given[key][row : row + 1] for key in ("mel", "speaker") if key in given}
        assert torch.equal(generate(model, **own, seed=seed)[0], together[row])


def test_a_seed_counts_up_over_the_rows() -> None:
    model = build("plain")
    rows = generate(model, n_samples=30, seed=5, batch_size=3)
    assert torch.equal(rows, generate(model, n_samples=30, seed=[5, 6, 7]))
    assert torch.equal(rows[2:], generate(model, n_samples=30, seed=7))


# --- what it equals -----------------------------------------------------------------------------


@each_config
def test_each_sample_is_drawn_from_what_the_parallel_pass_says_of_it(name: str) -> None:
    model, given = build(name), request(name, rows=2)
    samples = generate(model, **given, batch_size=2)
    speaker = torch.tensor(given["speaker"]) if "speaker" in given else None
    mel = given["mel"].double() if "mel" in given else None
    x = samples.double()[:, None]
    with torch.no_grad():
        after = model(x, mel, speaker)  # params[..., t] are of sample t + 1
        first = None if mel is None else mel
        silent = model(torch.zeros(2, 1, 1).double(), first, speaker)  # those of sample 0
    params = torch.cat([silent, after[..., :-1]], dim=-1)
    uniforms = UniformSource([7, 8], model.distribution.uniforms_per_sample).take(47)
    assert torch.equal(model.distribution.sample(params, uniforms).float(), samples)


def test_what_is_drawn_has_the_moments_of_its_distribution() -> None:
    model = WaveNet(WaveNetConfig(**SMALL, distribution="gaussian"))
    torch.nn.init.zeros_(model.head[3].weight)
    with torch.no_grad():
        model.head[3].bias.copy_(torch.tensor([0.25, math.log(0.1)]))
    samples = generate(model, n_samples=50, batch_size=400)
    assert float(samples.mean()) == pytest.approx(0.25, abs=5 * 0.1 / math.sqrt(20_000))
    assert float(samples.std()) == pytest.approx(0.1, rel=5 / math.sqrt(40_000))


@each_config
def test_a_temperature_towards_zero_takes_the_most_probable_and_no_chance(name: str) -> None:
    model, given = build(name), request(name)
    cold = [generate(model, **given, seed=seed, temperature=1e-9) for seed in range(3)]
    assert torch.equal(cold[0], cold[1])
    assert torch.equal(cold[0], cold[2])
    assert not torch.equal(cold[0], generate(model, **given))


def test_noise_is_shaped_as_the_model_or_the_request_says() -> None:
    plain, shaped = build("speakers"), build("speakers")
    shaped.config = shaped.config.replace(noise_shaping=0.5)
    given = request("speakers")
    asked = generate(plain, **given, noise_shaping=0.5)
    assert torch.equal(asked, generate(shaped, **given))
    assert torch.equal(generate(plain, **given), generate(shaped, **given, noise_shaping=0))
    assert not torch.equal(asked, generate(plain, **given))
    joined = torch.cat(list(stream(shaped, chunk_samples=7, **given)), dim=1)
    assert torch.equal(joined, asked)


def test_a_smallest_nucleus_is_the_most_probable_class() -> None:
    model = build("plain")
    narrow = [generate(model, n_samples=40, seed=seed, top_p=1e-6) for seed in range(2)]
    assert torch.equal(*narrow)
    assert torch.equal(narrow[0], generate(model, n_samples=40, temperature=1e-9))
    assert not torch.equal(narrow[0], generate(model, n_samples=40, top_p=1.0))


@pytest.mark.parametrize("weights", ["float16", "bfloat16"])
def test_rounded_weights_are_heard_and_near(weights: str) -> None:
    model = build("speakers")
    exact = generate(model, n_samples=10, speaker=0)
    rounded = generate(model, n_samples=10, speaker=0, weights=weights)
    assert not torch.equal(exact, rounded)
    assert float((exact - rounded).abs().max()) < 0.1


# --- conditioning -------------------------------------------------------------------------------


def test_a_speaker_is_found_in_either_form_of_unicode() -> None:
    names = ("Zo\u00eb", "Rene\u0301")  # composed, and decomposed as folders of macOS are
    sizes = {"layers_per_stack": 2, "stacks": 1, "residual_channels": 4, "skip_channels": 4}
    config = wavenet.WaveNetConfig(**sizes, speakers=2, speaker_names=names)  # type: ignore[arg-type]
    model = wavenet.WaveNet(config).eval()
    for index, name in enumerate(names):
        expected = generate(model, n_samples=9, speaker=index, seed=0)
        for form in ("NFC", "NFD"):
            spelled = unicodedata.normalize(form, name)  # type: ignore[arg-type]
            assert torch.equal(generate(model, n_samples=9, speaker=spelled, seed=0), expected)


def test_a_speaker_may_be_an_index_a_name_a_list_or_a_tensor() -> None:
    model = build("speakers")
    by_index = generate(model, n_samples=30, speaker=1)
    assert torch.equal(by_index, generate(model, n_samples=30, speaker="bob"))
    assert torch.equal(by_index, generate(model, n_samples=30, speaker=torch.tensor(1)))
    assert not torch.equal(by_index, generate(model, n_samples=30, speaker="cem"))
    rows = generate(model, n_samples=30, speaker=["bob", 0], seed=[7, 7])
    assert torch.equal(
        rows, generate(model, n_samples=30, speaker=torch.tensor([1, 0]), seed=[7, 7])
    )
    assert torch.equal(rows[:1], by_index)
    all_rows = generate(model, n_samples=30, speaker="bob", batch_size=2)
    assert torch.equal(all_rows[:1], by_index)


def test_a_mel_may_have_a_batch_or_none_and_says_how_long() -> None:
    model, mel = build("features"), torch.randn(3, 8)
    samples = generate(model, mel=mel)
    assert samples.shape == (1, 8 * HOP)
    assert torch.equal(samples, generate(model, mel=mel[None]))
    assert torch.equal(samples, generate(model, mel=[mel]))
    assert torch.equal(samples, generate(model, mel=mel.double()))
    assert torch.equal(samples[:, :33], generate(model, mel=mel, n_samples=33))
    assert not torch.equal(samples, generate(model, mel=mel + 1))


def test_one_mel_serves_all_rows() -> None:
    model, mel = build("features"), torch.randn(3, 4)
    rows = generate(model, mel=mel, seed=[7, 3])
    assert torch.equal(rows[:1], generate(model, mel=mel))
    assert torch.equal(rows[1:], generate(model, mel=mel, seed=3))


def test_mels_of_different_lengths_end_in_zeros_and_equal_rows_alone() -> None:
    model = build("features")
    mels = [torch.randn(3, n_frames) for n_frames in (4, 7, 2)]
    samples = generate(model, mel=mels)
    assert samples.shape == (3, 7 * HOP)
    for row, mel in enumerate(mels):
        n = mel.shape[-1] * HOP
        assert torch.equal(samples[row : row + 1, :n], generate(model, mel=mel, seed=7 + row))
        assert not samples[row, n:].any()


def test_rows_of_different_lengths_end_in_zeros_in_every_chunk() -> None:
    model = build("plain")
    longest = generate(model, n_samples=40, batch_size=3)
    samples = generate(model, n_samples=[40, 13, 1])
    for row, n in enumerate((40, 13, 1)):
        assert torch.equal(samples[row, :n], longest[row, :n])
        assert not samples[row, n:].any()
    for chunk_samples in (1, 6):
        chunks = stream(model, n_samples=[40, 13, 1], chunk_samples=chunk_samples)
        assert torch.equal(torch.cat(list(chunks), dim=-1), samples)


def test_one_length_serves_all_rows_as_a_number_or_as_a_list() -> None:
    model = build("plain")
    samples = generate(model, n_samples=[9], batch_size=2)
    assert torch.equal(samples, generate(model, n_samples=np.int64(9), batch_size=2))
    mel = torch.randn(2, 3, 4)
    assert generate(build("features"), mel=mel, n_samples=[9]).shape == (2, 9)


def test_a_duration_counts_samples_at_the_models_rate() -> None:
    model = WaveNet(CONFIGS["plain"].replace(sample_rate=1000))
    assert generate(model, duration_s=0.05).shape == (1, 50)
    assert generate(model, duration_s=1e-9).shape == (1, 1)


# --- going on -----------------------------------------------------------------------------------


@each_config
def test_going_on_from_a_returned_state_equals_one_long_run(name: str) -> None:
    model = build(name)
    given = request(name, rows=2, n_frames=1)  # a mel that stays: each part begins at its frame 0
    if "mel" in given:
        given["mel"] = given["mel"].expand(-1, -1, 12)
    given |= {"batch_size": 2, "seed": [3, 90]}
    whole = generate(model, **given)
    head, state = generate(model, **(given | {"n_samples": 20}), return_state=True)
    kept = map_state(Tensor.clone, tuple(state))
    tail, last = generate(model, **(given | {"n_samples": 27}), state=state, return_state=True)
    assert torch.equal(torch.cat([head, tail], dim=-1), whole)
    assert state.time.tolist() == [20, 20]
    assert last.time.tolist() == [47, 47]
    for part, old in zip(flatten_state(tuple(state)), flatten_state(kept), strict=True):
        assert torch.equal(part, old)  # a state is a value: it can be gone on from again
    again = generate(model, **(given | {"n_samples": 27}), state=state)
    assert torch.equal(again, tail)


def test_going_on_hears_the_frames_that_follow() -> None:
    model = build("features")
    mel = torch.randn(1, 3, 9)
    mel[..., 1:7] = mel[..., 1:2]  # the encoder and the lift see the same frames around the cut
    whole = generate(model, mel=mel)
    head, state = generate(model, mel=mel, n_samples=4 * HOP, return_state=True)
    tail = generate(model, mel=mel[..., 4:], state=state)
    assert torch.equal(torch.cat([head, tail], dim=-1), whole)


def test_a_stream_can_be_left_and_taken_up_again() -> None:
    model = build("plain")
    whole = generate(model, n_samples=30)
    chunks = stream(model, chunk_samples=6)
    head = torch.cat([next(chunks), next(chunks)], dim=-1)
    rest = generate(model, n_samples=18, state=chunks.state())
    assert torch.equal(torch.cat([head, rest], dim=-1), whole)


def test_a_stream_without_a_length_never_ends() -> None:
    model = build("plain")
    chunks = stream(model, chunk_samples=16)
    assert chunks.n_samples is None
    joined = torch.cat(list(itertools.islice(chunks, 5)), dim=-1)
    assert torch.equal(joined, generate(model, n_samples=80))


def test_a_stream_with_a_length_stops() -> None:
    chunks = stream(build("plain"), n_samples=10, chunk_samples=4)
    assert [chunk.shape[-1] for chunk in chunks] == [4, 4, 2]
    assert list(chunks) == []


@pytest.mark.parametrize("name", ["plain", "speakers"])
def test_a_prompt_that_was_heard_in_parallel_can_be_carried_on(name: str) -> None:
    model, given = build(name), request(name)
    prime = torch.rand(21).double() * 1.6 - 0.8
    carried_on = generate(model, **(given | {"n_samples": 20}), prime=prime)
    speaker = torch.tensor(given["speaker"]) if "speaker" in given else None
    with torch.no_grad():
        cond = model.condition(speaker=speaker)
        prompt = model.distribution.quantize(prime)[None, None]
        state = GenerationState.after(*model.stream(prompt, model.warm_state(1, cond), cond))
    assert torch.equal(generate(model, **(given | {"n_samples": 20}), state=state), carried_on)


@each_config
def test_what_follows_a_prime_is_what_followed_it_when_it_was_generated(name: str) -> None:
    """A prime takes no uniforms, so what is drawn after it differs; without chance it does not."""
    model, given = build(name), request(name)
    cold = generate(model, **given, temperature=1e-9)
    again = generate(model, **(given | {"n_samples": 30}), prime=cold[:, :17], temperature=1e-9)
    assert torch.equal(again, cold[:, 17:])


def test_a_prime_may_have_one_two_or_three_axes_and_serves_all_rows() -> None:
    model, prime = build("plain"), torch.rand(9) - 0.5
    alone = generate(model, n_samples=8, prime=prime)
    for shaped in (prime[None], prime[None, None]):
        assert torch.equal(generate(model, n_samples=8, prime=shaped), alone)
    both = torch.stack([prime, torch.rand(9) - 0.5])
    rows = generate(model, n_samples=8, prime=both)
    assert torch.equal(rows[:1], alone)
    assert not torch.equal(rows[1], generate(model, n_samples=8, prime=prime, seed=8)[0])
    twice = generate(model, n_samples=8, prime=prime, batch_size=2)
    assert torch.equal(twice[:1], alone)


def test_a_prime_takes_its_own_part_of_the_mel() -> None:
    model, mel = build("features"), torch.randn(3, 6)
    samples = generate(model, mel=mel, prime=torch.zeros(13))
    assert samples.shape == (1, 6 * HOP - 13)


def test_a_model_in_training_mode_with_gradients_generates_the_same() -> None:
    model = build("plain")
    expected = generate(model, n_samples=20)
    model.train()
    with torch.enable_grad():
        assert torch.equal(generate(model, n_samples=20), expected)
    assert model.training


# --- errors -------------------------------------------------------------------------------------

PRIME = torch.zeros(4)


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("plain", {}, "how long? give duration_s, n_samples or a mel"),
        ("plain", {"n_samples": 0}, "n_samples=0 must be at least 1"),
        ("plain", {"n_samples": [3, -1]}, "n_samples=-1 must be at least 1"),
        ("plain", {"n_samples": 1.5}, "n_samples=1.5 must be an integer, or one for each row"),
        ("plain", {"n_samples": []}, "n_samples=[] must be an integer, or one for each row"),
        ("plain", {"n_samples": "5"}, "n_samples='5' must be an integer"),
        ("plain", {"duration_s": 0}, "duration_s=0 must be a positive number of seconds"),
        ("plain", {"duration_s": math.inf}, "duration_s=inf must be a positive number of seconds"),
        ("plain", {"duration_s": math.nan}, "duration_s=nan must be a positive number"),
        ("plain", {"n_samples": 5, "duration_s": 1}, "give only one"),
        ("plain", {"n_samples": 5, "seed": -1}, "seed=-1 must not be negative"),
        ("plain", {"n_samples": 5, "seed": 0.5}, "seed=0.5 must be an integer"),
        ("plain", {"n_samples": 5, "seed": [1, 2], "batch_size": 3}, "batch_size 3, seed 2"),
        ("plain", {"n_samples": [5, 6, 7], "batch_size": 2}, "batch_size 2, n_samples 3"),
        ("plain", {"n_samples": 5, "batch_size": 0}, "batch_size=0 must be an integer of at leas"),
        ("plain", {"n_samples": 5, "batch_size": 2.0}, "batch_size=2.0 must be an integer"),
        ("plain", {"n_samples": 5, "temperature": 0}, "temperature must be above 0"),
        ("plain", {"n_samples": 5, "temperature": math.nan}, "temperature must be above 0"),
        ("plain", {"n_samples": 5, "temperature": "1"}, "temperature='1' must be a number, such"),
        ("plain", {"n_samples": 5, "temperature": True}, "temperature=True must be a number"),
        ("plain", {"n_samples": 5, "top_p": "1"}, "top_p='1' must be a number"),
        ("plain", {"n_samples": 5, "noise_shaping": "1"}, "noise_shaping='1' must be a number"),
        ("plain", {"duration_s": "3"}, "duration_s='3' must be a positive number of seconds"),
        ("plain", {"duration_s": True}, "duration_s=True must be a positive number of seconds"),
        ("plain", {"n_samples": 5, "top_p": 0}, "top_p must be in (0, 1]"),
        ("plain", {"n_samples": 5, "noise_shaping": 1.5}, "noise_shaping=1.5 must be from -1 to 1"),
        ("plain", {"n_samples": 5, "temperature": [1.0, 2.0]}, "temperature=[1.0, 2.0] must be"),
        ("plain", {"n_samples": 5, "top_p": 1.1}, "top_p must be in (0, 1]"),
        ("speakers", {"n_samples": 5, "speaker": 0, "top_p": 0.9}, "needs classes and gaussian"),
        ("plain", {"n_samples": 5, "engine": "fast"}, "engine='fast' is unknown; choose one of "),
        ("plain", {"n_samples": 5, "weights": "int8"}, "weights='int8' is unknown; choose one of"),
        ("plain", {"n_samples": 5, "speaker": 0}, "but this model takes no speaker"),
        ("plain", {"n_samples": 5, "speaker": "ann"}, "but this model takes no speaker"),
        ("both", {"n_samples": 5, "speaker": "ann"}, "the model has no names"),
        ("plain", {"n_samples": 5, "mel": torch.zeros(3, 4)}, "but this model takes no mel"),
        ("speakers", {"n_samples": 5}, "speaker is None, but this model takes speaker indices"),
        ("speakers", {"n_samples": 5, "speaker": 3}, "speaker=3 must lie within 0 to 2"),
        ("speakers", {"n_samples": 5, "speaker": [0, -1]}, "speaker=-1 must lie within 0 to 2"),
        ("speakers", {"n_samples": 5, "speaker": "eve"}, "give one of ann, bob, cem"),
        ("speakers", {"n_samples": 5, "speaker": []}, "speaker=[] must be an index or a name"),
        ("speakers", {"n_samples": 5, "speaker": True}, "speaker=True must be an index or a name"),
        ("speakers", {"n_samples": 5, "speaker": [0, True]}, "must be an index or a name, or one"),
        ("speakers", {"n_samples": 5, "speaker": torch.tensor(True)}, "must be an index or a name"),
        ("speakers", {"n_samples": 5, "speaker": b"ann"}, "speaker=b'ann' must be an index or a"),
        ("speakers", {"n_samples": 5, "speaker": 0.5}, "speaker=0.5 must be an index or a name"),
        ("features", {"n_samples": 5}, "mel is None, but this model takes mel [B, 3, F]"),
        ("features", {"mel": torch.zeros(4, 4)}, "mel has 4 channels, but this model was built fo"),
        ("features", {"mel": torch.zeros(3)}, "mel has rows of shape [(3,)], expected [M, F]"),
        ("features", {"mel": torch.zeros(3, 0)}, "with at least one frame"),
        ("features", {"mel": []}, "with at least one frame"),
        ("features", {"mel": torch.full((3, 4), math.nan)}, "mel has values that are not finite"),
        ("features", {"mel": [[0.0]]}, "mel is a list, expected a tensor or a list of tensors"),
        ("features", {"mel": np.zeros((3, 4))}, "mel is a ndarray, expected a tensor"),
        ("features", {"mel": torch.zeros(3, 4), "n_samples": 21}, "more than the mel describes, ["),
        ("features", {"mel": torch.zeros(3, 4), "duration_s": 1}, "more than the mel describes"),
        ("features", {"mel": torch.zeros(3, 2), "prime": torch.zeros(10)}, "ends within the prime"),
        ("plain", {"n_samples": 5, "prime": torch.zeros(0)}, "prime has shape (0,), expected [T]"),
        ("plain", {"n_samples": 5, "prime": torch.tensor(0.5)}, "prime has shape (), expected [T]"),
        ("plain", {"n_samples": 5, "prime": torch.zeros(1, 2, 4)}, "prime has shape (1, 2, 4)"),
        ("plain", {"n_samples": 5, "prime": 2 + PRIME}, "prime has samples outside [-1, 1]"),
        ("plain", {"n_samples": 5, "prime": math.nan + PRIME}, "prime has samples outside [-1, 1]"),
        ("plain", {"n_samples": 5, "prime": PRIME.short()}, "prime is torch.int16, expected"),
        ("plain", {"n_samples": 5, "prime": [0.1]}, "prime is list, expected a tensor of floats"),
        ("plain", {"n_samples": 5, "state": 3}, "state is a int; give what generate(..., return_"),
        ("plain", {"n_samples": [5, 6], "return_state": True}, "needs rows of one length"),
    ],
)
def test_a_wrong_argument_is_one_line_that_says_what_to_do(
    name: str, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        generate(build(name), **given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("chunk_samples", [0, -1, 2.0])
def test_a_chunk_has_at_least_one_sample(chunk_samples: Any) -> None:
    with pytest.raises(ValueError, match=f"chunk_samples={chunk_samples} must be an integer"):
        stream(build("plain"), n_samples=5, chunk_samples=chunk_samples)


def test_a_state_of_another_model_or_beside_a_prime_is_refused() -> None:
    model = build("plain")
    _, state = generate(model, n_samples=3, batch_size=2, return_state=True)
    with pytest.raises(ValueError, match="prime and state are both given"):
        generate(model, n_samples=3, state=state, prime=PRIME)
    with pytest.raises(ValueError, match="arguments disagree on the number of rows: seed 3, state"):
        generate(model, n_samples=3, state=state, seed=[1, 2, 3])
    with pytest.raises(ValueError, match="state does not fit this model of 2 rows; give what"):
        generate(build("speakers"), n_samples=3, speaker=0, state=state)
    _, of_one_row = generate(model, n_samples=3, return_state=True)
    with pytest.raises(ValueError, match="disagree on the number of rows: seed 2, state 1; give"):
        generate(model, n_samples=3, state=of_one_row, seed=[1, 2])


def test_lengths_and_seeds_are_also_arrays_and_tensors() -> None:
    model, lengths, seeds = build("plain"), [5, 3], [7, 4]
    expected = generate(model, n_samples=lengths, seed=seeds)
    for make in (np.array, torch.tensor):
        assert torch.equal(generate(model, n_samples=make(lengths), seed=make(seeds)), expected)
    for one in (np.array(7), torch.tensor(7)):
        assert torch.equal(generate(model, n_samples=5, seed=one), expected[:1])
    with pytest.raises(
        ValueError, match=r"n_samples=tensor\(\[5\., 3\.\]\) must be an integer, or"
    ):
        generate(model, n_samples=torch.tensor([5.0, 3.0]))
    with pytest.raises(ValueError, match="seed=.* must be an integer, or one for each row"):
        generate(model, n_samples=5, seed=torch.zeros(2, 2, dtype=torch.long))


def test_what_is_no_model_is_named() -> None:
    with pytest.raises(TypeError, match=r"model='prompts-16k' is a name; load it: wavenet\.load\("):
        generate("prompts-16k", n_samples=5)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="model is a Linear, expected a WaveNet"):
        generate(torch.nn.Linear(1, 1), n_samples=5)  # type: ignore[call-overload]


def test_arguments_are_checked_before_the_first_chunk_is_asked_for() -> None:
    with pytest.raises(ValueError, match="temperature must be above 0"):
        stream(build("plain"), temperature=-1)
