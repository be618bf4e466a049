"""``python -m wavenet`` is the command ``wavenet``."""

from wavenet.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
