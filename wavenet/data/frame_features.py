"""Features in frames that lie beside recordings: F0, phonemes, tokens of a codec, a file each.

A manifest names the file of a recording in its column ``features``: a ``.npy`` with one array
``[channels, F]``, or a ``.npz`` with one, called ``features`` where it has several. Frame f
describes the samples ``f * hop_samples .. (f + 1) * hop_samples - 1`` of the recording.
"""

from __future__ import annotations

import functools
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wavenet.data.corpus import Corpus
from wavenet.data.recordings import CorpusError
from wavenet.model.config import FeatureConfig

SUFFIXES = (".npy", ".npz")
MEMBER = "features"
"""Name of the array in a ``.npz`` that has several."""

TOLERANCE_FRAMES = 4
"""Most frames by which features and their recording may differ in length: windows at the ends of a
recording are counted differently by every program. Missing ones repeat the last."""

_ArrayFile = np.ndarray[Any, np.dtype[Any]]


def read_features(path: str | Path, config: FeatureConfig) -> _ArrayFile:
    """Return the features in a file, ``[channels, F]``; those of a ``.npy`` are mapped, not read.

    Raises:
        CorpusError: if there is no such array, or it has other channels than the model takes.
    """
    found = _opened(str(path))
    if found.ndim != 2 or found.dtype.kind not in "iuf" or not found.shape[1]:
        raise CorpusError(
            f"{path}: {found.dtype} of shape {found.shape}; features are numbers [channels, frames]"
        )
    if len(found) != config.channels:
        hint = "; transpose it" if found.shape[1] == config.channels else ""
        raise CorpusError(
            f"{path}: {len(found)} channels of {found.shape[1]} frames, and the model takes "
            f"model.features.channels={config.channels}{hint}"
        )
    return found


def require_features(corpus: Corpus, config: FeatureConfig) -> None:
    """Raise CorpusError unless every recording has features of its own length."""
    if corpus.shards is not None:
        raise CorpusError(
            "the model takes features, which a corpus in a store does not hold; train from the "
            "folder or manifest that it was written from"
        )
    for utterance in corpus.utterances:
        if utterance.features is None:
            raise CorpusError(
                f"{utterance.name} has no features, which the model takes; name a {SUFFIXES[0]} or "
                f"{SUFFIXES[1]} file for each recording in the manifest's column features"
            )
        n_frames = read_features(utterance.features, config).shape[1]
        expected = utterance.n_samples / config.hop_samples
        if abs(n_frames - expected) > TOLERANCE_FRAMES:
            raise CorpusError(
                f"{utterance.features}: {n_frames} frames of model.features.hop_samples="
                f"{config.hop_samples} are not as long as {utterance.name}, {expected:.1f} frames "
                f"of {corpus.sample_rate} Hz audio"
            )


def columns(path: Path, config: FeatureConfig, first: int, count: int) -> tuple[Tensor, Tensor]:
    """Return columns ``first .. first + count - 1`` of a file, and which of them is each frame's.

    Returns:
        ``[channels, count]`` float32, and indices ``[count]``. Outside the file the first or the
        last column stands, and the index of a frame is that column's.

    Raises:
        CorpusError: as ``read_features``, and for numbers that are not finite.
    """
    found = read_features(path, config)
    frames = torch.arange(first, first + count).clamp(0, found.shape[1] - 1)
    values = torch.from_numpy(np.ascontiguousarray(found[:, frames.numpy()], np.float32))
    if not bool(values.isfinite().all()):
        raise CorpusError(f"{path}: frames from {max(first, 0)} on are not all finite; repair it")
    return values, (frames - first).clamp(0, count - 1)


def whole_features(path: str | Path, config: FeatureConfig) -> Tensor:
    """Return all features in a file, ``[channels, F]`` float32; errors as ``columns``."""
    return columns(Path(path), config, 0, read_features(path, config).shape[1])[0]


@functools.lru_cache(maxsize=64)
def _opened(path: str) -> _ArrayFile:
    """Open a file, once per process while it is in use."""
    if not path.lower().endswith(SUFFIXES):
        raise CorpusError(f"{path}: features are {SUFFIXES[0]} or {SUFFIXES[1]} files")
    try:
        if path.lower().endswith(".npy"):
            return np.asanyarray(np.load(path, mmap_mode="r", allow_pickle=False))
        with np.load(path, allow_pickle=False) as archive:
            names = archive.files
            name = MEMBER if MEMBER in names or len(names) != 1 else names[0]
            return np.asarray(archive[name])
    except KeyError:
        raise CorpusError(f"{path}: holds {names}; call the array of features {MEMBER!r}") from None
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split())[:100]
        raise CorpusError(f"{path}: is no array that NumPy wrote: {reason}") from None
