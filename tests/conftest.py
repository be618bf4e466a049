"""What every test finds: samples, a corpus of tones, one thread, one seed; GPU tests need a GPU."""

import logging
import multiprocessing
import os
import resource
import signal
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest
import s3_server
import soundfile
import torch

REPOSITORY = Path(__file__).parents[1]


def pytest_configure() -> None:
    # One thread: the tests' tensors are too small to share, and idle threads would blur timings.
    # In processes that tests start as well: the bits of a sum depend on how many share it.
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    # Without a GPU Triton's kernels are interpreted. Triton asks for this when it is imported.
    if not torch.cuda.is_available():
        os.environ["TRITON_INTERPRET"] = "1"
    # Whether a kernel has to be compiled depends on the cache; what a command prints shall not.
    logging.getLogger("wavenet.simd").setLevel(logging.WARNING)
    # A shell that starts us in the background has ctrl-C ignored, by us and all that we start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # So has nohup the signal of a terminal that closes.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


LONGEST = ("tests/recipes/", "tests/test_", "tests/evaluation/", "tests/training/")
"""Few tests of many seconds: processes that share the files (``make test``) begin with them."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.nodeid.startswith(LONGEST))  # stable: a file stays whole
    if torch.cuda.is_available():
        return
    no_gpu = pytest.mark.skip(reason="needs a CUDA GPU; torch.cuda.is_available() is False here")
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(no_gpu)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """One thread, whatever a test before has set: in torch, and in the libraries behind it."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The cache of decoded corpora: one for all tests, and none of the user's."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WAVENET_CACHE", str(folder))
        yield folder


@pytest.fixture(autouse=True, scope="session")
def server(request: pytest.FixtureRequest, cache: Path) -> None:
    """What forks ``processes``, if a test will want any: it imports beside the first tests."""
    if any("processes" in getattr(item, "fixturenames", ()) for item in request.session.items):
        forkserver.set_forkserver_preload(
            ["wavenet.cli.main", "wavenet.training.run", "torch._dynamo"]
        )
        forkserver.ensure_running()


@pytest.fixture(scope="session")
def processes() -> ForkServerContext:
    """Makes processes that have imported torch and Lightning when they start."""
    return multiprocessing.get_context("forkserver")


IN_A_FORK = """
import os, sys
for number, path in enumerate(paths, 1):
    os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
os.environ |= environment
sys.argv = ["-c", *arguments]
exec(compile(program, "<program>", "exec"), {"__name__": "__main__"})
"""


@pytest.fixture(scope="session")
def start_python(processes: ForkServerContext) -> Callable[..., BaseProcess]:
    """``start_python(out, program, *arguments)`` is `python -c`, without the seconds of importing.

    It writes to the files ``out`` and ``out.err``; more in its environment is a keyword each.
    """

    def start(out: Path, program: str, *arguments: str, **environment: str) -> BaseProcess:
        given = {
            "paths": [str(out), f"{out}.err"],
            "environment": environment,
            "arguments": arguments,
            "program": program,
        }
        process = processes.Process(target=exec, args=(IN_A_FORK, given))
        process.start()
        return process

    return start


@pytest.fixture(autouse=True)
def signal_handlers() -> Iterator[None]:
    """Put back the handlers of signals, which the command's entry point sets for its process."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def seed() -> int:
    """Seed torch's global generator, which initialises modules; returns the seed."""
    torch.manual_seed(0)
    return 0


@pytest.fixture
def generator(seed: int) -> torch.Generator:
    """A seeded generator of its own on the CPU, for a test that draws its inputs."""
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout's root folder."""
    return REPOSITORY


@pytest.fixture(scope="session")
def samples(repository: Path) -> Path:
    """The folder samples/: its sub-folder prompts-en holds 45 sentences, FLAC, 16 kHz, mono."""
    return repository / "samples"


@pytest.fixture(scope="session")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus that a small network learns in seconds: 8 wav files of a second, 8 kHz, a tone each.

    A tone is told by its last two samples; a faint noise keeps the bits per sample from falling
    without end.
    """
    folder = tmp_path_factory.mktemp("tones")
    draw = np.random.default_rng(0)
    time_s = np.arange(8000) / 8000
    for i in range(8):
        tone = 0.4 * np.sin(2 * np.pi * (200 + 40 * i) * time_s + i)
        soundfile.write(folder / f"tone-{i}.wav", tone + 0.002 * draw.normal(size=8000), 8000)
    return folder


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3_server.Proxy]:
    """An S3 server of this machine with the bucket ``s3://bucket``, behind a proxy that can fail.

    The environment names it, for this process and those that it starts.
    """
    program = s3_server.find_moto()
    if program is None:
        pytest.skip(s3_server.MISSING)
    log = tmp_path_factory.mktemp("moto") / "log"
    with (
        s3_server.moto(program, log) as port,
        s3_server.proxy(port) as proxy,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in s3_server.environment(proxy).items():
            patch.setenv(name, value)
        bucket = urllib.request.Request(f"{proxy.url}/bucket", method="PUT")
        urllib.request.urlopen(bucket).close()
        yield proxy


@pytest.fixture(scope="session")
def files_of_at_most() -> Callable[[int], AbstractContextManager[None]]:
    """``with files_of_at_most(1000):`` is what a full disk does, on every machine.

    The write of byte 1001 fails with an OSError. It must end within the test: what pytest itself
    prints may go to a file as well.
    """

    @contextmanager
    def limited(n_bytes: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limited
