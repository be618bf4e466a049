"""wavenet.training.module: what the loss of a window is, and what it has nothing to do with."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import default_collate

from wavenet import MelConfig, WaveNet, WaveNetConfig, generate, log_mel
from wavenet.data import Corpus, Utterance, WindowPlan, Windows
from wavenet.training import TrainingConfig
from wavenet.training.loss import bits_per_sample, window_log_prob
from wavenet.training.module import WaveNetTraining
from wavenet.training.schedule import Schedule, make_optimizer

RATE = 8000
HOP = 40
LENGTH = 200

Batch = dict[str, Tensor]


def mel_config(padding: str) -> MelConfig:
    return MelConfig(
        sample_rate=RATE,
        n_fft=128,
        win_samples=100,
        hop_samples=HOP,
        n_mels=8,
        f_max_hz=RATE / 2,
        padding="hop" if padding == "hop" else "center",
    )


def make_model(**changes: object) -> WaveNet:
    """In float64, with weights so large that the output depends on every input."""
    small = {"layers_per_stack": 5, "stacks": 2, "residual_channels": 8, "skip_channels": 8}
    model = WaveNet(WaveNetConfig.from_dict({"sample_rate": RATE, **small, **changes}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3)
    return model.double()


def utterance(n_samples: int, speaker: str = "") -> Utterance:
    draw = np.random.default_rng(n_samples)
    samples = draw.normal(0, 6000, n_samples).astype(np.int16)
    return Utterance(f"{speaker}/{n_samples}", samples, speaker)


def windows_of(model: WaveNet, *parts: Utterance) -> Windows:
    plan = WindowPlan.of(model, LENGTH / RATE)
    return Windows(Corpus(parts, RATE), plan, n_windows=20_000, seed=0)


def index_of(windows: Windows, start: int) -> int:
    """A window that begins at this sample."""
    return next(i for i in range(len(windows)) if windows.place(i)[1] == start)


def in_float64(windows: Windows, *indices: int) -> Batch:
    """The windows as a batch, with their mels computed in float64 from the same samples."""
    items, plan = [windows[i] for i in indices], windows.plan
    for i, item in zip(indices, items, strict=True):
        if plan.mel is not None:
            part, start = windows.place(i)
            whole = log_mel(part.audio(0, len(part.samples)).double(), plan.mel)
            first = (start - plan.warm_up) // plan.hop - plan.context_frames
            rows = torch.arange(first, first + item["mel"].shape[-1])
            item["mel"] = whole[:, rows.clamp(0, whole.shape[1] - 1)]
    batch: Batch = default_collate(items)
    return {
        key: value.double() if value.is_floating_point() else value for key, value in batch.items()
    }


def whole_log_prob(model: WaveNet, part: Utterance, speaker: Tensor | None = None) -> Tensor:
    """log p of every sample of a recording [T]: one parallel pass from silence over all of it."""
    x = part.audio(0, len(part.samples)).double()[None]
    quantized = model.distribution.quantize(x)[:, None]
    mel = None if model.config.mel is None else log_mel(x, model.config.mel)
    cond = model.condition(mel, speaker, n_samples=x.shape[-1])
    first = None if cond is None else cond[..., :1]
    # what generation begins with: the answer to silence under the first column of conditioning
    silence = torch.zeros(1, 1, 1, dtype=x.dtype)
    beginning = model.stream(silence, model.warm_state(1, first), first)[0]
    params = torch.cat([beginning, model(quantized, mel, speaker)[..., :-1]], dim=-1)
    return model.distribution.log_prob(params, x)[0]


@pytest.mark.parametrize("padding", [None, "hop", "center"])
@pytest.mark.parametrize("distribution", ["mu_law", "logistic_mixture"])
@pytest.mark.parametrize("n_samples", [1, 57, 1013, 1200])
def test_a_window_has_the_log_probabilities_of_the_whole_file(
    padding: str | None, distribution: str, n_samples: int
) -> None:
    mel = {} if padding is None else {"mel": mel_config(padding)}
    model = make_model(distribution=distribution, **mel)
    part = utterance(n_samples)
    windows = windows_of(model, part)
    with torch.no_grad():
        whole = whole_log_prob(model, part)
        last = max(0, n_samples - LENGTH)
        last += -last % windows.plan.hop
        for i in [index_of(windows, 0), index_of(windows, last), *range(8)]:
            batch, start = in_float64(windows, i), windows.place(i)[1]
            log_prob, mask = window_log_prob(model, batch, windows.plan)
            n = min(LENGTH, n_samples - start)
            assert mask.tolist() == [[1.0] * n + [0.0] * (LENGTH - n)]
            torch.testing.assert_close(log_prob[0, :n], whole[start : start + n], rtol=0, atol=1e-9)


def test_each_row_of_a_batch_hears_its_own_mel_and_speaker() -> None:
    model = make_model(mel=mel_config("hop"), speakers=2, speaker_names=["john", "mary"])
    parts = utterance(700, "john"), utterance(900, "mary")
    windows = windows_of(model, *parts)
    with torch.no_grad():
        whole = {
            part.name: whole_log_prob(model, part, torch.tensor([i]))
            for i, part in enumerate(parts)
        }
        log_prob, mask = window_log_prob(model, in_float64(windows, *range(12)), windows.plan)
    for i in range(12):
        part, start = windows.place(i)
        n = int(mask[i].sum())
        expected = whole[part.name][start : start + n]
        torch.testing.assert_close(log_prob[i, :n], expected, rtol=0, atol=1e-9)
    assert {windows.place(i)[0].name for i in range(12)} == whole.keys()


@pytest.mark.parametrize("distribution", ["mu_law", "logistic_mixture", "gaussian"])
def test_the_loss_has_nothing_to_do_with_what_lies_outside_the_recording(distribution: str) -> None:
    model = make_model(distribution=distribution)
    windows = windows_of(model, utterance(57))
    clean = in_float64(windows, 0)
    dirty = {**clean, "x": torch.where(clean["mask"] > 0, clean["x"], 0.7)}
    assert not torch.equal(clean["x"], dirty["x"])
    with torch.no_grad():
        expected = -whole_log_prob(model, utterance(57)).mean() / math.log(2)
        for batch in (clean, dirty):
            bits = bits_per_sample(model, batch, windows.plan)
            torch.testing.assert_close(bits, expected, rtol=0, atol=1e-9)


def test_in_a_batch_every_sample_weighs_alike() -> None:
    model = make_model()
    windows = windows_of(model, utterance(57), utterance(900))
    short = next(i for i in range(200) if windows.place(i)[0].name == "/57")
    long = index_of(windows, 300)
    with torch.no_grad():
        both, one, other = (
            bits_per_sample(model, in_float64(windows, *rows), windows.plan)
            for rows in ((short, long), (short,), (long,))
        )
    torch.testing.assert_close(both, (57 * one + LENGTH * other) / (57 + LENGTH))


def test_the_network_hears_quantised_samples_and_predicts_what_was_recorded() -> None:
    model = make_model(distribution="mu_law")
    windows = windows_of(model, utterance(900))
    batch = in_float64(windows, 0)
    quantised = {**batch, "x": model.distribution.quantize(batch["x"]) * batch["mask"]}
    assert (quantised["x"] - batch["x"]).abs().max() > 0.005
    with torch.no_grad():
        rough, fine = (window_log_prob(model, b, windows.plan)[0] for b in (quantised, batch))
    assert torch.equal(rough, fine)  # a sample and its quantised value are one class


@pytest.mark.parametrize("distribution", ["mu_law", "logistic_mixture", "gaussian"])
def test_what_generation_hears_is_what_training_makes_of_it(distribution: str) -> None:
    model = make_model(distribution=distribution)
    generated = generate(model, n_samples=500, seed=0)
    assert torch.equal(model.distribution.quantize(generated), generated)
    assert torch.equal(
        (generated * 32768).round() / 32768, generated
    )  # nor does a 16-bit file change it


# --- the module ---


def training(model: WaveNet, **changes: object) -> WaveNetTraining:
    settings = {"learning_rate": 0.01, "warmup_steps": 4, "max_steps": 20, **changes}
    plan = WindowPlan.of(model, LENGTH / RATE)
    return WaveNetTraining(model, plan, TrainingConfig(**settings))  # type: ignore[arg-type]


def test_the_last_residual_projection_is_frozen_and_everything_else_learns() -> None:
    model = make_model(mel=mel_config("hop"), speakers=1, speaker_names=["john"])
    windows = windows_of(model, utterance(900, "john"))
    training(model)
    bits_per_sample(model, in_float64(windows, 0, 1, 2), windows.plan).backward()
    without_gradient = {
        name for name, parameter in model.named_parameters() if parameter.grad is None
    }
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    last = f"stack.blocks.{len(model.stack.blocks) - 1}.residual_projection"
    assert without_gradient == frozen == {f"{last}.weight", f"{last}.bias"}
    for name, parameter in model.named_parameters():
        assert name in frozen or bool((parameter.grad != 0).any()), name


def test_the_learning_rate_rises_linearly_and_falls_as_a_cosine_to_zero() -> None:
    module = training(make_model())
    optimizer, schedule = make_optimizer(module, module.config), Schedule(module.config)
    rates = []
    for step in range(21):
        schedule.apply(optimizer, step)
        rates.append(optimizer.param_groups[0]["lr"])
    rising = [0.0025, 0.005, 0.0075, 0.01]
    falling = [0.005 * (1 + math.cos(math.pi * i / 16)) for i in range(17)]
    assert rates == pytest.approx(rising + falling)


def test_a_run_shorter_than_its_warm_up_still_rises() -> None:
    module = training(make_model(), max_steps=2, warmup_steps=4)
    optimizer = make_optimizer(module, module.config)
    Schedule(module.config).apply(optimizer, 0)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.0025)
