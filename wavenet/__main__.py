"""``python -m wavenet`` is the command ``wavenet``."""

import os
import sys

from wavenet.cli.signals import end_at_once


def main() -> int:
    """Run the command of this process; ctrl-C is quiet before it, while it loads, and after it."""
    end_at_once()
    if sys.argv[1:2] == ["train"]:
        # Threads of OpenMP that wait by spinning hold a core that others need: with other programs
        # on two cores a step took three times as long. It is read when torch is loaded.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from wavenet.cli.main import main as run

    return run()


if __name__ == "__main__":
    raise SystemExit(main())
