"""``wavenet doctor``: check and measure this machine's device, and leave a report."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from wavenet.cli.options import device

WHEELS = """\
A machine with torch alone runs every part but those of training. To run them too, bring wheels of:
  safetensors numpy numba llvmlite            (the compiled CPU engine and training step)
  soundfile cffi pycparser soxr tqdm          (audio files)
  lightning lightning-utilities torchmetrics pytorch-lightning fsspec packaging pyyaml
  jsonargparse docstring-parser typeshed-client tensorboard matplotlib   (training)
and install them with `pip install --no-index --find-links FOLDER 'wavenet-audio[train]'`.
A part that misses a package says so in the report, and the others run.
"""


def add_arguments(doctor: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    doctor.formatter_class = argparse.RawDescriptionHelpFormatter
    doctor.epilog = WHEELS
    doctor.add_argument("--device", default="cuda", help="cuda (default), cuda:1 or cpu")
    doctor.add_argument(
        "--out", type=Path, metavar="REPORT", help="Folder to write report.json and report.md to."
    )
    doctor.add_argument(
        "--minutes", type=float, default=8.0, help="Time for all parts together (default 8)."
    )
    doctor.add_argument(
        "--part",
        action="append",
        metavar="NAME",
        help="Run only this part; may be given several times.",
    )
    doctor.add_argument(
        "--table", type=Path, metavar="REPORT", help="Print the tables of a report and stop."
    )


def answer(options: argparse.Namespace) -> tuple[str, int]:
    """Run the parts, or read a report.

    Returns:
        What to print, and the exit code: 1 if a check failed, raised, hung or was killed.

    Raises:
        ValueError: for a device that is not here, an unknown part, or no report.
    """
    from wavenet.benchmark.doctor.parts import PARTS
    from wavenet.benchmark.doctor.report import markdown, read_report, tables
    from wavenet.benchmark.doctor.runner import run_doctor

    if options.table is not None:
        return "\n".join(tables(read_report(options.table))), 0
    if options.out is None:
        raise ValueError("--out is missing; name the folder for the report")
    device(options.device)
    report = run_doctor(
        options.device,
        options.out,
        minutes=options.minutes,
        parts=options.part or tuple(PARTS),
        progress=lambda line: print(line, file=sys.stderr, flush=True),
    )
    states = {part["status"] for part in report["parts"].values()}
    return markdown(report), int(bool(states & {"failed", "raised", "timeout", "killed"}))
