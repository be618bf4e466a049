"""Copies of a recording by classical means, to be measured beside a model's.

- ``griffin_lim``: from the model's own log-mel, what no network has learnt of audio: the linear
  spectrum by non-negative least squares, the phase by the fast Griffin-Lim algorithm (Perraudin et
  al. 2013), both librosa's.
- ``world``: the vocoder WORLD (Morise et al. 2016) through pyworld. It does not start from a mel:
  it analyses F0, envelope and aperiodicity every 5 ms at the full frequency resolution, which is
  more than any mel holds.
- ``pulses``, ``noise``: the refinement without a network (``without_network``), with as many passes
  as the model's: what a network is worth shows beside them.
- ``world_refined``: WORLD's copy, refined towards the model's mel with as many passes.
- ``quantiser``: the recording on the values that the model can draw; no copy of the model's can
  be expected to be nearer. ``mu_law_256`` is that for 8 bits, as the usual reference.
"""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from wavenet.distributions import MuLaw
from wavenet.evaluation.metrics import INSTALL
from wavenet.evaluation.pitch import F0_MAX_HZ, F0_MIN_HZ, FRAME_S, MIN_DURATION_S, world
from wavenet.evaluation.without_network import synthesize_without_network
from wavenet.features.mel_config import MelConfig
from wavenet.model import WaveNet
from wavenet.nn.refine import refine

GRIFFIN_LIM_ITERATIONS = 60
_NNLS_ITERATIONS = 50  # magnitudes need fewer; powers, of wider range, would take minutes to end
MU_LAW = MuLaw(256)

REFINED = ("world_refined", "pulses", "noise")
"""Keys of the baselines that are refined as the model's copies are."""


@dataclass(frozen=True)
class System:
    """A system that makes copies of recordings.

    Attributes:
        key: its name in ``report.json``.
        title: in tables and on the page.
        note: what it is given of the recording.
    """

    key: str
    title: str
    note: str


def baseline_systems(model: WaveNet, passes: int = 0) -> dict[str, System]:
    """Return the baselines that make sense beside a model, by key.

    Args:
        model: any ``WaveNet``.
        passes: of refinement that the model's copies get; without any there are no refined ones.
    """
    quantiser, note = (
        "16-bit grid",
        "The quantiser alone: the recording itself, in the model's 16 bits; an upper bound.",
    )
    if isinstance(model.distribution, MuLaw):
        quantiser = f"mu-law {model.distribution.classes}"
        note = "The quantiser alone: the recording to the model's classes and back, a ceiling."
    found = [
        System(
            "griffin_lim",
            "Griffin-Lim",
            "From the model's own log-mel: non-negative least squares, then "
            f"{GRIFFIN_LIM_ITERATIONS} iterations of fast Griffin-Lim (librosa).",
        ),
        System(
            "world",
            "WORLD",
            "Harvest, CheapTrick and D4C (pyworld). It analyses the recording every 5 ms at full "
            "frequency resolution, more finely than a mel, so it is given more than the model.",
        ),
        System("quantiser", quantiser, note),
    ]
    if passes:
        found[2:2] = _refined_systems(passes)
    if model.distribution != MU_LAW:
        found.append(
            System("mu_law_256", "mu-law 256", "The recording to 8 bits and back, for reference.")
        )
    return {system.key: system for system in found}


def _refined_systems(passes: int) -> list[System]:
    """Systems that are refined as the model's copies are."""
    return [
        System(
            "world_refined",
            "WORLD, refined",
            f"WORLD's copy, refined towards the model's mel with {passes} passes.",
        ),
        System(
            "pulses",
            "no network: pulses, refined",
            "Pulses at the mel's lag and noise through the mel's linear predictor, refined with "
            f"{passes} passes. It is given the mel alone and has learnt nothing.",
        ),
        System(
            "noise",
            "no network: noise, refined",
            f"White noise through the mel's linear predictor, refined with {passes} passes.",
        ),
    ]


def why_unavailable(key: str) -> str | None:
    """Why a baseline cannot be made here; None if it can."""
    if key == "griffin_lim" and not _has_librosa():
        return f"librosa is {INSTALL}"
    if key.startswith("world") and world() is None:
        return f"pyworld is {INSTALL}"
    if key in ("pulses", "noise") and importlib.util.find_spec("scipy") is None:
        return f"scipy is {INSTALL}"
    return None


def make_copy(
    key: str, model: WaveNet, audio: Tensor, mel: Tensor, seed: int, passes: int = 0
) -> Tensor:
    """Return a baseline's copy of a recording.

    Args:
        key: a baseline's.
        model: whose mel and quantiser are meant.
        audio: ``[T]`` in [-1, 1] at the model's rate.
        mel: the model's own log-mel of it, ``[M, F]``.
        seed: of Griffin-Lim's first phases, and of noise.
        passes: of refinement, for the refined baselines.

    Returns:
        ``[T]`` in [-1, 1].

    Raises:
        ValueError: if the recording is too short for it.
    """
    if key == "griffin_lim":
        assert model.config.mel is not None
        copy = griffin_lim(
            mel, model.config.mel, model.mel_filterbank, n_samples=len(audio), seed=seed
        )
    elif key == "world":
        copy = world_copy(audio, model.sample_rate)
    elif key == "world_refined":
        copy = _refined(world_copy(audio, model.sample_rate), model, mel, passes)
    elif key in ("pulses", "noise"):
        assert model.config.mel is not None
        copy = synthesize_without_network(
            mel, model.config.mel, pulses=key == "pulses", n_samples=len(audio), seed=seed
        )
        copy = _refined(copy, model, mel, passes)
    elif key == "quantiser":
        copy = model.distribution.quantize(audio)
    else:
        copy = MU_LAW.quantize(audio)
    return copy.clamp(-1, 1)


def _refined(audio: Tensor, model: WaveNet, mel: Tensor, passes: int) -> Tensor:
    assert model.config.mel is not None
    filterbank = model.mel_filterbank.float().cpu()
    refined: Tensor = refine(audio, mel, model.config.mel, passes, filterbank=filterbank)
    return refined


def griffin_lim(
    mel: Tensor, config: MelConfig, filterbank: Tensor, *, n_samples: int, seed: int = 0
) -> Tensor:
    """A signal whose log-mel comes near to the given one.

    Args:
        mel: ``[M, F]`` as ``log_mel`` makes it.
        config: its settings.
        filterbank: ``[M, n_fft // 2 + 1]``, the one it was made with.
        n_samples: length of the signal.
        seed: of the first phases.

    Returns:
        ``[n_samples]``, float32.
    """
    import librosa

    rows = mel.double().cpu().numpy()
    bands = np.exp(rows) if config.log == "ln" else 10.0**rows
    # The floor is the value of silence.
    bands = np.where(bands <= config.floor * (1 + 1e-6), 0.0, bands)
    linear = librosa.util.nnls(filterbank.double().cpu().numpy(), bands, maxiter=_NNLS_ITERATIONS)
    magnitude = np.maximum(linear, 0.0) ** (1 / config.power)
    # A frame more on each side: librosa centres frame f on hop f, ours is at centre + hop f.
    # And at least as many as one window spans, or librosa warns of every short recording.
    more = max(1, math.ceil(config.n_fft / config.hop_samples) - magnitude.shape[1])
    padded = np.pad(magnitude, ((0, 0), (1, more)), mode="edge")
    n_made = config.hop_samples * (padded.shape[1] - 1)
    signal = librosa.griffinlim(
        padded,
        n_iter=GRIFFIN_LIM_ITERATIONS,
        hop_length=config.hop_samples,
        win_length=config.win_samples,
        n_fft=config.n_fft,
        length=n_made,
        random_state=seed,
    )
    first = config.hop_samples - config.centre_samples
    cut = signal[first : first + n_samples]
    return torch.from_numpy(np.pad(cut, (0, n_samples - len(cut)))).float()


def world_copy(audio: Tensor, sample_rate: int) -> Tensor:
    """Analysis and synthesis by WORLD, ``[T]`` to ``[T]``.

    Raises:
        ValueError: if the recording is too short.
    """
    pyworld = world()
    assert pyworld is not None
    if len(audio) < MIN_DURATION_S * sample_rate:
        raise ValueError(f"shorter than {MIN_DURATION_S:g} s")
    x = np.ascontiguousarray(audio.double().numpy())
    period_ms = FRAME_S * 1000
    f0, times = pyworld.harvest(x, sample_rate, F0_MIN_HZ, F0_MAX_HZ, frame_period=period_ms)
    f0 = pyworld.stonemask(x, f0, times, sample_rate)
    envelope = pyworld.cheaptrick(x, f0, times, sample_rate, f0_floor=F0_MIN_HZ)
    aperiodicity = pyworld.d4c(x, f0, times, sample_rate)
    n_fft = pyworld.get_cheaptrick_fft_size(sample_rate, F0_MIN_HZ)
    assert envelope.shape[1] == n_fft // 2 + 1
    made = pyworld.synthesize(f0, envelope, aperiodicity, sample_rate, period_ms)[: len(x)]
    return torch.from_numpy(np.pad(made, (0, len(x) - len(made)))).float()


def _has_librosa() -> bool:
    try:
        import librosa  # noqa: F401
    except ImportError:
        return False
    return True
