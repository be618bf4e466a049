"""Checkpoints of r9y9/wavenet_vocoder, versions 0.1 and 0.2, as models of this package.

Its network is ours with other factors (its ``wavenet.py`` and ``modules.py``):

    x_0 = F s              F the first convolution, of the sample or of its class one-hot
    z_l = W_l * x_l + C_l c + G_l g
    x_l+1 = sqrt(1/2) (x_l + R_l gate(z_l))
    params = head(sqrt(1/L) sum_l S_l gate(z_l))

Version 0.2 is the main branch; the releases, up to 0.1.1, differ in three points. Their sum of
skips is multiplied by sqrt(1/2) after each addition (unless ``legacy`` is false, then by nothing),
C_l and G_l have biases, and features are upsampled by ``TransposedUpsamplingEncoder``.

The factors are folded into weights, exactly. With a_l = 2^((l - L/2) / 2) the signal a_l x_l obeys
our recursion: a_l+1 sqrt(1/2) = a_l, so what is added to it is a_l R_l gate(z_l), and W_l becomes
W_l / a_l. (The L/2 shares the factors among both ends, within the range of half precision.) The
features c and the speaker g become the two parts of one conditioning.

Dropout acts in training alone. What differs: generation begins from silence at the input, there
from zeros at every layer (our ``init_state``); samples are drawn on the 16-bit grid; audio as input
is rounded to the nearest mu-law class, there it is rounded down (drawn classes are fed back as they
are).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wavenet.interop.tensors import named_tensors, read_saved
from wavenet.interop.wavenet_vocoder_settings import MAX_SETTINGS_BYTES, Layout, read_layout
from wavenet.model import WaveNet
from wavenet.storage.checkpoint import CheckpointError
from wavenet.storage.json_files import finite_only, read_json

SETTINGS_NAME = "hparams.json"


def import_checkpoint(file: str | Path, hparams: str | Path | None = None) -> WaveNet:
    """The model in a checkpoint of wavenet_vocoder; ``*_ema.pth`` holds averaged weights.

    >>> model = import_checkpoint("checkpoint_step001000000_ema.pth")  # doctest: +SKIP
    >>> model.save("my-model")  # doctest: +SKIP

    Args:
        file: as its training wrote it, new or old format of torch.save.
        hparams: its settings; default, ``hparams.json`` beside the file.

    Returns:
        The model in evaluation mode. It takes the features that it was trained on, frames of
        ``cin_channels`` values, normalised as they were.

    Raises:
        CheckpointError: for a file or settings that are damaged, hostile, or of another network;
            the line names the key and both shapes.
    """
    path = Path(file)
    saved = read_saved(path)
    layout = read_layout(path.parent / SETTINGS_NAME if hparams is None else Path(hparams))
    if not isinstance(saved, dict) or "state_dict" not in saved:
        raise CheckpointError(f"{path} has no state_dict; is it a checkpoint of wavenet_vocoder?")
    found = _without_weight_norm(named_tensors(saved["state_dict"], path), path)
    if not layout.cin:  # its networks keep an upsampling also where there is nothing to upsample
        found = {key: found[key] for key in found if not key.startswith("upsample_")}
    _require_shapes(found, layout, path)
    model = WaveNet(layout.config)  # as large as the tensors: their shapes were compared
    model.load_state_dict(_folded(found, layout), strict=False)
    return model.eval()


def provenance(file: str | Path, hparams: str | Path | None = None) -> dict[str, Any]:
    """Return the provenance of an imported model for ``config.json``."""
    path = Path(file)
    settings = path.parent / SETTINGS_NAME if hparams is None else Path(hparams)
    return {
        "imported": "r9y9/wavenet_vocoder",
        "file": path.name,
        "hparams": finite_only(read_json(settings, max_bytes=MAX_SETTINGS_BYTES)),
    }


def _without_weight_norm(tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """w = g v / |v|, the norm of each output channel (Salimans & Kingma 2016, equation 2)."""
    plain = dict(tensors)
    for key in tensors:
        for gain, direction in _WEIGHT_NORMS:
            name = key.removesuffix(gain)
            if name == key or name + direction not in tensors:
                continue
            g, v = plain.pop(key), plain.pop(name + direction)
            norm = v.flatten(1).norm(dim=1).view(-1, *[1] * (v.ndim - 1)) if v.ndim > 1 else v
            if g.shape != norm.shape or not bool((norm > 0).all()):
                raise CheckpointError(
                    f"{path}: {key} of shape {tuple(g.shape)} is no weight norm of "
                    f"{name + direction} of shape {tuple(v.shape)}, or that has a channel of zeros"
                )
            plain[name + "weight"] = g * (v / norm)
    return plain


_WEIGHT_NORMS = (
    ("weight_g", "weight_v"),
    ("parametrizations.weight.original0", "parametrizations.weight.original1"),
)


def _require_shapes(found: dict[str, Tensor], layout: Layout, path: Path) -> None:
    """Raise CheckpointError unless there is every tensor, no other, and each has its shape."""
    present = sum(key.startswith("conv_layers.") and ".conv." in key for key in found)
    if present != 2 * layout.n_layers:  # before a list of so many is made
        raise CheckpointError(
            f"{path} has weights and biases of {present / 2:g} dilated convolutions, but hparams "
            f"have layers={layout.n_layers}"
        )
    expected = layout.shapes()
    for key in sorted(expected.keys() | found.keys()):
        if key not in expected:
            raise CheckpointError(
                f"{path} has a tensor {key} of shape {tuple(found[key].shape)} that hparams do not "
                "account for"
            )
        if key not in found:
            raise CheckpointError(f"{path} lacks the tensor {key} of shape {expected[key]}")
        if found[key].shape != expected[key]:
            raise CheckpointError(
                f"{path}: {key} has shape {tuple(found[key].shape)}, but hparams ask for "
                f"{expected[key]}"
            )


def _folded(found: dict[str, Tensor], layout: Layout) -> dict[str, Tensor]:
    """Our tensors, with all factors in them."""
    n, cin, gin = layout.n_layers, layout.cin, layout.gin
    signal = [2 ** ((i - n / 2) / 2) for i in range(n)]
    skip_factors = layout.skip_factors()
    ours = {
        "input_projection.weight": found["first_conv.weight"] * signal[0],
        "input_projection.bias": found["first_conv.bias"] * signal[0],
    }
    for i, scale in enumerate(signal):
        theirs, block = f"conv_layers.{i}", f"stack.blocks.{i}"
        ours[f"{block}.conv.weight"] = found[f"{theirs}.conv.weight"] / scale
        ours[f"{block}.conv.bias"] = found[f"{theirs}.conv.bias"]
        for part in ("weight", "bias"):
            out, skip = (
                found[f"{theirs}.conv1x1_out.{part}"],
                found[f"{theirs}.conv1x1_skip.{part}"],
            )
            ours[f"{block}.residual_projection.{part}"] = out * scale
            ours[f"{block}.skip_projection.{part}"] = skip * skip_factors[i]
        sources = [f"{theirs}.conv1x1{name}" for name, size in (("c", cin), ("g", gin)) if size]
        if sources:
            joined = torch.cat([found[f"{source}.weight"] for source in sources], dim=1)
            ours[f"{block}.cond_projection.weight"] = joined
        for source in sources if layout.first_version else []:
            ours[f"{block}.conv.bias"] = ours[f"{block}.conv.bias"] + found[f"{source}.bias"]
    for i in (1, 3):
        for part in ("weight", "bias"):
            ours[f"head.{i}.{part}"] = found[f"last_conv_layers.{i}.{part}"]
    if gin:
        padded = torch.nn.functional.pad(found["embed_speakers.weight"], (cin, 0))
        ours["speaker_embedding.table.weight"] = padded
    for i, name in enumerate(layout.transposed_names()):
        for part in ("weight", "bias"):
            ours[f"frame_encoder.steps.{i}.{part}"] = found[f"{name}.{part}"]
    if cin and not layout.transposed_names():
        identity = torch.eye(cin)[..., None]
        ours["frame_encoder.conv.weight"] = found.get("upsample_net.conv_in.weight", identity)
        for i, key in enumerate(layout.smoothing_keys()):
            ours[f"frame_encoder.smoothings.{i}.weight"] = found[key]
    return ours
