"""Mel settings by name: a preset, a file of them, or the configuration of an acoustic model.

A vocoder works for the mels of the acoustic model that it is for, and for no others. These programs
compute them by the same steps, in HiFi-GAN's words: magnitudes of a Hann window, reflected by
(n_fft - hop) / 2 at both ends, slaney filters, and the natural logarithm of at least 1e-5. What
differs stands in their configuration, except what is added to the power spectrum.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wavenet.features.mel_config import MelConfig
from wavenet.values.text import short

_Names = tuple[str, str, str, str, str, str, str]

_SETTINGS = (
    *("sample_rate", "n_fft", "hop_samples", "win_samples"),
    *("n_mels", "f_min_hz", "f_max_hz"),
)
_HIFIGAN: _Names = ("sampling_rate", "n_fft", "hop_size", "win_size", "num_mels", "fmin", "fmax")
_VITS: _Names = (
    *("sampling_rate", "filter_length", "hop_length", "win_length"),
    *("n_mel_channels", "mel_fmin", "mel_fmax"),
)
_MATCHA: _Names = (
    *("sample_rate", "n_fft", "hop_length", "win_length"),
    *("n_feats", "f_min", "f_max"),
)
_KNOWN: tuple[tuple[str, _Names, float], ...] = (
    ("HiFi-GAN or BigVGAN", _HIFIGAN, 1e-9),  # meldataset.py of both
    ("VITS", _VITS, 1e-6),  # mel_processing.py
    ("Matcha-TTS", _MATCHA, 1e-9),  # matcha/utils/audio.py
)
"""Program, names of its settings in the order of ``_SETTINGS``, and ``power_epsilon``."""
_LARGEST_SETTINGS = 1 << 20  # bytes


def read_mel_config(name: str, *, option: str = "--mel-config") -> MelConfig:
    """Read the settings of a preset, or those in a JSON or YAML file.

    Args:
        name: a preset, or a file: of ``MelConfig.to_dict``, or of a program that
            ``acoustic_mel_config`` knows.
        option: what the name was given for, for messages.

    Raises:
        ValueError: if it is neither, or the settings are invalid.
        ModuleNotFoundError: for YAML without the package that reads it.
    """
    path = Path(name)
    if not path.is_file():
        try:
            return MelConfig.preset(name)
        except ValueError as error:
            raise ValueError(f"{option}={name}: no such file, and {error}") from None
    try:
        if path.stat().st_size > _LARGEST_SETTINGS:
            raise ValueError(f"{path.stat().st_size} bytes are too many")
        content = _parsed(path)
        found = acoustic_mel_config(content)
        return MelConfig.from_dict(content) if found is None else found
    except (OSError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: no mel settings: {reason}") from None


def _parsed(path: Path) -> Any:
    text = path.read_text(encoding="utf-8")
    try:
        if path.suffix not in (".yaml", ".yml"):
            return json.loads(text)
        try:
            import yaml
        except ModuleNotFoundError:
            raise ModuleNotFoundError(
                f"{path} is YAML, which needs PyYAML; pip install 'wavenet-audio[train]'"
            ) from None
        try:
            return yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ValueError(f"not YAML: {error}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply; give an object of settings") from None


def acoustic_mel_config(content: Any) -> MelConfig | None:
    """Return the mel settings in the configuration of a program that is known.

    Known are HiFi-GAN's and BigVGAN's ``config.json``, VITS's JSON (its block ``data``), and
    Matcha-TTS's YAML (``configs/data/*.yaml``, or the block ``data`` of a run's configuration). An
    upper edge of null is half of the sample rate.

    Args:
        content: the file's values.

    Returns:
        The settings, or None for the file of another program.

    Raises:
        ValueError, TypeError: for settings that make no mel.
    """
    for block in (content, content.get("data") if isinstance(content, Mapping) else None):
        if not isinstance(block, Mapping):
            continue
        for program, names, power_epsilon in _KNOWN:
            if all(name in block for name in names):
                return _config(program, block, names, power_epsilon)
    return None


def _config(
    program: str, block: Mapping[str, Any], names: _Names, power_epsilon: float
) -> MelConfig:
    values = dict(zip(_SETTINGS, (block[name] for name in names), strict=True))
    if values["f_max_hz"] is None:
        rate = values["sample_rate"]
        if type(rate) is not int:
            raise TypeError(f"{names[0]} of {program} is {short(rate)}; give an integer")
        values["f_max_hz"] = rate / 2
    return MelConfig(**values, padding="hop", power_epsilon=power_epsilon)
