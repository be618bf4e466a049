"""``POST /vocode``: what the command writes, refusals in one line, and rows that become free."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from served import RATE, Server, running, tone_file
from starlette.types import Message

import wavenet
from wavenet import WaveNet
from wavenet.audio import read_audio
from wavenet.cli.main import main
from wavenet.evaluation.baselines import why_unavailable
from wavenet.features.mel_files import write_mel
from wavenet.features.mel_warping import MelWarp, change_speed
from wavenet.serving import vocode
from wavenet.serving.limits import Limits, RequestError
from wavenet.serving.output import Output
from wavenet.serving.settings import Settings, read_settings
from wavenet.serving.vocode import BASELINES, ChunkedAnswer

SPOKEN = ["--seed", "7", "--temperature", "0.8", "--speaker", "bob"]
QUERY = "seed=7&temperature=0.8&speaker=bob"


@pytest.fixture
def body(tmp_path: Path) -> Path:
    return tone_file(tmp_path / "in.flac", 0.31)


@pytest.mark.parametrize("suffix", ["wav", "flac"])
@pytest.mark.parametrize("source", ["in.flac", "in.npz"])
def test_the_answer_has_the_bytes_that_wavenet_vocode_writes(
    served: Server, folder: Path, tmp_path: Path, body: Path, suffix: str, source: str
) -> None:
    if source == "in.npz":
        mel = str(tmp_path / source)
        assert main(["mel", str(body), mel, "--model", str(folder)]) == 0
    out = tmp_path / f"out.{suffix}"
    given = ["vocode", str(tmp_path / source), str(out), "--model", str(folder)]
    assert main([*given, *SPOKEN]) == 0
    content = (tmp_path / source).read_bytes()
    status, made, headers = served.ask("POST", f"/vocode?{QUERY}&format={suffix}", content)
    assert (status, headers["content-type"]) == (200, f"audio/{suffix}")
    assert made == out.read_bytes()


@pytest.mark.slow
def test_raw_samples_come_in_chunks_and_are_those_of_wavenet_generate(
    served: Server, folder: Path, body: Path, repository: Path
) -> None:
    status, made, headers = served.ask("POST", f"/vocode?{QUERY}&format=pcm", body.read_bytes())
    assert (status, headers["transfer-encoding"]) == (200, "chunked")
    command = ["generate", "-", "--model", str(folder), "--mel-from", str(body), *SPOKEN]
    done = subprocess.run(
        [sys.executable, "-m", "wavenet", *command], cwd=repository, check=True, capture_output=True
    )
    assert made == done.stdout


def test_requests_at_once_are_what_each_is_alone(
    served: Server, voice: WaveNet, tmp_path: Path
) -> None:
    bodies = [tone_file(tmp_path / f"{i}.wav", 0.05 + 0.07 * i).read_bytes() for i in range(6)]

    def ask(number: int) -> bytes:
        query = f"seed={number}&temperature={0.9 if number % 2 else 1.0}"
        return served.ask("POST", f"/vocode?{query}&format=pcm", bodies[number])[1]

    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(ask, range(6)))
    assert together == [ask(number) for number in range(6)]
    assert len(set(together)) == 6
    assert [len(made) for made in together] == [
        2 * round((0.05 + 0.07 * i) * RATE) for i in range(6)
    ]


def test_pitch_formants_and_speed_change_the_mel_that_is_synthesized(
    served: Server, voice: WaveNet, body: Path
) -> None:
    assert voice.config.mel is not None
    audio, _ = read_audio(body, RATE)
    mel = wavenet.log_mel(audio, voice.config.mel, voice.mel_filterbank)
    changed = change_speed(MelWarp(voice.config.mel, pitch=1.5, formant=0.8)(mel), 1.25)
    n_samples = round(len(audio) / 1.25)
    alone = wavenet.generate(voice, mel=changed, seed=0, n_samples=n_samples)[0]
    query = "pitch=1.5&formant=0.8&speed=1.25&format=pcm"
    made = np.frombuffer(served.ask("POST", f"/vocode?{query}", body.read_bytes())[1], "<i2")
    assert made.shape == alone.shape
    assert np.abs(made / 32768 - alone.numpy()).max() < 1e-4


@pytest.mark.parametrize(
    ("query", "content", "expected"),
    [
        ("seed=x", None, (400, "seed='x' must be an integer from 0")),
        ("seed=-1", None, (400, "seed='-1' must be an integer from 0")),
        ("volume=1", None, (400, "'volume' is unknown; known are seed")),
        ("pitch=3", None, (400, "pitch=3.0 must be from 0.5 to 2")),
        ("seed=1&seed=2", None, (400, "'seed' is given twice; drop one of them")),
        ("seed=1_0", None, (400, "seed='1_0' must be an integer from 0")),
        ("temperature=0_1", None, (400, "temperature='0_1' must be a number")),
        ("speed=nan", None, (400, "speed='nan' must be a number")),
        ("speaker=eve", None, (400, "speaker='eve' is unknown; give one of ann, bob")),
        ("temperature=0", None, (400, "temperature must be above 0")),
        ("format=mp3", None, (400, "format='mp3' must be one of wav, flac, pcm")),
        ("", b"", (400, "the body is empty")),
        ("", b"no audio at all", (415, "the body: not an audio file")),
        ("", b"PK\x03\x04 no archive", (422, "the body")),
    ],
)
def test_a_wrong_request_gets_one_line(
    served: Server, body: Path, query: str, content: bytes | None, expected: tuple[int, str]
) -> None:
    given = body.read_bytes() if content is None else content
    status, message = served.error("POST", f"/vocode?{query}", given)
    assert status == expected[0]
    assert message.startswith(expected[1])


def test_null_in_json_leaves_a_setting_out(voice: WaveNet) -> None:
    given = {"seed": 5, "temperature": None, "speaker": None, "refine": None}
    assert read_settings(given, voice, live=True) == Settings(seed=5)


def test_a_form_is_refused_with_what_to_send_instead(served: Server, body: Path) -> None:
    form = b'--x\r\nContent-Disposition: form-data; name="f"\r\n\r\n%b\r\n--x--' % body.read_bytes()
    headers = {"content-type": "multipart/form-data; boundary=x"}
    status, content, _ = served.ask("POST", "/vocode", form, headers)
    assert status == 415
    assert b"the body is a form; send the file itself, as curl --data-binary @FILE does" in content


@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_a_mel_of_another_unit_is_refused_by_copies_without_the_network_too(
    served: Server, voice: WaveNet, tmp_path: Path
) -> None:
    assert voice.config.mel is not None
    write_mel(tmp_path / "in.npz", [torch.full((20, 5), 1e30)], voice.config.mel, 500)
    for path in ("/vocode", *(f"/baseline?system={name}" for name in BASELINES)):
        status, message = served.error("POST", path, (tmp_path / "in.npz").read_bytes())
        if status != 501:  # without librosa
            assert (status, message.partition(";")[0]) == (422, "the mel gives no finite samples")


def test_a_truncated_file_and_a_mel_of_other_settings_are_refused(
    served: Server, body: Path, tmp_path: Path
) -> None:
    audio = tone_file(tmp_path / "cut.wav", 0.2).read_bytes()
    assert served.error("POST", "/vocode", audio[:-100])[0] == 415
    assert main(["mel", str(body), str(tmp_path / "in.npz"), "--mel-config", "tacotron2"]) == 0
    status, message = served.error("POST", "/vocode", (tmp_path / "in.npz").read_bytes())
    assert status == 422
    assert message.startswith("the body: ")


def test_a_body_is_what_it_is_in_whatever_pieces_it_arrives(
    served: Server, tmp_path: Path, body: Path, folder: Path
) -> None:
    mel = tmp_path / "in.npz"
    assert main(["mel", str(body), str(mel), "--model", str(folder)]) == 0
    whole = served.ask("POST", f"/vocode?{QUERY}", mel.read_bytes())
    assert whole[0] == 200

    def pieces() -> Iterator[bytes]:
        content = mel.read_bytes()
        for piece in (content[:1], content[1:3], content[3:]):
            yield piece
            time.sleep(0.2)  # or the server would find them together

    assert served.ask("POST", f"/vocode?{QUERY}", pieces())[:2] == whole[:2]


def test_other_paths_methods_and_pages_of_other_sites_are_refused(served: Server) -> None:
    assert served.error("GET", "/vocode")[0] == 405
    assert served.error("GET", "/nothing")[0] == 404
    status, content, _ = served.ask("GET", "/info", headers={"Origin": "http://elsewhere"})
    assert (status, list(json.loads(content))) == (403, ["error"])
    for headers in ({"Origin": "http://["}, {"Host": "elsewhere", "Origin": "http://elsewhere"}):
        status, content, _ = served.ask("GET", "/info", headers=headers)
        assert (status, list(json.loads(content))) == (403, ["error"])
    for name in ("localhost", "[::1]", "127.0.1.1"):
        assert served.ask("GET", "/info", headers={"Host": f"{name}:8000"})[0] == 200


def test_a_mel_in_another_unit_that_gives_no_finite_samples_is_an_error(
    served: Server, voice: WaveNet, tmp_path: Path
) -> None:
    assert voice.config.mel is not None
    n_frames = voice.config.mel.frames(3000)
    mel = torch.full((20, n_frames), 1e30)
    write_mel(tmp_path / "a.npz", [mel], voice.config.mel, 3000)
    body = (tmp_path / "a.npz").read_bytes()
    for form in ("wav", "pcm"):
        status, message = served.error("POST", f"/vocode?format={form}&refine=0", body)
        assert status == 422, message


@pytest.mark.parametrize("name", ["max_seconds", "timeout_s", "grace_s"])
def test_a_limit_without_an_end_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}=inf must be .* finite, in seconds"):
        Limits(**{name: float("inf")})


def test_large_and_long_bodies_are_refused(voice: WaveNet, tmp_path: Path) -> None:
    with running(voice, Limits(max_bytes=9000, max_seconds=0.2)) as server:
        long = tone_file(tmp_path / "long.flac", 0.25).read_bytes()
        status, message = server.error("POST", "/vocode", long)
        assert (status, message) == (413, "0.2 s of audio; at most 0.2 s")
        assert server.error("POST", "/vocode", bytes(9001)) == (
            413,
            "the body is larger than 9000 bytes",
        )
        pieces = (bytes(4000) for _ in range(4))  # without its length
        assert server.error("POST", "/vocode", pieces)[0] == 413


def test_a_body_that_does_not_arrive_is_not_waited_for(voice: WaveNet) -> None:
    with running(voice, Limits(timeout_s=0.3)) as server:
        connection = server.connection()
        connection.putrequest("POST", "/vocode")
        connection.putheader("Content-Length", "1000")
        connection.endheaders(b"some")
        assert connection.getresponse().status == 408
        connection.close()


def busy(server: Server, body: bytes) -> Any:
    """A client that takes nothing of a long answer."""
    connection = server.connection()
    connection.request("POST", "/vocode?format=pcm", body)
    return connection


def test_a_full_queue_is_refused_and_a_client_that_leaves_frees_its_row(
    voice: WaveNet, tmp_path: Path
) -> None:
    long = tone_file(tmp_path / "long.wav", 50).read_bytes()
    with running(voice, Limits(rows=1, max_queue=1)) as server:
        first = busy(server, long)
        server.wait_for("wavenet_active_streams", 1)
        second = busy(server, long)
        server.wait_for("wavenet_queue_length", 1)
        status, content, headers = server.ask("POST", "/vocode", long)
        assert (status, headers["retry-after"]) == (429, "2")
        assert b"2 requests are running or waiting" in content
        second.close()
        server.wait_for("wavenet_queue_length", 0)
        first.close()
        server.wait_for("wavenet_active_streams", 0)
        made = server.metric("wavenet_samples_generated_total")
        assert made < 50 * RATE


def test_a_client_that_takes_nothing_makes_its_row_wait_and_no_other(
    voice: WaveNet, tmp_path: Path
) -> None:
    long = tone_file(tmp_path / "long.wav", 55).read_bytes()
    short = tone_file(tmp_path / "short.wav", 0.2).read_bytes()
    with running(voice, Limits(rows=2, timeout_s=30)) as server:
        slow = busy(server, long)
        server.wait_for("wavenet_active_streams", 1)
        assert server.ask("POST", "/vocode", short)[0] == 200
        slow.close()


def test_what_takes_too_long_ends_with_504(voice: WaveNet, tmp_path: Path) -> None:
    long = tone_file(tmp_path / "long.wav", 50).read_bytes()
    with running(voice, Limits(timeout_s=0.4)) as server:
        status, message = server.error("POST", "/vocode", long)
        assert (status, message) == (504, "not done within 0.4 s; send less at once")
        server.wait_for("wavenet_active_streams", 0)


def test_what_still_runs_when_the_server_stops_gets_503_in_json(
    voice: WaveNet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    long = tone_file(tmp_path / "long.wav", 55).read_bytes()
    with running(voice, Limits(grace_s=0)) as server:
        waiting = server.connection()
        waiting.request("POST", "/vocode", long)
        server.wait_for("wavenet_active_streams", 1)
    with contextlib.closing(waiting):
        answer = waiting.getresponse()
        assert (answer.status, answer.headers["retry-after"]) == (503, "5")
        assert json.loads(answer.read()) == {"error": "the server is stopping; try again later"}
    assert not any(record.exc_info for record in caplog.records)


@pytest.mark.parametrize("why", ["slow client", "failed", "stopping"])
def test_samples_that_cannot_go_on_are_cut_off_with_one_line(
    caplog: pytest.LogCaptureFixture, why: str
) -> None:
    async def pieces(output: Output) -> AsyncIterator[bytes]:
        yield b"some"
        await anext(output)

    async def receive() -> Message:
        await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if why == "slow client" and message["type"] == "http.response.body":
            await asyncio.Event().wait()

    async def answered() -> bool:
        output = Output(None, 0.3 if why == "slow client" else 30)
        answer = asyncio.create_task(
            ChunkedAnswer(output, pieces(output))({"type": "http"}, receive, send)
        )
        await asyncio.sleep(0.05)
        if why == "failed":
            output.fail(RequestError(500, "generation failed"))
        elif why == "stopping":
            answer.cancel()
        await answer
        return output.cancelled

    assert asyncio.run(answered())
    reason = {
        "slow client": "nothing was taken for 0.3 s",
        "failed": "generation failed",
        "stopping": "the server is stopping",
    }[why]
    assert [record.getMessage() for record in caplog.records] == [f"/vocode: cut off: {reason}"]


@pytest.mark.slow
def test_copies_without_the_network(served: Server, body: Path) -> None:
    pytest.importorskip("scipy", reason="pulses are filtered by scipy")
    status, made, _ = served.ask("POST", "/baseline?system=pulses", body.read_bytes())
    assert status == 200
    (body.parent / "made.wav").write_bytes(made)
    samples, rate = soundfile.read(body.parent / "made.wav")
    assert (len(samples), rate) == (round(0.31 * RATE), RATE)
    assert np.abs(samples).max() > 0.01
    assert served.error("POST", "/baseline?system=magic", body.read_bytes())[0] == 400


def test_what_copies_without_the_network_need_is_loaded_before_the_first_request(
    voice: WaveNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[Any, str]] = []
    without_network = vocode._without_network

    def make(service: Any, system: str, *given: Any) -> torch.Tensor:
        samples = without_network(service, system, *given)
        made.append((service, system))
        return samples

    monkeypatch.setattr(vocode, "_without_network", make)
    expected = [system for system in BASELINES if why_unavailable(system) is None]
    with running(voice) as server:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            found = [system for service, system in made if service is server.service]
            if found == expected:
                break
            time.sleep(0.02)
    assert found == expected


def test_health_and_metrics(served: Server) -> None:
    assert json.loads(served.ask("GET", "/healthz")[1])["status"] == "ok"
    status, text, headers = served.ask("GET", "/metrics")
    assert (status, headers["content-type"].partition(";")[0]) == (200, "text/plain")
    for name in ("active_streams", "queue_length", "real_time_factor", "samples_generated_total"):
        assert f"\nwavenet_{name} ".encode() in text
    assert b'wavenet_requests_total{endpoint="healthz",status="200"}' in text
    assert torch.get_num_threads() == 1
