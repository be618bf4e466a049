"""Memory: what a measurement takes, what it may take, and what is said where that is not enough."""

import os
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from wavenet.receptive_fields import memory, receptive_field
from wavenet.receptive_fields.memory import Tally, TooLarge, shortage

HERE = Path(__file__).parent
networks = SimpleNamespace(**runpy.run_path(str(HERE / "networks.py")))


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_tally_counts_what_autograd_keeps_and_subtracts_what_is_freed(device: str) -> None:
    x = torch.ones(1000, device=device, requires_grad=True)
    with Tally() as tally:
        y = x * 2
        assert tally.live == 4000
        z = y.sin()  # keeps y
        del y
        assert tally.live == 8000
        del z
        assert (tally.live, tally.peak) == (0, 8000)


def test_a_tally_raises_at_its_limit() -> None:
    with pytest.raises(TooLarge, match="needs 8000 bytes"), Tally(5000):
        torch.ones(2000)


ALLOCATE = "DefaultCPUAllocator: {}: you tried to allocate {} bytes."


@pytest.mark.parametrize(
    ("error", "n_bytes"),
    [
        (
            RuntimeError(
                "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
            ),
            9,
        ),
        (RuntimeError(ALLOCATE.format("can't allocate memory", 9)), 9),
        (RuntimeError(ALLOCATE.format("not enough memory", 7)), 7),
        (RuntimeError("shapes cannot be multiplied"), None),
    ],
)
def test_a_shortage_of_memory_is_no_refused_shape(error: Exception, n_bytes: int | None) -> None:
    found = shortage(error)
    assert (found and found.n_bytes) == n_bytes


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "LARGEST_BYTES", 2_000_000)


@pytest.mark.usefixtures("little_memory")
def test_a_shortage_names_the_bytes_and_what_would_do() -> None:
    network = nn.Sequential(*(nn.Conv2d(64, 64, 9, padding=4) for _ in range(8)))
    for arguments in ({"method": "gradient"}, {"verify": True}):
        with pytest.raises(ValueError, match="GB of memory|bytes of memory") as caught:
            receptive_field(network, input_shape=(1, 64, 96, 96), **arguments)
        assert "\n" not in str(caught.value)
        assert "more than the 2000000 bytes that it may take; give " in str(caught.value)


@pytest.mark.usefixtures("little_memory")
def test_a_smaller_input_is_measured_where_it_is_enough_and_the_stride_is_kept() -> None:
    network = nn.Sequential(nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.Conv2d(16, 1, 3))
    field = receptive_field(network, input_shape=(1, 1, 512, 512), method="gradient")
    assert (field.samples, field.stride) == ((7, 7), (2, 2))
    assert "needs" in field.notes[0]


class Quadratic(nn.Module):
    """A mask of T x T, larger than any memory."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.zeros(x.shape[-1], 10**12)[:, 0]


def test_an_allocation_that_fails_is_called_so() -> None:
    with pytest.raises(ValueError, match="needs 4000.0 GB of memory"):
        receptive_field(Quadratic(), input_shape=(1, 1, 1), method="gradient")


MEASURE = """
import sys
sys.path.insert(0, sys.argv[1])
import networks
from wavenet.receptive_fields import receptive_field
size = int(sys.argv[3])
arguments = {"verify": True} if sys.argv[4] == "verify" else {"method": "gradient"}
network = getattr(networks, sys.argv[2])()
field = receptive_field(network, input_shape=(1, 3, size, size), **arguments)
print(field.samples[0], field.stride[0], field.look_back[0], field.look_ahead[0])
"""


@pytest.mark.slow
@pytest.mark.parametrize("way", ["verify", "gradient"])
@pytest.mark.parametrize(
    ("network", "size", "numbers"),
    [
        ("whole_vgg16", 512, "212 32 90 121"),
        ("whole_resnet50", 512, "427 32 213 213"),
        ("whole_resnet50", 1024, "427 32 213 213"),
    ],
)
def test_vision_networks_at_full_width_take_less_than_2_gb(
    network: str, size: int, numbers: str, way: str
) -> None:
    arguments = [str(HERE), network, str(size), way]
    assert run_alone(MEASURE, arguments).strip() == numbers


def run_alone(code: str, arguments: list[str]) -> str:
    """Return the output of a process; it fails if it takes 2 GB."""
    code += "\nfrom peak_memory import peak_kib\nassert peak_kib() * 1024 < 2e9, peak_kib()\n"
    command = [sys.executable, "-c", code, *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout
