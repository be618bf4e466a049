"""``wavenet export``: write a model for another program, by the suffix of the file."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from wavenet.cli.options import MODEL_HELP, add_submodel, any_name, by_suffix
from wavenet.cli.standard_streams import print_result

Exporter = Callable[[argparse.Namespace], str]
"""Converts the model of the options and returns a line on each file that it has written."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    known = ", ".join(sorted(EXPORTERS))
    parser.add_argument(
        "folder",
        type=any_name,
        metavar="MODEL",
        help=f"export this model: {MODEL_HELP}, or a .nam file",
    )
    parser.add_argument("file", type=any_name, metavar="FILE", help=f"write this file: {known}")
    parser.add_argument(
        "--nam-version",
        metavar="VERSION",
        help="write a .nam file of this version of the format, 0.5.4 or 0.7.0 (default: the older "
        "one if it can describe the model)",
    )
    add_submodel(parser, "export only", "all of them to .nam, else the largest")


def run(options: argparse.Namespace) -> int:
    """Read ``options.folder``, write ``options.file`` and print its size.

    Raises:
        ValueError: for a suffix that is none of ``EXPORTERS``, for an option that belongs to
            another one, and as the exporter.
    """
    export = by_suffix(options.file, EXPORTERS)
    if export is not _export_nam and options.nam_version is not None:
        raise ValueError(
            f"--nam-version belongs to a .nam file, not to {options.file}; leave it out"
        )
    print_result(export(options))
    return 0


def _export_onnx(options: argparse.Namespace) -> str:
    from wavenet.interop.onnx import export_onnx

    return _written(export_onnx(options.folder, options.file, submodel=options.submodel))


def _export_program(options: argparse.Namespace) -> str:
    from wavenet.interop.programs import export_program

    return _written(export_program(options.folder, options.file, submodel=options.submodel))


def _written(paths: list[Path]) -> str:
    return "\n".join(f"{path}: {path.stat().st_size / 1e6:.1f} MB" for path in paths)


def _export_nam(options: argparse.Namespace) -> str:
    from wavenet.cli.nam_models import load_model, load_whole, summary
    from wavenet.nam.writing import write_nam

    source, whole = options.folder, options.submodel is None
    model = load_whole(source) if whole else load_model(source, submodel=options.submodel)
    write_nam(Path(options.file), model, version=options.nam_version)
    return f"{options.file}: {summary(model)}"


EXPORTERS: dict[str, Exporter] = {
    ".nam": _export_nam,
    ".onnx": _export_onnx,
    ".pt2": _export_program,
}
