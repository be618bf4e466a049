"""What a server counts, in the text format of Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Counters and gauges of one server.

    Attributes:
        active: utterances that are being generated.
        waiting: requests that wait for a row.

    Args:
        sample_rate: of the voice, in Hz.
    """

    def __init__(self, sample_rate: int) -> None:
        self._registry, self._rate = CollectorRegistry(), sample_rate
        self.active = self._gauge("active_streams", "Utterances that are being generated.")
        self.waiting = self._gauge("queue_length", "Requests that wait for a row.")
        self._factor = self._gauge(
            "real_time_factor", "Seconds of audio made per second of sampling, over all rows."
        )
        self._samples = Counter(
            "wavenet_samples_generated", "Samples generated.", registry=self._registry
        )
        self._busy = Counter(
            "wavenet_sampling_seconds", "Seconds spent on sampling.", registry=self._registry
        )
        self._requests = Counter(
            "wavenet_requests",
            "Requests answered, by endpoint and status.",
            ["endpoint", "status"],
            registry=self._registry,
        )
        self._n_samples = self._seconds = 0.0

    def made(self, n_samples: int, seconds: float) -> None:
        """Count samples, and the seconds that they took."""
        self._samples.inc(n_samples)
        self._busy.inc(seconds)
        # Forgets what is some seconds of sampling ago.
        kept = 0.5 ** (seconds / 2)
        self._n_samples = kept * self._n_samples + n_samples
        self._seconds = kept * self._seconds + seconds
        if self._seconds:
            self._factor.set(self._n_samples / self._rate / self._seconds)

    def answered(self, endpoint: str, status: int) -> None:
        """Count a request."""
        self._requests.labels(endpoint, str(status)).inc()

    def text(self) -> bytes:
        """Return all values, as a scraper reads them."""
        return generate_latest(self._registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"wavenet_{name}", text, registry=self._registry)
