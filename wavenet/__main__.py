"""``python -m wavenet`` is the command ``wavenet``."""

from wavenet.cli.signals import end_at_once


def main() -> int:
    """Run the command of this process; ctrl-C is quiet before it, while it loads, and after it."""
    end_at_once()
    from wavenet.cli.main import main as run

    return run()


if __name__ == "__main__":
    raise SystemExit(main())
