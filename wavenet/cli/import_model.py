"""``wavenet import``: convert another program's model, by the suffix of its file."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable
from pathlib import Path

from wavenet.cli.options import add_submodel, any_name, by_suffix
from wavenet.cli.standard_streams import print_result

Importer = Callable[[argparse.Namespace], str]
"""Converts the model of the options and returns a line on what it has written."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    known = ", ".join(sorted(IMPORTERS))
    parser.add_argument(
        "file",
        type=any_name,
        metavar="FILE",
        help=f"convert this file of another program: {known}",
    )
    parser.add_argument(
        "folder", type=any_name, metavar="FOLDER", help="write the checkpoint to this folder"
    )
    parser.add_argument(
        "--hparams",
        type=any_name,
        metavar="JSON",
        help="read the settings of a .pth or .pt file here (default: hparams.json beside it)",
    )
    add_submodel(parser, "convert only", "all of them")


def run(options: argparse.Namespace) -> int:
    """Read ``options.file``, write ``options.folder`` and print its size.

    Raises:
        ValueError: for a suffix that is none of ``IMPORTERS``, for an option that belongs to
            another one, and as the importer.
    """
    convert = by_suffix(options.file, IMPORTERS)
    if convert is _import_nam and options.hparams is not None:
        raise ValueError(f"--hparams belongs to a .pth file, not to {options.file}; leave it out")
    if convert is not _import_nam and options.submodel is not None:
        raise ValueError(f"--submodel belongs to a .nam file, not to {options.file}; leave it out")
    print_result(convert(options))
    return 0


def _import_wavenet_vocoder(options: argparse.Namespace) -> str:
    from wavenet.interop.wavenet_vocoder import import_checkpoint, provenance

    model = import_checkpoint(options.file, options.hparams)
    model.save(options.folder, provenance=provenance(options.file, options.hparams))
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    return f"{options.folder}: {n_parameters:,} parameters from r9y9/wavenet_vocoder"


def _import_nam(options: argparse.Namespace) -> str:
    from wavenet.cli.nam_models import load_model, load_whole, summary

    file = Path(options.file)
    whole = options.submodel is None
    model = load_whole(file) if whole else load_model(file, submodel=options.submodel)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    model.save(options.folder, provenance={"imported_from": file.name, "sha256": digest})
    return f"{options.folder}: {summary(model)}"


IMPORTERS: dict[str, Importer] = {
    ".nam": _import_nam,
    ".pt": _import_wavenet_vocoder,
    ".pth": _import_wavenet_vocoder,
}
