"""The pages that are generated: every public name, option and key has an entry."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import pytest

import wavenet
from wavenet.cli.main import COMMANDS
from wavenet.features import MelConfig
from wavenet.model import WaveNetConfig
from wavenet.training import TrainingConfig

MISSING = "the extra docs is not installed: make docs installs it"


@pytest.fixture(scope="module")
def generator(repository: Path) -> ModuleType:
    """The script docs/gen_reference.py."""
    pytest.importorskip("mkdocs", reason=MISSING)
    path = repository / "docs" / "gen_reference.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def public_modules(repository: Path) -> list[str]:
    """Packages below ``wavenet`` whose ``__init__.py`` has ``__all__``."""
    found = []
    for path in sorted((repository / "wavenet").glob("*/__init__.py")):
        names = [
            target.id
            for node in ast.parse(path.read_text()).body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        ]
        if "__all__" in names:
            found.append(f"wavenet.{path.parent.name}")
    return found


def test_every_public_name_has_an_entry(generator: ModuleType, repository: Path) -> None:
    pages = generator.generated_pages()
    entries = [name for text in pages.values() for name in re.findall(r"^::: (\S+)$", text, re.M)]
    assert len(entries) == len(set(entries))
    modules = public_modules(repository)
    assert len(modules) >= 11
    expected = [
        f"{module}.{name}" for module in modules for name in importlib.import_module(module).__all__
    ]
    assert len(expected) > 130
    assert set(expected) <= set(entries)
    for name in wavenet.__all__:
        assert f"[`wavenet.{name}`][wavenet." in pages["reference/api/index.md"], name


@pytest.mark.slow
def test_every_entry_has_a_docstring(generator: ModuleType, repository: Path) -> None:
    griffe = pytest.importorskip("griffe", reason=MISSING)
    package = griffe.load("wavenet", search_paths=[str(repository)])
    entries = [name for module in generator.MODULES for name in generator.entries(module)]
    assert len(entries) > 150
    for name in entries:
        documented = package[name.removeprefix("wavenet.")]
        documented = documented.final_target if documented.is_alias else documented
        assert documented.docstring, f"{name} has no docstring"


def test_every_command_and_key_is_listed(generator: ModuleType) -> None:
    pages = generator.generated_pages()
    for name in COMMANDS:
        assert f"\n## wavenet {name}\n" in pages["reference/commands.md"]
    for option in ("--batch-size", "--model.residual-channels", "--noise-shaping", "--target-ms"):
        assert f"`{option}" in pages["reference/commands.md"]
    for kind in (TrainingConfig, WaveNetConfig, MelConfig):
        for field in fields(kind):
            assert f"| `{field.name}` |" in pages["reference/configuration.md"], field.name


def test_a_link_of_the_repository_becomes_one_of_the_site(
    generator: ModuleType, repository: Path
) -> None:
    class Page:
        """What the hook reads of a page."""

        def __init__(self, name: str) -> None:
            self.file = self
            self.src_uri = name

    text = "[a](../../recipes/LOG.md) [b](../benchmarks.md#on-a-gpu) [c](https://example.org/a.md)"
    assert generator.on_page_markdown(text, Page("how-to/train.md"), None, None) == (
        "[a](../recipes/LOG.md) [b](../benchmarks.md#on-a-gpu) [c](https://example.org/a.md)"
    )
    text = "[a](../../docs/how-to/train.md) [b](../LOG.md) [c](../../README.md)"
    assert generator.on_page_markdown(text, Page("recipes/folder/README.md"), None, None) == (
        "[a](../../how-to/train.md) [b](../LOG.md) [c](../../index.md)"
    )


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_names_no_other_host(
    generator: ModuleType, repository: Path, tmp_path: Path
) -> None:
    pytest.importorskip("mkdocstrings", reason=MISSING)
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=repository,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    pages = sorted(tmp_path.rglob("*.html"))
    assert len(pages) > 50
    for page in pages:
        for address in re.findall(
            r'<(?:script|link|img|audio)[^>]*?(?:src|href)="(\w+:[^"]+)', page.read_text()
        ):
            assert address.startswith("data:"), f"{page}: {address}"
    html = "".join(page.read_text() for page in tmp_path.glob("reference/api/*.html"))
    for name in wavenet.__all__:
        module = getattr(wavenet, name).__module__
        assert re.search(rf'id="wavenet\.[\w.]*\b{name}"', html), f"{module}.{name}"


def test_a_session_in_a_docstring_is_shown_as_code(repository: Path) -> None:
    pytest.importorskip("griffe", reason=MISSING)
    path = repository / "docs" / "griffe_doctests.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = "Add.\n\n>>> add(1, 1)\n2\n\nArgs:"
    assert module.fenced(text) == "Add.\n\n```pycon\n>>> add(1, 1)\n2\n```\n\nArgs:"
    assert module.fenced(">>> f()  # doctest: +SKIP\n") == "```pycon\n>>> f()\n```\n"
