"""Speed at which training windows are read from a corpus in a store, beside its folder.

Windows are those of the preset ``tiny``, half a second without a mel, so that little but reading is
measured. The caches are warm, but for one row, which begins with an empty one each time.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from functools import partial

from wavenet.benchmark.timing import Spread, limited_threads, seconds_of, take_turns
from wavenet.data import Corpus, Store, WindowPlan, Windows, find_corpus, read_cached, write_shards
from wavenet.model import WaveNet
from wavenet.model.config import WaveNetConfig

WINDOW_S = 0.5
BATCH = 8
_LARGEST_SHARD_BYTES = 32 << 20
_LEAST_SHARDS = 16
_MOST_IN_GROUP = 4
_SMALL_SHARE = 0.9
"""Share of the corpus that the smaller caches hold: its windows are drawn from groups of shards."""


@dataclass(frozen=True)
class StoreSpeed:
    """Training windows a second, by where they are read from.

    Attributes:
        windows_per_second: of the rounds, by name.
        gigabytes: size of the corpus in 16-bit samples.
        n_windows: of a round.
    """

    windows_per_second: dict[str, Spread]
    gigabytes: float
    n_windows: int

    def to_json(self) -> str:
        """Return all figures as JSON."""
        speeds = {name: spread.to_dict() for name, spread in self.windows_per_second.items()}
        facts = {"gigabytes": self.gigabytes, "windows_per_round": self.n_windows}
        return json.dumps({**facts, "windows_per_second": speeds})

    def __str__(self) -> str:
        width = max(map(len, self.windows_per_second))
        folder = next(iter(self.windows_per_second.values())).median
        lines = [f"{'':{width}}  windows/s      min      max  x folder"]
        for name, found in self.windows_per_second.items():
            lines.append(
                f"{name:{width}}  {found.median:9,.0f} {found.min:8,.0f} {found.max:8,.0f}"
                f"  {found.median / folder:8.2f}"
            )
        lines.append(f"{self.n_windows} windows of {WINDOW_S} s a round, {self.gigabytes:.3f} GB")
        return "\n".join(lines)


def measure_store(
    folder: str, url: str | None, *, n_windows: int = 4000, rounds: int = 5, threads: int = 1
) -> StoreSpeed:
    """Write the shards of a corpus to a store, and read windows from it and from the folder.

    Args:
        folder: corpus of audio files.
        url: folder or store that gets the shards; None for a temporary folder.
        n_windows: number of windows of a round.
        rounds: repetitions.
        threads: most CPU threads.

    Raises:
        ValueError: for a corpus that cannot be read, or is too small for two groups of shards, or a
            store that fails.
        ModuleNotFoundError: without obstore.
    """
    config = WaveNetConfig.preset("tiny")
    listing = find_corpus(folder)
    with tempfile.TemporaryDirectory() as place, limited_threads(threads):
        store = f"{place}/shards" if url is None else url
        mapped = read_cached(listing, config.sample_rate, cache=f"{place}/folder")
        shard_bytes = min(_LARGEST_SHARD_BYTES, 2 * mapped.n_samples // _LEAST_SHARDS)
        write_shards(listing, store, config.sample_rate, shard_bytes=shard_bytes)
        gigabytes = 2 * mapped.n_samples / 1e9
        open_small = partial(Store, store, cache_gb=_SMALL_SHARE * gigabytes)
        whole = Store(store, f"{place}/whole", 2 * gigabytes).open(config.sample_rate)
        groups = open_small(f"{place}/groups", most_in_group=_MOST_IN_GROUP)
        in_groups = groups.open(config.sample_rate)
        plan = WindowPlan.of(WaveNet(config), WINDOW_S)

        def read(corpus: Corpus) -> None:
            data = Windows(corpus, plan, n_windows=n_windows, seed=0).shuffle_shards()
            for first in range(0, n_windows, BATCH):
                data.__getitems__(range(first, min(first + BATCH, n_windows)))

        def read_cold() -> None:
            with tempfile.TemporaryDirectory(dir=place) as cold:
                store_of_round = open_small(cold, most_in_group=_MOST_IN_GROUP)
                corpus = store_of_round.open(config.sample_rate)
                read(corpus)
                end_fetching_ahead(corpus)

        def end_fetching_ahead(corpus: Corpus) -> None:
            """Leave nothing that writes to a folder that is about to be removed."""
            if corpus.shards is not None:
                corpus.shards.end_fetching_ahead()

        read(in_groups)
        seconds = take_turns(
            {
                "folder, mapped": partial(read, mapped),
                "store, fits the cache": partial(read, whole),
                "store, larger than the cache": partial(read, in_groups),
            },
            rounds,
        )
        end_fetching_ahead(in_groups)
        seconds["the same, empty cache"] = [seconds_of(read_cold) for _ in range(rounds)]
    speeds = {name: Spread.of([n_windows / s for s in each]) for name, each in seconds.items()}
    return StoreSpeed(speeds, gigabytes, n_windows)
