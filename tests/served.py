"""A server of a small model on a free port of this process, and requests to it."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from wavenet import MelConfig, WaveNet, WaveNetConfig
from wavenet.serving.limits import Limits
from wavenet.serving.run import bound_socket, make_server
from wavenet.serving.service import Service

RATE = 16000
CONFIG = WaveNetConfig(
    layers_per_stack=3,
    stacks=1,
    residual_channels=5,
    skip_channels=6,
    distribution="gaussian_mixture",
    distribution_size=2,
    mel=MelConfig(n_fft=256, win_samples=200, hop_samples=100, n_mels=20),
    linear_prediction=4,
    pitch_taps=3,
    speakers=2,
    speaker_names=("ann", "bob"),
    unconditional=True,
    noise_shaping=0.5,
    refinement_passes=2,
)


def make_model() -> WaveNet:
    torch.manual_seed(0)
    return WaveNet(CONFIG).eval()


def tone(seconds: float, hz: float = 200.0) -> np.ndarray:
    times = np.arange(round(seconds * RATE)) / RATE
    return 0.3 * np.sin(2 * np.pi * hz * times) * np.hanning(len(times))


def tone_file(path: Path, seconds: float) -> Path:
    soundfile.write(path, tone(seconds), RATE)
    return path


class Server:
    """A running server.

    Attributes:
        port: of it.
        service: that it serves.
    """

    def __init__(self, service: Service) -> None:
        listener = bound_socket("127.0.0.1", 0)
        self.service, self.port = service, listener.getsockname()[1]
        self._server = make_server(service, local=True)
        self._thread = threading.Thread(target=self._server.run, args=([listener],))
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(20)
        assert not self._thread.is_alive()

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes, dict[str, str]]:
        """Status, body and headers of the answer."""
        with contextlib.closing(self.connection()) as connection:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read(), {k.lower(): v for k, v in answer.getheaders()}

    def error(self, method: str, path: str, body: Any = None) -> tuple[int, str]:
        """Status and message of an error, which is one line."""
        status, content, _ = self.ask(method, path, body)
        (message,) = json.loads(content).values()
        assert "\n" not in message
        return status, message

    def metric(self, name: str) -> float:
        text = self.ask("GET", "/metrics")[1].decode()
        (line,) = (line for line in text.splitlines() if line.startswith(f"{name} "))
        return float(line.split()[1])

    def wait_for(self, name: str, value: float) -> None:
        """Until a metric has this value."""
        deadline = time.monotonic() + 20
        while self.metric(name) != value:
            assert time.monotonic() < deadline, (name, self.metric(name))
            time.sleep(0.02)

    def url(self, path: str) -> str:
        return f"ws://127.0.0.1:{self.port}{path}"


@contextlib.contextmanager
def running(model: WaveNet, limits: Limits | None = None, **settings: Any) -> Iterator[Server]:
    service = Service(name="small", model=model, limits=limits or Limits(), **settings)
    server = Server(service)
    try:
        yield server
    finally:
        server.stop()
