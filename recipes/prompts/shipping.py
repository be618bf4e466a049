"""Make a voice of a trained checkpoint: half the bytes, and a model card to be filled in."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from wavenet.loading import load_wavenet
from wavenet.model import ARCHITECTURE, WaveNet
from wavenet.storage.checkpoint import read_config, write_checkpoint
from wavenet.storage.files import atomic_write
from wavenet.storage.pretrained import CARD_NAME
from wavenet.storage.sharing import without_local_paths

LARGEST_BYTES = 4_000_000
"""Of all files of a voice together; it travels in every wheel."""


class VoiceError(ValueError):
    """A checkpoint that cannot become a voice."""


def write_voice(
    checkpoint: str | Path,
    folder: str | Path,
    *,
    licences: Sequence[str | Path],
    dtype: str = "float16",
) -> float:
    """Write a voice's folder: the weights narrowed, a model card, and the licences.

    Buffers, such as the mel filterbank, stay as they are. A card that is there already is kept.

    Args:
        checkpoint: what training exported.
        folder: the voice's; its name is the voice's name.
        licences: files to be copied beside the weights: the licence, and who is to be named.
        dtype: that the parameters are stored in: float16 or bfloat16.

    Returns:
        The largest change of a weight by rounding, as a share of its tensor's largest one.

    Raises:
        VoiceError: if a weight does not fit the type, a licence is missing, or the files are more
            than ``LARGEST_BYTES``.
    """
    folder, model = Path(folder), load_wavenet(checkpoint)
    texts = {Path(path).name: _text(path) for path in licences}
    if not any(Path(name).match("LICENSE*.txt") for name in texts):  # what the wheel takes along
        raise VoiceError(f"{folder.name}: the licence is missing; name a file LICENSE*.txt")
    narrowed, change = _narrowed(model, dtype)
    size = sum(tensor.nbytes for tensor in narrowed.values()) + sum(map(len, texts.values()))
    if size > LARGEST_BYTES:
        raise VoiceError(
            f"{folder.name}: {size:,} bytes are more than {LARGEST_BYTES:,}; train a smaller model"
        )
    provenance = without_local_paths(read_config(checkpoint)["provenance"])
    write_checkpoint(
        folder,
        architecture=ARCHITECTURE,
        config=model.config.to_dict(),
        tensors=narrowed,
        provenance=provenance,
        dtype=dtype,
    )
    for name, text in texts.items():
        _write(folder / name, text)
    if not (folder / CARD_NAME).exists():
        _write(folder / CARD_NAME, model_card(folder.name, model, provenance, texts))
    return change


def model_card(
    name: str, model: WaveNet, provenance: dict[str, object], licences: Iterable[str]
) -> str:
    """What the checkpoint knows about itself, in Markdown, and headings for what it does not."""
    config = model.config
    parameters = sum(parameter.numel() for parameter in model.parameters())
    mel = "none" if config.mel is None else f"{config.mel.n_mels} bands"
    speakers = ", ".join(config.speaker_names) or "not told apart"
    corpus = json.dumps(provenance.get("corpus"))
    return f"""# {name}

| | |
| --- | --- |
| sample rate | {config.sample_rate} Hz |
| layers | {config.layers_per_stack} x {config.stacks}, kernel size {config.kernel_size} |
| channels (residual / skip) | {config.residual_channels} / {config.skip_channels} |
| parameters | {parameters:,} |
| output | {config.distribution} |
| mel | {mel} |
| speakers | {speakers} |
| corpus | {corpus} |
| steps | {provenance.get("steps")} |
| bits per sample, validation | {provenance.get("validation_bits_per_sample")} |
| recipe | {provenance.get("recipe")} |

## Data, licence, attribution

See {", ".join(licences)} beside this file.

## How it was trained

Hardware and time: not stated yet.

## How good it is

Not measured yet.

## What it cannot do

Not stated yet.
"""


def _narrowed(model: WaveNet, dtype: str) -> tuple[dict[str, torch.Tensor], float]:
    """The state with its parameters narrowed, and the largest relative change."""
    types = {"float16": torch.float16, "bfloat16": torch.bfloat16}
    if dtype not in types:
        raise VoiceError(f"dtype={dtype!r} is unknown; choose one of {', '.join(types)}")
    tensors, change = dict(model.state_dict()), 0.0
    for name, parameter in model.named_parameters():
        narrow = parameter.detach().to(types[dtype])
        if not bool(narrow.isfinite().all()):
            raise VoiceError(f"{name} has weights that {dtype} cannot hold; use bfloat16")
        tensors[name] = narrow
        largest = float(parameter.detach().abs().max())
        moved = float((narrow.float() - parameter.detach()).abs().max())
        change = max(change, moved / largest if largest else math.ceil(moved))
    return tensors, change


def _text(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise VoiceError(f"{path}: cannot be read: {error.strerror}; check the path") from None


def _write(path: Path, text: bytes | str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_bytes(text.encode() if isinstance(text, str) else text)
