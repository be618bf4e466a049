"""The package installs as it says: what is pinned, what is shipped, what the core imports."""

import ast
import importlib
import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import soundfile
import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import wavenet
from wavenet.cli.main import COMMANDS

# Run in one fresh interpreter, part after part. First it imports the three packages that the core
# may use and notes what they bring in of their own; then it refuses every other package outside the
# standard library.
CORE_ALONE = """
import importlib.abc
import sys

import numpy
import safetensors.torch
import torch

top = lambda name: name.partition(".")[0]
allowed = {"wavenet"} | set(sys.stdlib_module_names) | {top(name) for name in sys.modules}


class OnlyTheCore(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if top(name) not in allowed:
            raise ModuleNotFoundError(f"the core asked for {name}", name=name)
        return None


sys.meta_path.insert(0, OnlyTheCore())
"""

USE_THE_CORE = """
import wavenet

x = torch.randn(2, 1, 40)
widened = wavenet.CausalConv1d(1, 4, 2, dilation=2)(x)
assert widened.shape == (2, 4, 40)
y, skip = wavenet.GatedResidualBlock(4, 3, dilation=2)(widened)
assert y.shape == (2, 4, 40) and skip.shape == (2, 3, 40)
stack = wavenet.DilatedStack(4, 3, dilations=[1, 2, 4])
y, skip_sum = stack(widened)
assert y.shape == (2, 4, 40) and skip_sum.shape == (2, 3, 40)
assert wavenet.receptive_field(stack).samples == 8
config = wavenet.WaveNetConfig.preset("tiny")
model = wavenet.WaveNet(config)
assert wavenet.receptive_field(model, sample_rate=16000).samples == model.past + 1
assert isinstance(str(wavenet.receptive_field(config)), str)
print("works")
"""

# Torch alone takes a second to import, its compiler as long again.
LOAD_A_MODEL = """
compilers = {"torch._dynamo", "sympy"} - set(sys.modules)
wavenet.WaveNet(config.replace(speakers=2, mel=wavenet.MelConfig())).save(sys.argv[1])
wavenet.load(sys.argv[1])
print("imported:", *sorted(compilers & set(sys.modules)))
"""

REFUSED = ("soundfile", "soxr", "numba", "lightning", "librosa", "torchaudio", "matplotlib")

ASK_FOR_MORE = f"""
for name in {REFUSED}:
    try:
        __import__(name)
    except ModuleNotFoundError as error:
        print(error)
"""


@pytest.fixture(scope="module")
def said_by_the_core(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The lines that a fresh interpreter prints, in which the core stands alone."""
    code = CORE_ALONE + USE_THE_CORE + LOAD_A_MODEL + ASK_FOR_MORE
    folder = str(tmp_path_factory.mktemp("core") / "model")
    done = subprocess.run(
        [sys.executable, "-c", code, folder], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_core_works_with_every_import_blocked_but_torch_numpy_and_safetensors(
    said_by_the_core: list[str],
) -> None:
    assert said_by_the_core[0] == "works"


def test_the_block_refuses_what_the_core_may_not_import(said_by_the_core: list[str]) -> None:
    assert said_by_the_core[2:] == [f"the core asked for {name}" for name in REFUSED]


def test_loading_a_model_imports_no_compiler(said_by_the_core: list[str]) -> None:
    assert said_by_the_core[1] == "imported:"


HELP_WITHOUT_TORCH = """
import contextlib, sys
from wavenet.cli.main import main

for arguments in sys.argv[1:]:
    with contextlib.redirect_stdout(None), contextlib.suppress(SystemExit):
        main(arguments.split())
    assert "torch" not in sys.modules, arguments
"""


def test_help_and_version_do_not_wait_for_torch(repository: Path) -> None:
    commands = [f"{name} --help" for name in COMMANDS]
    more = ["--version", "--help", "", "bench sample --help", "import a.xyz b", "--colour"]
    done = subprocess.run(
        [sys.executable, "-c", HELP_WITHOUT_TORCH, *commands, *more],
        env={**os.environ, "PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_public_name_is_what_type_checkers_are_told(repository: Path) -> None:
    tree = ast.parse((repository / "wavenet" / "__init__.py").read_text())
    told = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("wavenet")
        for alias in node.names
    }
    assert sorted(told) == sorted(wavenet.__all__)
    for name, module in told.items():
        assert getattr(wavenet, name) is getattr(importlib.import_module(str(module)), name)
    assert set(wavenet.__all__) <= set(dir(wavenet))


def test_a_module_of_the_package_is_an_attribute_and_anything_else_is_none() -> None:
    assert wavenet.distributions is importlib.import_module("wavenet.distributions")
    for name in ("generat", "colour", "_hidden"):
        with pytest.raises(AttributeError, match=f"module 'wavenet' has no attribute '{name}'"):
            getattr(wavenet, name)


def project(repository: Path) -> dict:
    return tomllib.loads((repository / "pyproject.toml").read_text())["project"]


def requirement_names(requirements: list[str]) -> set[str]:
    return {re.match(r"[\w-]+", requirement).group() for requirement in requirements}


def test_core_dependencies_are_torch_numpy_safetensors_without_upper_caps(repository: Path) -> None:
    dependencies = project(repository)["dependencies"]
    assert requirement_names(dependencies) == {"torch", "numpy", "safetensors"}
    assert not [dependency for dependency in dependencies if "<" in dependency]


def test_the_installed_metadata_and_the_package_tell_one_version() -> None:
    try:
        installed = importlib.metadata.version("wavenet-audio")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("runs from a folder: wavenet-audio is not installed here")
    assert installed == wavenet.__version__, "touch pyproject.toml, then make install"


PIN = re.compile(r'([A-Za-z0-9._-]+)==([0-9][0-9A-Za-z.]*)(; python_version >= "3\.\d+")?')


def pins(repository: Path) -> dict[str, str]:
    lines = (repository / "constraints.txt").read_text().splitlines()
    found = {}
    for line in lines:
        if line and not line.startswith("#"):
            pin = PIN.fullmatch(line)
            assert pin, f"constraints.txt: not NAME==VERSION: {line}"
            found[canonicalize_name(pin[1])] = pin[2]
    return found


def test_constraints_pin_all_that_make_install_asks_for(repository: Path) -> None:
    pinned = pins(repository)
    extras = project(repository)["optional-dependencies"]
    asked = {"torch", "numpy", "safetensors"}
    for extra in ("audio", "completion", "corpora", "docs", "media", "train", "test"):
        asked |= requirement_names(extras[extra]) - {"wavenet-audio"}
    assert len(asked) > 15
    assert asked <= pinned.keys()


def installed_closure(root: str, extras: set[str]) -> dict[str, str]:
    """Versions of all that `root[extras]` needs in this environment, by following the metadata."""
    versions: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [(root, extra) for extra in {"", *extras}]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        distribution = importlib.metadata.distribution(name)
        versions[name] = distribution.version.partition("+")[0]
        for requirement in map(Requirement, distribution.requires or []):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                needed = canonicalize_name(requirement.name)
                waiting += [(needed, extra) for extra in {"", *requirement.extras}]
    return versions


def test_what_make_install_installed_is_what_is_pinned(repository: Path) -> None:
    if not Path(sys.prefix, ".installed").exists():
        pytest.skip("only the .venv of `make install` holds the pinned versions")
    installed = installed_closure("wavenet-audio", {"train", "test"})
    del installed["wavenet-audio"]
    pinned = pins(repository)
    assert len(installed) > 60
    assert installed == {name: pinned.get(name) for name in installed}


def test_samples_are_two_to_four_minutes_of_16_khz_mono_speech_under_6_mb(samples: Path) -> None:
    files = sorted((samples / "prompts-en").glob("*.flac"))
    duration_s = 0.0
    for file in files:
        info = soundfile.info(file)
        assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16"), file.name
        sound, _ = soundfile.read(file, dtype="float32")
        loudness_db = 20 * torch.from_numpy(sound).square().mean().sqrt().log10().item()
        assert -20 < loudness_db < -14, f"{file.name} is no ordinary speech: {loudness_db:.1f} dB"
        duration_s += info.duration
    assert len(files) == 45
    assert 120 <= duration_s <= 240
    assert sum(file.stat().st_size for file in files) <= 6e6


def test_samples_carry_their_attribution_and_licence(samples: Path) -> None:
    readme = (samples / "README.md").read_text()
    assert "Allison Smith" in readme
    assert "https://creativecommons.org/licenses/by-sa/3.0/" in readme
    assert "Apache-2.0" in readme
    licence = (samples / "LICENSE-CC-BY-SA-3.0.txt").read_text()
    assert "8. Miscellaneous." in licence


def test_sounds_of_the_voice_are_as_long_as_what_was_recorded_and_all_are_linked(
    samples: Path,
) -> None:
    folder = samples / "voice"
    recorded = sorted((folder / "reference").glob("*/*.flac"))
    assert [path.parent.name for path in recorded] == ["en", "fr", "it"]
    made = [folder / "prompts-16k" / "babble.flac"]
    for path in recorded:
        for system in ("griffin-lim", "world", "prompts-16k", "prompts-16k-network-alone"):
            made.append(folder / system / path.relative_to(folder / "reference"))
            assert soundfile.info(made[-1]).frames == soundfile.info(path).frames, made[-1]
    found = sorted(folder.rglob("*.flac"))
    assert found == sorted([*recorded, *made])
    links = re.findall(r"\]\(([^)]+\.flac)\)", (folder / "README.md").read_text())
    assert sorted(folder / link for link in links) == found
    assert sum(path.stat().st_size for path in found) <= 3e6
    assert (samples / "pictures" / "voice.png").read_bytes().startswith(b"\x89PNG")


def tracked_texts(repository: Path) -> dict[str, str]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout: nothing tells which files are tracked")
    texts = {}
    for name in filter(None, listed.stdout.split("\0")):
        path = repository / name
        if path.is_file():
            content = path.read_bytes()
            if b"\0" not in content:
                texts[name] = content.decode()
    return texts


MACHINE_PATH = re.compile(r"(?<![\w.~<>{}$-])/(?:home|root|Users|work|opt)/\w")
REGISTRY_HOST = re.compile(
    r"(?i)\b(?:pypi|pythonhosted|registry\.npmjs|download\.pytorch|deb\.debian)\.(?:org|com)\b"
)


def test_tracked_files_name_no_package_registry_and_no_path_of_a_machine(repository: Path) -> None:
    texts = tracked_texts(repository)
    assert {"pyproject.toml", "Makefile", "tests/test_packaging.py"} <= texts.keys()
    for name, text in texts.items():
        for line in text.splitlines():
            assert not MACHINE_PATH.search(line), f"{name}: {line}"
            assert not REGISTRY_HOST.search(line), f"{name}: {line}"
