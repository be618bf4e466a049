"""``wavenet shard``: write a corpus to an object store."""

from __future__ import annotations

import argparse
import functools
import json

from wavenet.cli.options import add_json, any_name, integer, number
from wavenet.cli.progress import counted
from wavenet.cli.standard_streams import print_result
from wavenet.values.text import printable

LARGEST_MIB = 1 << 20


def add_arguments(shard: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    shard.add_argument(
        "corpus",
        type=any_name,
        metavar="CORPUS",
        help="read this folder of audio files, this CSV or JSONL manifest, or a corpus of this "
        "name, such as LJSPEECH or LIBRITTS/dev-clean",
    )
    shard.add_argument(
        "url",
        type=any_name,
        metavar="URL",
        help="write to this folder, or to this place in an object store, such as "
        "s3://BUCKET/FOLDER, gs://BUCKET/FOLDER or az://ACCOUNT/CONTAINER/FOLDER; credentials come "
        "from the environment",
    )
    shard.add_argument(
        "--sample-rate",
        type=integer,
        default=16_000,
        metavar="HZ",
        help="resample recordings to this rate, that of the model (default: 16000)",
    )
    shard.add_argument(
        "--trim-silence",
        type=number,
        metavar="DB",
        help="trim both ends of each recording where it stays below this level in dB of full "
        "scale, such as -50, as the key trim_silence of training (default: trim nothing)",
    )
    shard.add_argument(
        "--shard-mib",
        type=integer,
        default=32,
        metavar="MIB",
        help="write objects of about this size in MiB; a longer recording is an object of its own "
        "(default: 32)",
    )
    shard.add_argument(
        "--corpus-root",
        type=any_name,
        default="corpora",
        metavar="FOLDER",
        help="look for named corpora in this folder (default: corpora)",
    )
    add_json(shard)


def run(options: argparse.Namespace) -> int:
    """Write the shards, and print what they hold.

    Raises:
        ValueError: for a corpus that cannot be read, or a store that cannot be written.
        ModuleNotFoundError: without obstore.
    """
    if not 1 <= options.sample_rate <= 1_000_000:
        raise ValueError(f"--sample-rate={options.sample_rate} must be from 1 to 1000000 Hz")
    if not 1 <= options.shard_mib <= LARGEST_MIB:
        raise ValueError(f"--shard-mib={options.shard_mib} must be from 1 to {LARGEST_MIB} MiB")
    if options.trim_silence is not None and not -1000 < options.trim_silence < 0:
        raise ValueError(
            f"--trim-silence={options.trim_silence:g} must be negative, in dB, such as -50"
        )
    from wavenet.data.corpora import find_corpus
    from wavenet.data.shard_writing import write_shards

    index = write_shards(
        find_corpus(options.corpus, root=options.corpus_root),
        options.url,
        options.sample_rate,
        trim_db=options.trim_silence,
        shard_bytes=options.shard_mib << 20,
        progress=functools.partial(counted, title="decoding"),
    )
    facts = {
        "url": options.url,
        "recordings": len(index.names),
        "speakers": len(index.speakers),
        "hours": sum(index.length) / index.sample_rate / 3600,
        "sample_rate": index.sample_rate,
        "shards": len(index.shard_sha256),
        "bytes": sum(index.shard_bytes),
        "content": index.content,
        "skipped": list(index.skipped),
    }
    if options.json:
        print_result(json.dumps(facts))
        return 0
    print_result(
        f"{facts['recordings']} recordings, {facts['hours']:.2f} h at {index.sample_rate} Hz, in "
        f"{facts['shards']} shards, {sum(index.shard_bytes) / 1e9:.3f} GB: {printable(options.url)}"
    )
    for line in index.skipped[:3]:
        print_result(f"left out {printable(line)}")
    if len(index.skipped) > 3:
        print_result(f"left out {len(index.skipped)} recordings in all; --json names them")
    return 0
