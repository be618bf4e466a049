"""Inputs of the vocoder: an audio file or a stored mel, checked before anything is made."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from wavenet.audio.blocks import count_samples, read_blocks
from wavenet.features.mel_config import MelConfig
from wavenet.features.mel_files import MelFileError, mel_blocks, open_mel
from wavenet.features.mel_units import unit_warning
from wavenet.model import WaveNet
from wavenet.model.from_checkpoint import mel_difference

logger = logging.getLogger("wavenet")

MEL_SUFFIXES = (".npz", ".npy")


@dataclass(frozen=True)
class Source:
    """A file that has been read once and found good.

    Attributes:
        path: of the file.
        n_samples: length of the synthesized audio, at the model's rate.
        longest: that the mel describes, which may be a part of a hop more.
        n_mels: bands of its mel.
        frames: gives its mel ``[M, F_i]``, piece after piece, as often as it is called.
    """

    path: Path
    n_samples: int
    longest: int
    n_mels: int
    frames: Callable[[], Iterator[Tensor]]


def open_source(path: Path, model: WaveNet, mel_config: MelConfig | None = None) -> Source:
    """Look through a file.

    Args:
        path: audio, a ``.npz`` of ``wavenet mel``, or a bare ``.npy`` ``[M, F]``.
        model: a mel-conditioned one.
        mel_config: the settings of a bare ``.npy``.

    Raises:
        ValueError: (AudioError, MelFileError) if the file cannot be used, or its mel is not one
            that the model takes: both values are named.
    """
    config = model.config.mel
    if config is None:
        raise ValueError("the model takes no mel; choose a mel-conditioned one")
    filterbank = model.mel_filterbank.cpu()
    if path.suffix.lower() in MEL_SUFFIXES:
        return _stored(path, config, filterbank, mel_config)

    def frames() -> Iterator[Tensor]:
        return mel_blocks(read_blocks(path, config.sample_rate), config, filterbank)

    n_samples = count_samples(path, config.sample_rate)
    longest = config.frames(n_samples) * config.hop_samples
    return Source(path, n_samples, longest, config.n_mels, frames)


def _stored(path: Path, own: MelConfig, filterbank: Tensor, given: MelConfig | None) -> Source:
    stored = open_mel(path)
    found = stored.config if stored.config is not None else given
    if found is None:
        raise MelFileError(
            f"{path}: a bare .npy has no mel settings; give --mel-config, or make a .npz "
            "with wavenet mel"
        )
    if found != own:
        raise MelFileError(f"{path}: {mel_difference(own, found)}")
    if stored.n_mels != own.n_mels:
        raise MelFileError(
            f"{path}: the mel has {stored.n_mels} bands, the model takes {own.n_mels}; "
            "is it [M, F]?"
        )
    remark = unit_warning(own, filterbank, stored.lowest, stored.highest)
    if remark is not None:
        logger.warning("%s: %s", path, remark)
    longest = stored.n_frames * own.hop_samples
    return Source(path, stored.n_samples or longest, longest, own.n_mels, stored.frames)
