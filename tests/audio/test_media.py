"""wavenet.audio.media: M4A, AAC and WMA are read as any other file, with PyAV."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from wavenet.audio import AudioError, audio_info, media, read_audio

av = pytest.importorskip("av", reason="the extra media is not installed")

RATE = 16000


def write(path: Path, codec: str, seconds: float = 1.0, channels: int = 2) -> torch.Tensor:
    """Write tones of 440 Hz and louder 660 Hz in two channels; return their mean, [T]."""
    time = np.arange(round(seconds * RATE)) / RATE
    tones = np.stack([0.1 * np.sin(880 * np.pi * time), 0.3 * np.sin(1320 * np.pi * time)])
    tones = tones[:channels].astype(np.float32)
    layout = "stereo" if channels == 2 else "mono"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE, layout=layout)
        stream.bit_rate = 64000
        frame = av.AudioFrame.from_ndarray(tones, format="fltp", layout=layout)
        frame.sample_rate = RATE
        for part in (frame, None):
            container.mux(stream.encode(part))
    return torch.from_numpy(tones.mean(0))


@pytest.mark.parametrize(
    ("name", "codec"), [("a.m4a", "aac"), ("a.aac", "aac"), ("a.wma", "wmav2"), ("a.mka", "aac")]
)
def test_the_tones_come_back(tmp_path: Path, name: str, codec: str) -> None:
    path = tmp_path / name
    expected = write(path, codec)
    info = audio_info(path)
    assert (info.sample_rate, info.channels) == (RATE, 2)
    read, rate = read_audio(path)
    assert rate == RATE
    assert len(read) == info.n_samples
    assert abs(len(read) - len(expected)) <= 4096  # a codec pads its first and last frame
    spectra = [torch.fft.rfft(one[4096:12288]).abs() for one in (read, expected)]
    assert spectra[0].argmax() == spectra[1].argmax()
    torch.testing.assert_close(spectra[0].max(), spectra[1].max(), rtol=0.05, atol=0)


def test_a_part_of_a_file_is_that_part_of_the_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.m4a"
    write(path, "aac")
    whole, _ = read_audio(path)
    part, _ = read_audio(path, first=5000, count=700)
    torch.testing.assert_close(part, whole[5000:5700], rtol=0, atol=0)


def test_a_playlist_opens_nothing(tmp_path: Path) -> None:
    write(tmp_path / "a.m4a", "aac")
    playlists = {
        "a.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\na.m4a\n#EXT-X-ENDLIST\n",
        "a.ffconcat": "ffconcat version 1.0\nfile a.m4a\n",
    }
    for name, text in playlists.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(AudioError, match="not an audio file that can be read"):
            read_audio(tmp_path / name)


def test_a_file_that_is_cut_short_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.wma"
    write(path, "wmav2", seconds=3)
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(AudioError, match=r"a\.wma: (cut short or damaged|not an audio file|the f)"):
        read_audio(path)


def test_a_file_that_decodes_to_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a.m4a", "aac")
    monkeypatch.setattr(media, "LARGEST_BYTES", 1 << 12)
    with pytest.raises(AudioError, match=r"a\.m4a: more than 0 GiB decoded"):
        read_audio(tmp_path / "a.m4a")


def test_without_pyav_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a.m4a", "aac")
    monkeypatch.setattr(media.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(AudioError, match=r"install PyAV: pip install \"wavenet-audio\[media\]\""):
        read_audio(tmp_path / "a.m4a")
