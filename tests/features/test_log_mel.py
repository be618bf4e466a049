"""wavenet.features: equal to the libraries and models it names, and frames lie where it says."""

from __future__ import annotations

import dataclasses
import math
import warnings
from typing import Any

import librosa
import numpy as np
import pytest
import torch
import torchaudio
from torch import Tensor

from wavenet.features import MelConfig, log_mel, log_mel_rows, mel_filterbank

PRESETS = ["wavenet-16k", "tacotron2", "hifigan", "bigvgan-24k"]
LENGTHS = [16000, 16001, 22050, 5 * 256, 513]  # multiples of a hop and not, short and long
# float32 rounding of a 1024-point transform is some 1e-6 of the frame's norm; noise leaves no band
# so far below it that its logarithm would differ by more than this.
ATOL_FLOAT32 = 1e-4
# The same in float64, and the reference's own rounding.
ATOL_FLOAT64 = 1e-10


def noise(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return 0.1 * torch.randn(*shape, generator=generator, dtype=dtype)


def librosa_filters(config: MelConfig) -> np.ndarray[Any, Any]:
    return librosa.filters.mel(
        sr=config.sample_rate,
        n_fft=config.n_fft,
        n_mels=config.n_mels,
        fmin=config.f_min_hz,
        fmax=config.f_max_hz,
        htk=config.mel_scale == "htk",
        norm=config.mel_norm,
        dtype=np.float64,
    )


def by_hand(x: Tensor, config: MelConfig) -> np.ndarray[Any, Any]:
    """The definition, frame by frame in numpy and float64, with librosa's filters."""
    n, hop = config.n_fft, config.hop_samples
    pad = (n - hop) // 2 if config.padding == "hop" else n // 2
    frames = math.ceil(len(x) / hop) if config.padding == "hop" else len(x) // hop + 1
    padded = np.pad(x.double().numpy(), (pad, pad + hop), mode="reflect")
    window = np.zeros(n)
    begin = (n - config.win_samples) // 2
    window[begin : begin + config.win_samples] = np.hanning(config.win_samples + 1)[:-1]
    spectra = [np.fft.rfft(window * padded[f * hop : f * hop + n]) for f in range(frames)]
    powers = np.abs(np.stack(spectra, 1)) ** 2 + config.power_epsilon
    mel = librosa_filters(config) @ powers ** (config.power / 2)
    log = np.log if config.log == "ln" else np.log10
    return log(np.maximum(mel, config.floor))


# --- equal to others ---


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("preset", PRESETS)
def test_rows_are_those_of_the_definition(preset: str, length: int) -> None:
    config = MelConfig.preset(preset)
    x = noise(length)
    rows = log_mel(x, config)
    assert rows.shape == (config.n_mels, config.frames(length))
    np.testing.assert_allclose(rows, by_hand(x, config), rtol=0, atol=ATOL_FLOAT64)
    single = log_mel(x.float(), config)
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single, rows, rtol=0, atol=ATOL_FLOAT32)


@pytest.mark.parametrize(
    "changes",
    [
        {"mel_scale": "htk", "mel_norm": None},
        {"power": 2.0, "log": "log10", "power_epsilon": 1e-6},
        {"win_samples": 701, "hop_samples": 161, "padding": "center", "f_min_hz": 1100.0},
    ],
)
def test_every_setting_follows_its_definition(changes: dict[str, Any]) -> None:
    config = dataclasses.replace(MelConfig(), **changes)
    x = noise(9000)
    np.testing.assert_allclose(log_mel(x, config), by_hand(x, config), rtol=0, atol=ATOL_FLOAT64)


@pytest.mark.slow  # what else than filters librosa makes, it compiles first: for 15 s, once
@pytest.mark.parametrize("preset", PRESETS)
def test_rows_are_those_of_librosa(preset: str) -> None:
    config = MelConfig.preset(preset)
    x = noise(20 * config.hop_samples)
    pad = config.n_fft // 2 if config.padding == "center" else (1024 - config.hop_samples) // 2
    mel = librosa.feature.melspectrogram(
        y=np.pad(x.numpy(), pad, mode="reflect"),
        sr=config.sample_rate,
        n_fft=config.n_fft,
        win_length=config.win_samples,
        hop_length=config.hop_samples,
        power=config.power,
        center=False,
        n_mels=config.n_mels,
        fmin=config.f_min_hz,
        fmax=config.f_max_hz,
        dtype=np.float64,
    )
    # Without HiFi-GAN's epsilon, which librosa does not have.
    ours = log_mel(x, dataclasses.replace(config, power_epsilon=0.0))
    np.testing.assert_allclose(ours, np.log(np.maximum(mel, 1e-5)), rtol=0, atol=ATOL_FLOAT64)


@pytest.mark.parametrize("length", LENGTHS)
def test_rows_are_those_of_torchaudio(length: int) -> None:
    config = MelConfig.preset("tacotron2")
    transform = torchaudio.transforms.MelSpectrogram(
        sample_rate=22050,
        n_fft=1024,
        hop_length=256,
        f_max=8000.0,
        n_mels=80,
        power=1.0,
        norm="slaney",
        mel_scale="slaney",
    )
    x = noise(length).float()
    theirs = transform(x).clamp(min=1e-5).log()
    assert torch.allclose(log_mel(x, config), theirs, rtol=0, atol=2 * ATOL_FLOAT32)


@pytest.mark.parametrize(
    ("preset", "rate", "bands", "f_max"),
    [("hifigan", 22050, 80, 8000), ("bigvgan-24k", 24000, 100, None)],
)
def test_the_hifigan_preset_is_hifigans_pipeline(
    preset: str, rate: int, bands: int, f_max: int | None
) -> None:
    """jik876/hifi-gan, meldataset.py and config_v1.json: its steps and numbers, one by one.

    NVIDIA/BigVGAN has the same steps, with the numbers of bigvgan_v2_24khz_100band_256x.
    """
    x = noise(3, 40 * 256 + 100)
    filters = librosa.filters.mel(sr=rate, n_fft=1024, n_mels=bands, fmin=0, fmax=f_max)
    padded = torch.nn.functional.pad(x[:, None], (384, 384), mode="reflect")[:, 0]
    window = torch.hann_window(1024, dtype=torch.float64)
    spectrum = torch.view_as_real(
        torch.stft(padded, 1024, 256, 1024, window, center=False, return_complex=True)
    )
    magnitude = torch.sqrt(spectrum.pow(2).sum(-1) + 1e-9)
    expected = torch.log(torch.clamp(torch.from_numpy(filters).double() @ magnitude, min=1e-5))
    ours = log_mel(x, MelConfig.preset(preset))
    assert expected.shape[-1] == 40
    assert ours.shape[-1] == 41  # and a frame for the last 100 samples
    # Their filters are rounded to float32: 6e-8 of each weight.
    assert torch.allclose(ours[..., :40], expected, rtol=0, atol=1e-6)


def test_the_tacotron2_preset_is_nvidias_pipeline() -> None:
    """NVIDIA/tacotron2, stft.py, layers.py and hparams.py: the transform as a convolution."""
    x = noise(2, 12345)
    k, n = torch.arange(513)[:, None], torch.arange(1024)[None]
    angle = 2 * math.pi * (k * n % 1024) / 1024
    basis = torch.cat((angle.double().cos(), -angle.double().sin()))
    basis = basis * torch.hann_window(1024, dtype=torch.float64)
    padded = torch.nn.functional.pad(x[:, None], (512, 512), mode="reflect")
    real, imaginary = torch.conv1d(padded, basis[:, None], stride=256).chunk(2, dim=1)
    magnitude = torch.sqrt(real**2 + imaginary**2)
    filters = librosa.filters.mel(sr=22050, n_fft=1024, n_mels=80, fmin=0.0, fmax=8000.0)
    expected = torch.log(torch.clamp(torch.from_numpy(filters).double() @ magnitude, min=1e-5))
    # The angles and filters are float32: 2e-7 of each term.
    assert torch.allclose(log_mel(x, MelConfig.preset("tacotron2")), expected, rtol=0, atol=1e-5)


# --- the position and the samples of a frame ---


@pytest.mark.parametrize("preset", PRESETS)
def test_a_click_is_loudest_in_the_frame_whose_centre_it_is(preset: str) -> None:
    config = MelConfig.preset(preset)
    for frame in (0, 1, 7, 19):
        x = torch.zeros(20 * config.hop_samples)
        x[config.centre_samples + frame * config.hop_samples] = 1.0
        assert log_mel(x, config).exp().sum(0).argmax() == frame


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("frequency_hz", [300.0, 1000.0, 4000.0])
def test_a_tone_is_loudest_in_the_band_around_it(preset: str, frequency_hz: float) -> None:
    # With bands of equal height: those of equal area favour a neighbour that is narrower.
    config = dataclasses.replace(MelConfig.preset(preset), mel_norm=None)
    time_s = torch.arange(8000) / config.sample_rate
    band = log_mel(torch.sin(2 * math.pi * frequency_hz * time_s), config)[:, 10].argmax()
    filters = mel_filterbank(config)
    bins_hz = torch.arange(filters.shape[1]) * config.sample_rate / config.n_fft
    passed = bins_hz[filters[band] > 0]
    resolution_hz = config.sample_rate / config.n_fft
    assert passed.min() - resolution_hz <= frequency_hz <= passed.max() + resolution_hz


def test_digital_silence_is_the_floor() -> None:
    for preset in ("wavenet-16k", "tacotron2"):
        assert (log_mel(torch.zeros(5000), MelConfig.preset(preset)) == math.log(1e-5)).all()


@pytest.mark.parametrize("preset", PRESETS)
def test_frames_counts_the_rows(preset: str) -> None:
    config = MelConfig.preset(preset)
    hop = config.hop_samples
    lengths = [1, 2, 3, hop - 1, hop, hop + 1, 10 * hop - 1, 10 * hop, 10 * hop + 1]
    counts = [config.frames(length) for length in lengths]
    assert counts == [log_mel(noise(length), config).shape[-1] for length in lengths]
    expected = [1, 1, 1, 1, 1, 2, 10, 10, 11]
    assert counts == (expected if config.padding == "hop" else [1, 1, 1, 1, 2, 2, 10, 11, 11])


@pytest.mark.parametrize("length", [1, 2, 3, 100, 411])
@pytest.mark.parametrize("preset", PRESETS)
def test_a_signal_shorter_than_its_mirror_is_mirrored_again(preset: str, length: int) -> None:
    config = MelConfig.preset(preset)
    x = noise(length)
    np.testing.assert_allclose(log_mel(x, config), by_hand(x, config), rtol=0, atol=ATOL_FLOAT64)


# --- rows of a part ---


@pytest.mark.parametrize("length", [1, 150, 700, 8001])
@pytest.mark.parametrize("preset", PRESETS)
def test_rows_of_a_part_are_the_rows_of_the_whole(preset: str, length: int) -> None:
    config = MelConfig.preset(preset)
    x = noise(length)
    whole = log_mel(x, config)
    n_frames = whole.shape[-1]
    for first in range(-3, n_frames + 3):
        for count in (1, 2, 5, n_frames + 7):
            rows = log_mel_rows(x, config, first, count)
            wanted = torch.arange(first, first + count).clamp(0, n_frames - 1)
            assert torch.allclose(rows, whole[:, wanted], rtol=0, atol=ATOL_FLOAT64)


def test_rows_of_a_part_depend_on_no_other_samples() -> None:
    config = MelConfig()
    x = noise(20000).requires_grad_()
    (gradient,) = torch.autograd.grad(log_mel_rows(x, config, 40, 3).sum(), x)
    nonzero = gradient.nonzero().flatten()
    centres = config.centre_samples + config.hop_samples * torch.tensor([40, 42])
    half = config.win_samples // 2
    assert nonzero.min() > centres[0] - half - 1
    assert nonzero.max() < centres[1] + half
    with pytest.raises(ValueError, match="count is 0; request at least one frame"):
        log_mel_rows(x, config, 40, 0)


# --- as a part of a network ---


def test_leading_axes_are_kept_and_rows_are_independent() -> None:
    config = MelConfig()
    x = noise(2, 3, 1000)
    rows = log_mel(x, config)
    assert rows.shape == (2, 3, 80, 5)
    assert torch.allclose(rows[1, 2], log_mel(x[1, 2], config), rtol=0, atol=ATOL_FLOAT64)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_gradient_is_that_of_finite_differences(preset: str) -> None:
    config = dataclasses.replace(MelConfig.preset(preset), n_mels=3)
    x = noise(300).requires_grad_()
    assert torch.autograd.gradcheck(lambda signal: log_mel(signal, config), x)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_gradient_of_silence_is_finite(preset: str) -> None:
    x = torch.zeros(3000, requires_grad=True)
    (gradient,) = torch.autograd.grad(log_mel(x, MelConfig.preset(preset)).sum(), x)
    assert torch.isfinite(gradient).all()


def test_half_precision_and_autocast_compute_in_float32() -> None:
    config = MelConfig()
    x = noise(4000).bfloat16()
    expected = log_mel(x.float(), config)
    assert torch.equal(log_mel(x, config), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(log_mel(x.float(), config), expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("preset", PRESETS)
def test_a_cuda_device_gives_the_rows_of_the_cpu(preset: str) -> None:
    config = MelConfig.preset(preset)
    x = noise(4, 30000)
    rows = log_mel(x.cuda(), config)
    assert rows.device.type == "cuda"
    assert torch.allclose(rows.cpu(), log_mel(x, config), rtol=0, atol=ATOL_FLOAT64)
    single = log_mel(x.float().cuda(), config, mel_filterbank(config))
    assert torch.allclose(single.cpu().double(), rows.cpu(), rtol=0, atol=ATOL_FLOAT32)


def test_a_kept_filterbank_is_used_and_one_of_another_shape_refused() -> None:
    config = MelConfig()
    x = noise(4000).float()
    kept = mel_filterbank(config)
    assert torch.equal(log_mel(x, config, kept), log_mel(x, config))
    # A band ten times as loud is ln 10 higher.
    difference = log_mel(x, config, 10 * kept) - log_mel(x, config)
    assert torch.allclose(difference, torch.tensor(math.log(10)), atol=1e-5)
    with pytest.raises(ValueError, match=r"shape \[40, 513\], the config needs \[80, 513\]"):
        log_mel(x, config, kept[:40])


def test_wrong_signals_are_refused() -> None:
    with pytest.raises(TypeError, match=r"x is a ndarray; give a tensor.*torch\.from_numpy"):
        log_mel(np.zeros(100, np.float32), MelConfig())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"x is torch\.int16; give floats"):
        log_mel(torch.zeros(100, dtype=torch.int16), MelConfig())
    with pytest.raises(ValueError, match=r"x has shape \[2, 0\]"):
        log_mel(torch.zeros(2, 0), MelConfig())
    for x, found in ((np.zeros(100, "float32"), "ndarray"), ([0.0] * 100, "list")):
        with pytest.raises(TypeError, match=f"x is a {found}; give a tensor, such as"):
            log_mel(x, MelConfig())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="config='hifigan' is no MelConfig; give one, such as"):
        log_mel(torch.zeros(100), "hifigan")  # type: ignore[arg-type]


# --- filters ---


@pytest.mark.parametrize("norm", ["slaney", None])
@pytest.mark.parametrize("scale", ["slaney", "htk"])
@pytest.mark.parametrize("preset", PRESETS)
def test_filters_are_those_of_librosa_and_torchaudio(preset: str, scale: Any, norm: Any) -> None:
    config = dataclasses.replace(MelConfig.preset(preset), mel_scale=scale, mel_norm=norm)
    ours = mel_filterbank(config, dtype=torch.float64)
    np.testing.assert_allclose(ours, librosa_filters(config), rtol=1e-9, atol=1e-12)
    theirs = torchaudio.functional.melscale_fbanks(
        n_freqs=config.n_fft // 2 + 1,
        f_min=config.f_min_hz,
        f_max=config.f_max_hz,
        n_mels=config.n_mels,
        sample_rate=config.sample_rate,
        norm=norm,
        mel_scale=scale,
    ).T
    height = 1.0 if norm is None else float(ours.max())
    # torchaudio computes edges in float32: 8000 Hz to 5e-4 Hz, over bands of some 30 Hz.
    assert (mel_filterbank(config) - theirs).abs().max() < 1e-4 * height


def test_empty_bands_cause_a_warning() -> None:
    config = dataclasses.replace(MelConfig(), n_mels=400)
    with pytest.warns(UserWarning, match=r"\d+ of 400 mel bands are empty; lower n_mels"):
        mel_filterbank(config)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for preset in PRESETS:
            mel_filterbank(MelConfig.preset(preset))


def test_no_signals_have_no_mels() -> None:
    config = MelConfig()
    for n in (1, 4000):
        assert log_mel(torch.zeros(0, n), config).shape == (0, 80, config.frames(n))
