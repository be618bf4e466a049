"""Make a voice of a trained model: weights in half precision, a model card, the licences.

    python recipes/prompts/ship.py OUT/model prompts-16k --licence samples/LICENSE-CC-BY-SA-3.0.txt

The voice goes into wavenet/voices/NAME, where the package finds it and the wheel takes it from. The
card is written once and is yours to complete; a later run leaves it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from shipping import LARGEST_BYTES, write_voice

from wavenet.storage.pretrained import CARD_NAME, FOLDER


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkpoint", metavar="MODEL", help="what training exported")
    parser.add_argument("name", metavar="NAME", help="of the voice")
    parser.add_argument(
        "--licence",
        action="append",
        required=True,
        metavar="FILE",
        help="to be copied beside the weights: the licence, the attribution; again for each",
    )
    parser.add_argument("--dtype", default="float16", help="float16 (default) or bfloat16")
    parser.add_argument("--voices", type=Path, default=FOLDER, help="where voices lie")
    options = parser.parse_args()
    folder = options.voices / options.name
    try:
        change = write_voice(
            options.checkpoint, folder, licences=options.licence, dtype=options.dtype
        )
    except (ValueError, OSError) as error:
        print(f"ship.py: {error}", file=sys.stderr)
        return 2
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(f"{folder}: {size:,} bytes of at most {LARGEST_BYTES:,}")
    print(f"rounding moved no weight by more than {change:.1e} of its tensor's largest")
    print(f"complete the card: {folder / CARD_NAME}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
