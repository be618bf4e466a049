"""``/stream`` and ``/process`` live: samples as they are made, within the stated latency."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from served import RATE, Server, running, tone, tone_file
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

import wavenet
from wavenet import WaveNet
from wavenet.generation.engines.cpu import engine
from wavenet.generation.threads import threads
from wavenet.nam import NamWaveNet, preset
from wavenet.serving import live
from wavenet.serving.limits import Limits

WAIT_S = 60.0  # a kernel may have to be compiled
END = json.dumps({"end": True})


def mel_of(voice: WaveNet, seconds: float) -> torch.Tensor:
    assert voice.config.mel is not None
    audio = torch.from_numpy(tone(seconds)).float()
    return wavenet.log_mel(audio, voice.config.mel, voice.mel_filterbank)


def frames(mel: torch.Tensor) -> bytes:
    return mel.T.contiguous().numpy().astype("<f4").tobytes()


def begun(server: Server, path: str, **settings: Any) -> tuple[ClientConnection, dict[str, Any]]:
    """A connection, and what the server says of it."""
    socket = connect(server.url(path), max_size=None).__enter__()  # closed by ``rest``
    socket.send(json.dumps(settings))
    return socket, json.loads(socket.recv(WAIT_S))


def rest(socket: ClientConnection) -> tuple[np.ndarray, dict[str, Any]]:
    """All samples, and the last message."""
    parts = []
    while isinstance(message := socket.recv(WAIT_S), bytes):
        parts.append(np.frombuffer(message, "<f4"))
    socket.close()
    return np.concatenate([*parts, np.empty(0, np.float32)]), json.loads(message)


@pytest.mark.parametrize("refine", [0, 2])
def test_a_mel_is_spoken_as_generate_does(served: Server, voice: WaveNet, refine: int) -> None:
    mel = mel_of(voice, 0.5)
    given = {"input": "mel", "output_type": "float32", "seed": 5, "refine": refine}
    socket, facts = begun(served, "/stream", **given, speaker="ann")
    assert (facts["sample_rate"], facts["n_mels"], facts["hop_samples"]) == (RATE, 20, 100)
    for piece in mel.split(7, dim=1):
        socket.send(frames(piece))
    socket.send(END)
    samples, last = rest(socket)
    assert last == {"ended": True, "n_samples": len(samples)}
    alone = wavenet.generate(voice, mel=mel, seed=5, refine=refine, speaker="ann")[0].numpy()
    assert samples.shape == alone.shape
    # Blocks of other lengths round otherwise, and samples follow from each other.
    assert np.abs(samples[:800] - alone[:800]).max() < 1e-3


def test_refine_as_null_is_refine_left_out(served: Server) -> None:
    latencies = []
    given: list[dict[str, Any]] = [{}, {"refine": None}, {"refine": 0}]
    for settings in given:
        socket, facts = begun(served, "/stream", speaker="ann", **settings)
        socket.close()
        latencies.append(facts["latency_samples"])
    assert len(set(latencies)) == 1


@pytest.mark.parametrize("refine", [0, 2])
@pytest.mark.parametrize("taken", ["mel", "audio"])
def test_samples_come_within_the_stated_latency(
    served: Server, voice: WaveNet, taken: str, refine: int
) -> None:
    """After n samples of input, all but the latency's have come; the rest waits for more."""
    socket, facts = begun(
        served, "/stream", input=taken, input_type="float32", output_type="float32", refine=refine
    )
    latency = facts["latency_samples"]
    assert facts["latency_ms"] == pytest.approx(1000 * latency / RATE, abs=1e-3)
    n_given, n_got = 0, 0
    for _ in range(40):
        if taken == "mel":
            socket.send(frames(mel_of(voice, 0.0125)[:, :2]))
        else:
            socket.send(tone(0.0125).astype("<f4").tobytes())
        n_given += 200
        while n_got < n_given - latency:
            n_got += len(socket.recv(WAIT_S)) // 4
        assert n_got <= n_given
    socket.send(END)
    samples, last = rest(socket)
    assert last["n_samples"] == n_got + len(samples) == n_given


def test_a_stream_that_waits_keeps_its_state_while_others_run(
    served: Server, voice: WaveNet
) -> None:
    mel, other = mel_of(voice, 0.4), mel_of(voice, 0.3)
    given = {"output_type": "float32", "seed": 1}
    waiting, _ = begun(served, "/stream", **given)
    waiting.send(frames(mel[:, :30]))
    for seed in range(2):
        socket, _ = begun(served, "/stream", **{**given, "seed": seed})
        socket.send(frames(other))
        socket.send(END)
        rest(socket)
    waiting.send(frames(mel[:, 30:]))
    waiting.send(END)
    samples, _ = rest(waiting)
    socket, _ = begun(served, "/stream", **given)
    socket.send(frames(mel))
    socket.send(END)
    assert np.array_equal(samples, rest(socket)[0])


def test_the_engine_is_ready_before_the_first_request(voice: WaveNet) -> None:
    """Compiling and packing happen while nobody waits; nothing of it is counted or heard."""
    with running(voice) as server:
        deadline = time.monotonic() + WAIT_S
        while not json.loads(server.ask("GET", "/healthz")[1])["ready"]:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert server.metric("wavenet_active_streams") == 0
        assert server.metric("wavenet_samples_generated_total") == 0
        assert server.metric("wavenet_sampling_seconds_total") == 0


def test_the_engine_has_all_threads_and_a_live_mel_one(
    voice: WaveNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where another process keeps a core busy, a mel that threads share takes a hundred times."""
    found: dict[str, set[int]] = {"mel": set(), "engine": set(), "frames": set()}

    def noted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            found[name].add(torch.get_num_threads())
            return function(*args, **kwargs)

        return call

    monkeypatch.setattr(live, "log_mel_rows", noted("mel", live.log_mel_rows))
    monkeypatch.setattr(engine, "pack_weights", noted("engine", engine.pack_weights))
    monkeypatch.setattr(voice, "condition_frames", noted("frames", voice.condition_frames))
    with threads(2), running(voice) as server:
        for temperature in (0.7, 0.8):
            given = {"input": "audio", "input_type": "float32", "output_type": "float32"}
            socket, _ = begun(server, "/stream", **given, temperature=temperature)
            socket.send(tone(0.1).astype("<f4").tobytes())
            socket.send(END)
            assert len(rest(socket)[0]) == 1600
    assert found == {"mel": {1}, "engine": {2}, "frames": {1}}


def refused(socket: ClientConnection) -> tuple[str, int]:
    """The error, and the code of the end."""
    message = json.loads(socket.recv(WAIT_S))
    with pytest.raises(ConnectionClosed) as closed:
        socket.recv(WAIT_S)
    assert closed.value.rcvd is not None
    return message["error"], closed.value.rcvd.code


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("nonsense", "a text message must be an object in JSON"),
        ("[1]", "a text message must be an object in JSON"),
        ('{"input": "smell"}', "input='smell' must be mel or audio"),
        ('{"output_type": 3}', "output_type='3' must be one of pcm16, float32"),
        ('{"speed": 2}', "'speed' is unknown; known are seed"),
        ('{"pitch": 9}', "pitch=9.0 must be from 0.5 to 2"),
        (b"bytes", "the first message is binary; send the settings as JSON"),
    ],
)
def test_wrong_settings_are_refused(served: Server, settings: str | bytes, message: str) -> None:
    with connect(served.url("/stream")) as socket:
        socket.send(settings)
        error, code = refused(socket)
    assert error.startswith(message)
    assert code == 1008


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (bytes(3), "3 bytes are no whole number of float32 values"),
        (bytes(84), "21 values are no whole number of frames of 20 bands"),
        (np.full(20, np.nan, "<f4").tobytes(), "a message has values that are NaN or infinite"),
        ("stop", "a text message must be an object in JSON"),
        (END, "the input ended before its first frame"),
    ],
)
def test_wrong_input_is_refused(served: Server, content: str | bytes, message: str) -> None:
    socket, _ = begun(served, "/stream")
    socket.send(content)
    error, _ = refused(socket)
    assert error.startswith(message)
    served.wait_for("wavenet_active_streams", 0)


def test_a_client_that_leaves_or_sends_nothing_frees_its_row(voice: WaveNet) -> None:
    with running(voice, Limits(rows=1, max_queue=0, timeout_s=0.5)) as server:
        socket, _ = begun(server, "/stream")
        server.wait_for("wavenet_active_streams", 1)
        with connect(server.url("/stream")) as second:
            second.send("{}")
            assert json.loads(second.recv(WAIT_S))["status"] == 429
        error, _ = refused(socket)
        assert "0.5 s" in error
        server.wait_for("wavenet_active_streams", 0)
        socket, _ = begun(server, "/stream")
        server.wait_for("wavenet_active_streams", 1)
        socket.close()
        server.wait_for("wavenet_active_streams", 0)


def test_a_stream_without_a_row_is_told_how_many_are_ahead_and_begins_after_them(
    voice: WaveNet,
) -> None:
    with running(voice, Limits(rows=1, max_queue=2)) as server:
        sockets = []
        for ahead in range(3):
            socket, facts = begun(server, "/stream", output_type="float32")
            assert facts["ahead"] == ahead
            sockets.append(socket)
        with connect(server.url("/stream")) as fourth:
            fourth.send("{}")
            message, code = refused(fourth)
        assert (message, code) == ("3 requests are running or waiting; try again later", 1013)
        content = frames(mel_of(voice, 0.1))
        for socket in reversed(sockets):  # the order in which they are sent does not matter
            socket.send(content)
            socket.send(END)
        made = [rest(socket)[0] for socket in sockets]
        assert all(np.array_equal(one, made[0]) for one in made)


@pytest.fixture(scope="module")
def amplifier() -> NamWaveNet:
    torch.manual_seed(0)
    return NamWaveNet(preset("nano")).eval()


def test_an_amplifier_answers_live_and_whole(
    voice: WaveNet, amplifier: NamWaveNet, tmp_path: Path
) -> None:
    source = tone_file(tmp_path / "in.wav", 0.2)
    audio = torch.from_numpy(soundfile.read(source, dtype="float32")[0])
    with running(voice, amplifiers={"amp": amplifier}) as server:
        socket, facts = begun(server, "/process", input_type="float32", output_type="float32")
        assert facts["latency_samples"] == 0
        for piece in audio.split(500):
            socket.send(piece.numpy().astype("<f4").tobytes())
        socket.send(END)
        samples, last = rest(socket)
        assert last == {"ended": True, "n_samples": len(audio)}
        state = amplifier.warm_state(1)
        expected = amplifier.stream(audio[None, None], state)[0][0, 0].detach().numpy()
        assert np.abs(samples - expected).max() < 1e-5
        status, made, _ = server.ask("POST", "/process?model=amp", source.read_bytes())
        assert status == 200
        (tmp_path / "out.wav").write_bytes(made)
        whole, rate = soundfile.read(tmp_path / "out.wav")
        assert (len(whole), rate) == (len(audio), RATE)
        assert server.error("POST", "/process?model=fuzz", b"x")[0] == 404
        assert server.error("POST", "/process", b"x")[0] == 415


def test_a_page_of_another_site_gets_no_socket(served: Server) -> None:
    with pytest.raises(InvalidStatus, match="403"):
        connect(served.url("/stream"), origin="http://elsewhere").__enter__()


def test_a_setting_beyond_all_numbers_is_an_error_in_json(served: Server) -> None:
    with connect(served.url("/stream")) as socket:
        socket.send('{"temperature": 1%s}' % ("0" * 500))
        assert json.loads(socket.recv(WAIT_S))["status"] == 400
