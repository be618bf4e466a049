"""Peak memory of this process since it was last set back, for tests that bound it.

``ru_maxrss`` would not do: it never falls, and a process inherits it from the one that starts it.
Where there is no ``/proc`` (not Linux) it is what there is.
"""

import resource
import sys
from pathlib import Path

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def reset_peak() -> None:
    """Let the peak begin anew at what is in use now."""
    if RESET.exists():
        RESET.write_text("5")


def peak_kib() -> int:
    """Peak resident memory in KiB."""
    if STATUS.exists():
        lines = STATUS.read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // 1024 if sys.platform == "darwin" else peak
