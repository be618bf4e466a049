"""Mels of any length: the frames of log_mel, and a file that says how they were made."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from wavenet import MelConfig, log_mel
from wavenet.features.mel_files import (
    MelFileError,
    mel_blocks,
    open_mel,
    write_mel,
)
from wavenet.storage.files import WriteError

SMALL = MelConfig(
    sample_rate=8000, n_fft=64, win_samples=40, hop_samples=16, n_mels=5, f_max_hz=4e3
)
CENTRED = MelConfig(
    sample_rate=8000,
    n_fft=64,
    win_samples=64,
    hop_samples=16,
    n_mels=5,
    f_max_hz=4e3,
    padding="center",
)


def noise(n_samples: int) -> Tensor:
    return 0.3 * torch.randn(n_samples, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("config", [SMALL, CENTRED], ids=["hop", "center"])
@pytest.mark.parametrize("n_samples", [1, 15, 16, 17, 300, 4096, 4097, 12_345])
def test_blocks_are_the_frames_of_the_whole_signal(config: MelConfig, n_samples: int) -> None:
    x = noise(n_samples)
    whole = log_mel(x, config)
    for length in (5000, 333):
        frames = torch.cat(list(mel_blocks(x.split(length), config)), dim=1)
        assert torch.equal(frames, whole)


def test_blocks_do_not_depend_on_the_pieces_of_the_signal() -> None:
    x = noise(10_000)
    first = list(mel_blocks([x], SMALL))
    assert [block.shape[1] for block in first] == [256, 256, 113]
    again = list(mel_blocks(x.split(1), SMALL))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_a_signal_without_samples_has_no_mel() -> None:
    with pytest.raises(ValueError, match="audio holds no samples"):
        list(mel_blocks([], SMALL))


def store(path: Path, n_samples: int = 9000) -> Tensor:
    mel = log_mel(noise(n_samples), SMALL)
    assert write_mel(path, mel.split(100, dim=1), SMALL, n_samples) == mel.shape[1]
    return mel


def test_a_mel_file_is_read_by_numpy_without_pickle(tmp_path: Path) -> None:
    mel = store(tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz", allow_pickle=False) as content:
        assert sorted(content.files) == ["config", "mel", "n_samples"]
        assert (content["mel"].dtype, content["mel"].shape) == (np.float32, (5, 563))
        assert np.array_equal(content["mel"], mel)
        assert MelConfig.from_dict(json.loads(str(content["config"]))) == SMALL
        assert int(content["n_samples"]) == 9000


def test_a_mel_file_gives_back_frames_settings_and_length(tmp_path: Path) -> None:
    mel = store(tmp_path / "a.npz")
    stored = open_mel(tmp_path / "a.npz")
    assert (stored.config, stored.n_frames, stored.n_samples) == (SMALL, 563, 9000)
    for _ in range(2):
        frames = list(stored.frames())
        assert len(frames) == 3
        assert torch.equal(torch.cat(frames, dim=1), mel)


def test_the_same_mel_makes_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        store(tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_bare_array_and_an_archive_of_numpys_are_read_too(
    tmp_path: Path, dtype: type, order: str
) -> None:
    mel = np.asarray(log_mel(noise(9000), SMALL).numpy().astype(dtype), order=order)
    np.save(tmp_path / "a.npy", mel)
    settings = np.array(json.dumps(SMALL.to_dict()))
    np.savez_compressed(tmp_path / "a.npz", mel=mel, config=settings)
    for name, config in (("a.npy", None), ("a.npz", SMALL)):
        stored = open_mel(tmp_path / name)
        assert (stored.config, stored.n_samples, stored.n_frames) == (config, None, 563)
        frames = torch.cat(list(stored.frames()), dim=1)
        assert np.array_equal(frames, mel.astype(np.float32))


def test_what_is_no_mel_is_refused_in_one_line(tmp_path: Path) -> None:
    settings = np.array(json.dumps(SMALL.to_dict()))
    good = np.zeros((5, 3), np.float32)
    np.savez(tmp_path / "bands.npz", mel=np.zeros((4, 3), np.float32), config=settings)
    np.savez(tmp_path / "bare.npz", mel=good)
    np.savez(tmp_path / "length.npz", mel=good, config=settings, n_samples=999)
    np.savez(tmp_path / "version.npz", mel=good, config=np.array('{"version": 9}'))
    np.save(tmp_path / "flat.npy", np.zeros(5))
    np.save(tmp_path / "whole.npy", np.zeros((5, 3), np.int64))
    np.save(tmp_path / "none.npy", np.zeros((5, 0)))
    np.save(tmp_path / "nan.npy", np.full((5, 3), np.nan))
    np.save(tmp_path / "objects.npy", np.array([[{}]], object), allow_pickle=True)
    (tmp_path / "text.npz").write_text("no archive")
    (tmp_path / "empty.npy").write_text("")
    store(tmp_path / "short.npz")
    content = (tmp_path / "short.npz").read_bytes()
    (tmp_path / "short.npz").write_bytes(content[: len(content) // 2])
    (tmp_path / "folder.npz").mkdir()
    messages = {
        "nowhere.npz": "cannot be read: No such file",
        "bands.npz": "the mel has 4 bands, its settings say n_mels=5",
        "bare.npz": "it has no config",
        "length.npz": "3 frames are not the 63 of its n_samples=999",
        "version.npz": "mel version is 9, this package knows version 1",
        "flat.npy": r"shape (5,) of float64; it takes [M, F] of floats",
        "whole.npy": r"shape (5, 3) of int64",
        "none.npy": "the mel has no frames",
        "nan.npy": "hold values that are not finite",
        "objects.npy": "of object",
        "text.npz": "no mel that can be read",
        "empty.npy": "no mel that can be read",
        "short.npz": "no mel that can be read",
        "folder.npz": "no mel that can be read",
    }
    for name, message in messages.items():
        with pytest.raises(MelFileError) as caught:
            open_mel(tmp_path / name)
        assert str(caught.value).startswith(f"{tmp_path / name}: ")
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_mel_file_is_whole_or_not_there(tmp_path: Path) -> None:
    def breaks() -> list[Tensor]:
        raise KeyError

    with pytest.raises(KeyError):
        write_mel(tmp_path / "a.npz", (frame for _ in "x" for frame in breaks()), SMALL, 9)
    with pytest.raises(MelFileError, match=r"a.txt: a mel file ends in .npz; rename it"):
        write_mel(tmp_path / "a.txt", [], SMALL, 9)
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="a part of the path is a file"):
        store(tmp_path / "file" / "a.npz")
    assert os.listdir(tmp_path) == ["file"]


def test_a_long_name_in_a_damaged_archive_is_not_quoted_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, mel=np.zeros((5, 3), np.float32), config=np.array(400 * "a"))
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        header = archive.getinfo("config.npy").header_offset
    content[header + 26 : header + 28] = (1500).to_bytes(2, "little")  # length of the name
    path.write_bytes(content)
    with pytest.raises(MelFileError, match="no mel that can be read: .*; make it with") as caught:
        open_mel(path)
    assert len(str(caught.value)) < 300 + len(str(path))
