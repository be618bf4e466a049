"""Losses of an amplifier's model: tensors ``[..., T]``, a batch of windows or a whole file."""

from __future__ import annotations

import torch
from torch import Tensor

PRE_EMPHASIS = 0.85  # Wright and Valimaki 2020, section 3.1: what the ear hears counts more

# Neural Amp Modeler's trainer, 0.13.0: train/_resources/config_model_packed.json (the weight),
# train/core.py (the level), and _dependencies/auraloss/freq.py (the resolutions, which are those of
# Yamamoto et al. 2020, Parallel WaveGAN, table 1).
STFT_WEIGHT = 5e-4
LEVEL_DB = -18.0  # of the target's root mean square, in dB of full scale, where the loss is taken
RESOLUTIONS = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))  # n_fft, hop, window
LEAST_POWER = 1e-8


def esr(y: Tensor, target: Tensor) -> Tensor:
    """Error-to-signal ratio: the energy of the error over the target's (Wright et al. 2019, 4)."""
    return (y - target).square().sum() / (target.square().sum() + 1e-8)


def emphasised(x: Tensor) -> Tensor:
    """x[t] - 0.85 x[t - 1]: a first-order high-pass, ``[..., T]`` to ``[..., T - 1]``."""
    return x[..., 1:] - PRE_EMPHASIS * x[..., :-1]


def emphasised_loss(y: Tensor, target: Tensor) -> Tensor:
    """ESR behind the pre-emphasis, and that of the offset (Wright and Valimaki 2020, 3.2)."""
    offset = (y - target).mean(-1).square().mean() / (target.square().mean() + 1e-8)
    return esr(emphasised(y), emphasised(target)) + offset


def nam_loss(y: Tensor, target: Tensor) -> Tensor:
    """Mean squared error and 5e-4 of the STFT loss: Neural Amp Modeler's, of signals at -18 dB."""
    return (y - target).square().mean() + STFT_WEIGHT * stft_loss(y, target)


def stft_loss(y: Tensor, target: Tensor) -> Tensor:
    """Mean over the resolutions of the spectral convergence and the distance of log magnitudes.

    Yamamoto et al. 2020 (Parallel WaveGAN), equations 4 to 6.
    """
    losses = []
    for n_fft, hop, window in RESOLUTIONS:
        ours, theirs = (_magnitudes(x, n_fft, hop, window) for x in (y, target))
        convergence = (theirs - ours).norm() / theirs.norm()
        losses.append(convergence + (ours.log() - theirs.log()).abs().mean())
    return torch.stack(losses).mean()


def gain_to_level(y: Tensor) -> float:
    """The factor that brings y ``[T]`` to ``LEVEL_DB``."""
    return float(10 ** (LEVEL_DB / 20) / y.square().mean().sqrt())


def _magnitudes(x: Tensor, n_fft: int, hop: int, window: int) -> Tensor:
    """``[B, n_fft // 2 + 1, frames]`` of x ``[..., T]``."""
    taper = torch.hann_window(window, device=x.device)
    rows = x.reshape(-1, x.shape[-1])
    spectra = torch.stft(rows, n_fft, hop, window, taper, return_complex=True)
    return (spectra.real.square() + spectra.imag.square()).clamp(min=LEAST_POWER).sqrt()
