"""Kernels are kept where only the user may write, and a cache that cannot serve is passed over."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from wavenet.simd import has_compiler

if not has_compiler():
    pytest.skip("this code is compiled by numba", allow_module_level=True)

import numba

from wavenet.simd import kernel_cache
from wavenet.simd.compiling import cached

Limit = Callable[[int], AbstractContextManager[None]]


def triple(x):  # type: ignore[no-untyped-def]
    """A kernel that compiles at once."""
    return 3 * x


def run_anew() -> bool:
    """Call the kernel as a new process would; return whether it came from the cache."""
    kernel: Any = cached(triple)
    assert kernel(7) == 21
    return bool(sum(kernel.stats.cache_hits.values()))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the kernels, empty; messages that are said once are said again."""
    numba.config.reload_config()  # the compiler would, and forget the folder, if NUMBA_* changed
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "numba"))
    kernel_cache._warn_once.cache_clear()
    yield tmp_path / "numba" / "wavenet"
    kernel_cache._warn_once.cache_clear()


def kept(folder: Path, suffix: str) -> Path:
    """The one file of that suffix in the cache."""
    (path,) = folder.rglob(f"*{suffix}")
    return path


def test_a_kernel_is_kept_in_a_folder_that_is_the_users_alone(folder: Path) -> None:
    assert not run_anew()
    assert run_anew()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert kept(folder, ".nbi").is_relative_to(folder)


def test_threads_that_make_kernels_at_once_share_the_folder(folder: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        caches = list(pool.map(lambda _: kernel_cache.KernelCache(triple), range(100)))
    assert {Path(cache.cache_path).parent for cache in caches} == {folder}
    assert kernel_cache.kernel_folder() == folder


def test_without_a_setting_kernels_lie_in_the_users_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    assert not run_anew()
    assert run_anew()
    assert kept(tmp_path, ".nbi").is_relative_to(tmp_path / "user" / "wavenet" / "kernels")


@pytest.mark.parametrize("suffix", [".nbi", ".nbc"], ids=["index", "code"])
@pytest.mark.parametrize("length", [0, 1, 20, -1])
def test_a_file_that_is_cut_short_is_passed_over_and_mended(
    folder: Path, suffix: str, length: int, caplog: pytest.LogCaptureFixture
) -> None:
    run_anew()
    path = kept(folder, suffix)
    path.write_bytes(path.read_bytes()[:length])
    assert not run_anew()
    (line,) = caplog.messages
    assert line.startswith(
        f"CPU kernels are compiled anew, as kernels in {folder} cannot be read ("
    )
    assert run_anew()


def test_an_index_that_is_no_pickle_is_passed_over(folder: Path) -> None:
    run_anew()
    kept(folder, ".nbi").write_bytes(b"\x00garbage\xff" * 9)
    assert not run_anew()
    assert run_anew()


def test_on_a_full_disk_the_kernel_runs(
    folder: Path, files_of_at_most: Limit, caplog: pytest.LogCaptureFixture
) -> None:
    with files_of_at_most(100):
        assert not run_anew()
    (line,) = caplog.messages
    assert line.endswith(f"kernels in {folder} cannot be written (File too large)")
    assert not run_anew()
    assert run_anew()


def test_an_index_that_is_a_folder_is_passed_over(folder: Path) -> None:
    run_anew()
    path = kept(folder, ".nbi")
    path.unlink()
    path.mkdir()
    assert not run_anew()


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_a_folder_that_others_may_write_to_is_not_used(
    folder: Path, mode: int, caplog: pytest.LogCaptureFixture
) -> None:
    run_anew()
    folder.chmod(mode)
    before = kept(folder, ".nbi").read_bytes()
    kept(folder, ".nbi").write_bytes(b"not to be read")
    assert not run_anew()
    (line,) = caplog.messages
    assert "can be written to by others; chmod 700 it" in line
    assert kept(folder, ".nbi").read_bytes() == b"not to be read"
    kept(folder, ".nbi").write_bytes(before)
    folder.chmod(0o700)
    assert run_anew()


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives folders away"
)
def test_a_folder_of_another_user_is_not_used(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_anew()
    os.chown(folder, 12345, 12345)
    assert not run_anew()
    assert "belongs to another user" in caplog.text


def test_a_link_in_the_place_of_the_folder_is_not_followed(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    folder.parent.mkdir()
    folder.symlink_to(tmp_path / "elsewhere")
    assert not run_anew()
    assert "is not a folder" in caplog.text
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_without_a_folder_the_kernel_runs_with_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING):
        assert not run_anew()
        assert not run_anew()
    (line,) = caplog.messages
    assert f"kernels in {tmp_path / 'file' / 'wavenet'} cannot be kept (File exists)" in line
