"""What a model's conditioning is made by, and what it is made of: mels and speakers that fit it."""

from __future__ import annotations

from torch import Tensor

from wavenet.model.config import FeatureConfig, WaveNetConfig
from wavenet.nn import FrameEncoder, FrameLift, UpsamplingEncoder


def make_encoder(
    config: WaveNetConfig, cond_channels: int
) -> tuple[FrameEncoder | UpsamplingEncoder, FrameLift]:
    """From local features to frames of the conditioning, and from these to samples.

    Args:
        config: of a model with local features.
        cond_channels: of the frames.
    """
    local = config.local
    assert local is not None
    if not isinstance(local, FeatureConfig) or local.upsampling is None:
        lift = FrameLift(local.hop_samples, centre_samples=local.centre_samples)
        return FrameEncoder(local.channels, cond_channels), lift
    encoder = UpsamplingEncoder(
        local.channels,
        cond_channels,
        local.upsampling.scales,
        context=local.upsampling.context_frames,
        band_kernel_size=local.upsampling.band_kernel_size,
    )
    return encoder, FrameLift(1, centre_samples=0)


def check_conditioning(config: WaveNetConfig, mel: Tensor | None, speaker: Tensor | None) -> None:
    """Raise unless a model of this configuration takes the two.

    Args:
        config: of the model.
        mel: ``[B, M, F]`` or None.
        speaker: indices ``[B]`` or None.

    Raises:
        ValueError: if one is missing, unexpected or of a wrong shape, or their rows differ.
    """
    _check_mel(config, mel)
    _check_speaker(config, speaker)
    if mel is None or speaker is None:
        return
    rows = speaker.shape[0]  # not `len`: a trace shall leave the number of rows open
    if mel.shape[0] != rows and mel.shape[0] != 1 and rows != 1:
        raise ValueError(
            f"speaker has {len(speaker)} rows and mel {len(mel)}; give one for each row"
        )


def _check_mel(config: WaveNetConfig, mel: Tensor | None) -> None:
    local = config.local
    if (mel is None) != (local is None) and not (mel is None and config.unconditional):
        expected = "no mel" if local is None else f"mel [B, {local.channels}, F]"
        found = "None" if mel is None else f"shape {tuple(mel.shape)}"
        raise ValueError(f"mel is {found}, but this model takes {expected}")
    if mel is None or local is None:
        return
    if mel.ndim != 3 or mel.shape[-1] == 0:
        raise ValueError(
            f"mel has shape {tuple(mel.shape)}, expected [B, {local.channels}, F] with at "
            "least one frame"
        )
    if mel.shape[1] != local.channels:
        raise ValueError(
            f"mel has {mel.shape[1]} channels, but this model was built for {local.channels}; "
            "make it with the model's own settings, log_mel(x, model.config.mel)"
        )


def _check_speaker(config: WaveNetConfig, speaker: Tensor | None) -> None:
    speakers, optional = config.speakers, config.unconditional
    if (speaker is None) != (speakers == 0) and not (speaker is None and optional):
        expected = f"speaker indices [B] from 0 to {speakers - 1}" if speakers else "no speaker"
        raise ValueError(f"speaker is {speaker}, but this model takes {expected}")
    if speaker is None:
        return
    if not isinstance(speaker, Tensor) or speaker.ndim != 1 or speaker.is_floating_point():
        raise ValueError(f"speaker is {speaker}, expected a tensor of indices [B]")
