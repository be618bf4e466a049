"""A model that may do without its conditioning: its input then, and how it learns to."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from wavenet import MelConfig, WaveNet, WaveNetConfig, generate
from wavenet.data import Corpus, Utterance, WindowPlan, Windows
from wavenet.training.config import ConfigError, TrainingConfig
from wavenet.training.module import bits_per_sample

RATE = 16000
MEL = MelConfig(n_fft=128, win_samples=100, hop_samples=50, n_mels=8)
SMALL = {"layers_per_stack": 4, "stacks": 1, "residual_channels": 6, "skip_channels": 6}
CONFIG = WaveNetConfig(
    **SMALL,
    mel=MEL,
    distribution="logistic_mixture",
    distribution_size=2,
    linear_prediction=6,
    pitch_taps=1,
    speakers=2,
    speaker_names=("a", "b"),
    unconditional=True,
)


def make_model(config: WaveNetConfig = CONFIG) -> WaveNet:
    torch.manual_seed(0)
    model = WaveNet(config).eval()
    with torch.no_grad():
        model.head[3].weight.mul_(5)
        model.speaker_embedding.table.weight.mul_(10)
    return model


def corpus() -> Corpus:
    draw = np.random.default_rng(0)
    parts = [draw.normal(0, 3000, n).astype(np.int16) for n in (9000, 12000)]
    return Corpus(tuple(Utterance(n, x, n) for n, x in zip("ab", parts, strict=True)), RATE)


def windows(model: WaveNet, n: int = 400, **drop: float) -> Windows:
    return Windows(corpus(), WindowPlan.of(model, 0.02), n_windows=n, seed=3, drop=drop)


def test_without_mel_it_speaks_the_same_for_any_duration_and_engine() -> None:
    model = make_model()
    assert model.condition().shape == (1, model.cond_channels, 1)
    pytest.importorskip("numba", reason="the CPU engine is compiled by numba")
    long = generate(model, n_samples=400, seed=1, engine="cpu")
    slow = generate(model, n_samples=150, seed=1, engine="eager")
    assert float((long[:, :150] - slow).abs().max()) < 1e-4
    assert float(long.std()) > 0


@pytest.mark.parametrize("engine", ["cpu", "eager"])
def test_speaker_and_mel_may_each_be_left_out(engine: str) -> None:
    if engine == "cpu":
        pytest.importorskip("numba", reason="the CPU engine is compiled by numba")
    model, mel = make_model(), torch.randn(8, 4)
    made = [
        generate(model, n_samples=200, seed=1, engine=engine, mel=given, speaker=speaker)
        for given in (None, mel)
        for speaker in (None, "a", "b")
    ]
    for i, one in enumerate(made):
        assert not any(torch.equal(one, other) for other in made[:i])


def test_a_model_of_speakers_alone_may_speak_as_none() -> None:
    model = make_model(WaveNetConfig(**SMALL, speakers=2, unconditional=True))
    cond = model.condition()
    assert cond is not None
    assert bool((cond == 0).all())
    assert generate(model, n_samples=20, seed=0).shape == (1, 20)


def test_dropped_rows_hear_what_a_call_without_their_conditioning_hears() -> None:
    model, mel, speaker = make_model(), torch.randn(2, 8, 3), torch.tensor([0, 1])
    kept = torch.tensor([False, True])
    mixed = model.condition_frames(mel, speaker, kept={"mel": kept, "speaker": kept})
    alone = model.condition_frames()
    whole = model.condition_frames(mel, speaker)
    assert torch.allclose(mixed[0], alone[0].expand_as(mixed[0]))
    assert torch.allclose(mixed[1], whole[1])


def test_a_dropped_mel_has_no_influence_on_the_loss() -> None:
    model = make_model()
    made = windows(model, mel=1.0, speaker=1.0)
    batch = made.__getitems__(list(range(8))).whole
    assert not batch["mel_kept"].any()
    assert not batch["speaker_kept"].any()
    other = batch | {"mel": torch.randn_like(batch["mel"]), "speaker": 1 - batch["speaker"]}
    losses = [bits_per_sample(model, given, made.plan) for given in (batch, other)]
    assert torch.equal(*losses)
    kept = batch | {key: torch.ones(8, dtype=torch.bool) for key in ("mel_kept", "speaker_kept")}
    assert not torch.equal(bits_per_sample(model, kept, made.plan), losses[0])


def test_what_is_dropped_is_a_function_of_seed_and_index_alone() -> None:
    model = make_model()
    made = windows(model, mel=0.3, speaker=0.5)
    together = made.__getitems__(list(range(400))).whole
    for index in (0, 7, 399):
        alone = made[index]
        for key in ("mel_kept", "speaker_kept"):
            assert bool(alone[key]) == bool(together[key][index])
    mel, speaker = together["mel_kept"].double(), together["speaker_kept"].double()
    # Shares of 400 draws, and their correlation, within four standard deviations.
    assert float(mel.mean()) == pytest.approx(0.7, abs=4 * math.sqrt(0.21 / 400))
    assert float(speaker.mean()) == pytest.approx(0.5, abs=4 * math.sqrt(0.25 / 400))
    assert abs(float(torch.corrcoef(torch.stack([mel, speaker]))[0, 1])) < 4 / math.sqrt(400)
    places = [made.place(i)[1] for i in range(50)]
    assert places == [windows(model).place(i)[1] for i in range(50)]


def test_models_that_need_their_conditioning_get_no_word_of_dropping() -> None:
    model = make_model(CONFIG.replace(unconditional=False))
    assert "mel_kept" not in windows(model, mel=0.5)[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"linear_prediction": -1}, "linear_prediction=-1 must be an integer, 0 for none"),
        ({"linear_prediction": 2.0}, "linear_prediction=2.0 must be an integer"),
        ({"linear_prediction": 64}, "must be less than half of n_fft=128"),
        ({"pitch_taps": 4}, "pitch_taps=4 must be odd"),
        ({"linear_prediction": 0}, "pitch_taps=1 must be odd, beside a linear_prediction"),
        ({"mel": None, "cond_channels": None}, "linear_prediction=6 needs a mel"),
        ({"distribution": "mu_law", "distribution_size": 256}, "choose distribution logistic_mix"),
        (
            {"mel": None, "linear_prediction": 0, "pitch_taps": 0, "speakers": 0}
            | {"speaker_names": ()},
            "unconditional=True, but the model has no mel, features or speakers",
        ),
    ],
)
def test_predictors_and_models_that_cannot_be_are_refused(
    changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        CONFIG.replace(**changes)


@pytest.mark.parametrize("key", ["drop_mel", "drop_speaker"])
def test_shares_lie_within_0_to_1(key: str) -> None:
    with pytest.raises(ConfigError, match=f"{key}=1.5 must lie within 0 to 1"):
        TrainingConfig(**{key: 1.5})


def test_a_model_is_sampled_at_its_own_temperature_unless_another_is_asked_for() -> None:
    model = make_model()
    cool = make_model(CONFIG.replace(temperature=0.5))
    asked = generate(model, n_samples=50, seed=1, temperature=0.5, engine="eager")
    assert torch.equal(generate(cool, n_samples=50, seed=1, engine="eager"), asked)
    warm = generate(cool, n_samples=50, seed=1, temperature=1.0, engine="eager")
    assert torch.equal(warm, generate(model, n_samples=50, seed=1, engine="eager"))
    assert not torch.equal(warm, asked)


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.inf, math.nan])
def test_temperatures_that_cannot_be_are_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match="must be above 0, such as 0.9"):
        CONFIG.replace(temperature=temperature)
