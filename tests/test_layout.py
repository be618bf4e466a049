"""The layout of the package: imports run from upper folders to lower ones, without a circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

FLOORS = (
    "values",
    "distributions",
    "simd",
    "storage",
    "features",
    "nn",
    "conversion",
    "audio",
    "testing",
    "receptive_fields",
    "model",
    "data",
    "processing",
    "nam",
    "loading",
    "interop",
    "generation",
    "training",
    "benchmark",
    "evaluation",
    "serving",
    "cli",
)
"""Folders of the package, and its one module, lowest first: each imports what precedes it."""

PUBLIC = {"__init__.py", "__main__.py"}
"""Files of the package that re-export; they may import every floor."""


@pytest.fixture(scope="module")
def package(repository: Path) -> Path:
    """The folder of the package."""
    return repository / "wavenet"


def floor_of(module: str) -> str:
    """Return the floor of ``wavenet.FLOOR.MODULE``, empty for the package itself."""
    return module.split(".")[1] if "." in module else ""


def imports(path: Path, package: Path) -> Iterator[str]:
    """Yield the modules of the package that a file imports, in functions and for types as well."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "wavenet")
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively"
            parts = (node.module or "").split(".")
            if parts == ["wavenet"]:  # of the package itself: a folder, or a public name
                for alias in node.names:
                    folder = package / alias.name
                    found = folder.is_dir() or folder.with_suffix(".py").exists()
                    yield f"wavenet.{alias.name}" if found else "wavenet"
            elif parts[0] == "wavenet":
                yield str(node.module)


def test_every_folder_has_a_floor_and_every_floor_exists(package: Path) -> None:
    sources = {path.relative_to(package).parts[0] for path in package.rglob("*.py")}
    assert {name.removesuffix(".py") for name in sources - PUBLIC} == set(FLOORS)


def test_the_package_folder_has_no_modules_but_the_public_ones_and_loading(package: Path) -> None:
    assert {path.name for path in package.glob("*.py")} == PUBLIC | {"loading.py"}


def test_imports_run_downwards(package: Path) -> None:
    n_imports, upward = 0, []
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package)
        if str(name) in PUBLIC:
            continue
        own = name.parts[0].removesuffix(".py")
        for module in imports(path, package):
            n_imports += 1
            floor = floor_of(module)
            if floor and floor != own and FLOORS.index(floor) >= FLOORS.index(own):
                upward.append(f"{name} imports {module}")
    assert not upward
    assert n_imports > 500  # the search found the imports


def test_torchaudio_is_imported_nowhere(repository: Path, package: Path) -> None:
    files = [
        path
        for folder in (package, repository / "recipes", repository / "examples")
        for path in folder.rglob("*.py")
    ]
    assert len(files) > 300
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            else:
                continue
            assert "torchaudio" not in {name.partition(".")[0] for name in names}, path


def test_tests_mirror_the_package(repository: Path, package: Path) -> None:
    folders = {path.name for path in package.iterdir() if any(path.glob("*.py"))}
    tests = {path.name for path in (repository / "tests").iterdir() if any(path.glob("*.py"))}
    assert tests - folders <= {"recipes", "fuzz"}
    assert folders <= tests
