"""``wavenet doctor``: check and measure this machine's device, and leave a report."""

from __future__ import annotations

import argparse
from pathlib import Path

from wavenet.cli.options import device, number
from wavenet.cli.standard_streams import print_message, print_result

WHEELS = """\
The command itself needs torch, numpy and safetensors. A part that misses another package reports it
in the report, and the others run. To run every part on a machine without a network, bring wheels of
  numpy safetensors
  numba llvmlite          (the compiled CPU engine and training step)
  soundfile cffi pycparser soxr tqdm          (audio files)
  lightning lightning-utilities torchmetrics pytorch-lightning fsspec packaging pyyaml
  jsonargparse docstring-parser typeshed-client tensorboard matplotlib   (training)
and what these need in turn. In a checkout, where there is a network, this collects them all:
  pip wheel --wheel-dir FOLDER '.[train]'
and this installs them on the other machine:
  pip install --no-index --find-links FOLDER 'wavenet-audio[train]'
Triton, for the engine gpu-fused, comes with torch on Linux and needs a C compiler (gcc).
"""

DEVICES = ("cpu", "cuda")


def add_arguments(doctor: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    doctor.formatter_class = argparse.RawDescriptionHelpFormatter
    doctor.epilog = WHEELS
    doctor.add_argument(
        "--device", default="cuda", help="check this device: cuda (default), cuda:1 or cpu"
    )
    doctor.add_argument(
        "--out", type=Path, metavar="REPORT", help="write report.json and report.md to this folder"
    )
    doctor.add_argument(
        "--minutes",
        type=number,
        default=8.0,
        help="spend about this many minutes on all parts together (default: 8)",
    )
    doctor.add_argument(
        "--part",
        action="append",
        metavar="NAME",
        help="run only this part; may be given several times",
    )
    doctor.add_argument(
        "--table",
        type=Path,
        metavar="REPORT",
        help="print the tables of a report, or of all reports in the folders below a folder, and "
        "stop",
    )


def run(options: argparse.Namespace) -> int:
    """Run the parts and print the report, or print the tables of one.

    Returns:
        The exit code: 1 if a check failed, raised, hung or was killed.

    Raises:
        ValueError: for a device that is not here, an unknown part, or no report.
    """
    from wavenet.benchmark.doctor.parts import PARTS
    from wavenet.benchmark.doctor.report import markdown, published
    from wavenet.benchmark.doctor.runner import run_doctor

    if options.table is not None:
        print_result("\n".join(published(options.table)).rstrip())
        return 0
    if options.out is None:
        raise ValueError("--out is missing; name the folder for the report")
    _require_device(options.device)
    report = run_doctor(
        options.device,
        options.out,
        minutes=options.minutes,
        parts=options.part or tuple(PARTS),
        progress=print_message,
    )
    states = {part["status"] for part in report["parts"].values()}
    print_result(markdown(report))
    return int(bool(states & {"failed", "raised", "timeout", "killed"}))


def _require_device(name: str) -> None:
    """Raise ValueError for a device that is not here, or that has no checks."""
    import torch

    if name.partition(":")[0] == "cuda" and not torch.cuda.is_available():
        built = f"was built for CUDA {torch.version.cuda}" if torch.version.cuda else "has no CUDA"
        raise ValueError(
            f"--device={name}: torch {torch.__version__}, which {built}, sees no GPU here; try "
            "nvidia-smi, and a torch that fits the driver, or give --device cpu"
        )
    if device(name).type not in DEVICES:
        raise ValueError(f"--device={name} is not checked; choose cpu, cuda or cuda:1")
