"""What ``wavenet import`` and ``wavenet export`` do, by the suffix of the foreign file."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from wavenet.cli.options import MODEL_HELP, any_name

Converter = Callable[[argparse.Namespace], str]
"""Converts what the options say and tells in a line what it did."""


def add_import_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``wavenet import``."""
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
    parser.add_argument(
        "--submodel",
        metavar="NAME",
        help="convert this size of a .nam file that holds several (default: the largest)",
    )


def add_export_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``wavenet export``."""
    known = ", ".join(sorted(EXPORTERS))
    parser.add_argument(
        "folder",
        type=any_name,
        metavar="MODEL",
        help=f"export this model: {MODEL_HELP}, or a .nam file",
    )
    parser.add_argument("file", type=any_name, metavar="FILE", help=f"write this file: {known}")


def import_file(options: argparse.Namespace) -> str:
    """Read ``options.file`` and write ``options.folder``.

    Raises:
        ValueError: for a suffix that is none of ``IMPORTERS``, for an option that belongs to
            another one, and as the importer.
    """
    convert = _by_suffix(options.file, IMPORTERS)
    if convert is _import_nam and options.hparams is not None:
        raise ValueError(f"--hparams belongs to a .pth file, not to {options.file}; leave it out")
    if convert is not _import_nam and options.submodel is not None:
        raise ValueError(f"--submodel belongs to a .nam file, not to {options.file}; leave it out")
    return convert(options)


def export_file(options: argparse.Namespace) -> str:
    """Read ``options.folder`` and write ``options.file``.

    Raises:
        ValueError: for a suffix that is none of ``EXPORTERS``, and as the exporter.
    """
    return _by_suffix(options.file, EXPORTERS)(options)


def _by_suffix(file: str, converters: dict[str, Converter]) -> Converter:
    suffix = Path(file).suffix.lower()
    if suffix not in converters:
        known = ", ".join(sorted(converters))
        raise ValueError(f"{file} ends in {suffix or 'nothing'}; name a file that ends in {known}")
    return converters[suffix]


def _import_wavenet_vocoder(options: argparse.Namespace) -> str:
    from wavenet.interop.wavenet_vocoder import import_checkpoint, provenance

    model = import_checkpoint(options.file, options.hparams)
    model.save(options.folder, provenance=provenance(options.file, options.hparams))
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    return f"{options.folder}: {n_parameters:,} parameters from r9y9/wavenet_vocoder"


def _export_onnx(options: argparse.Namespace) -> str:
    from wavenet.interop.onnx import export_onnx

    return _written(export_onnx(options.folder, options.file))


def _export_program(options: argparse.Namespace) -> str:
    from wavenet.interop.programs import export_program

    return _written(export_program(options.folder, options.file))


def _written(paths: list[Path]) -> str:
    return "\n".join(f"{path}: {path.stat().st_size / 1e6:.1f} MB" for path in paths)


def _import_nam(options: argparse.Namespace) -> str:
    from wavenet.cli.convert_nam import import_nam

    return import_nam(Path(options.file), Path(options.folder), options.submodel)


def _export_nam(options: argparse.Namespace) -> str:
    from wavenet.cli.convert_nam import export_nam

    return export_nam(options.folder, Path(options.file))


IMPORTERS: dict[str, Converter] = {
    ".nam": _import_nam,
    ".pt": _import_wavenet_vocoder,
    ".pth": _import_wavenet_vocoder,
}
EXPORTERS: dict[str, Converter] = {
    ".nam": _export_nam,
    ".onnx": _export_onnx,
    ".pt2": _export_program,
}
