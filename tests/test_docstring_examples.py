"""Every public name has an example in its docstring, and every example says what it prints."""

from __future__ import annotations

import doctest
import importlib
import re
import warnings
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import wavenet

COMMON = {
    "Fraction": Fraction,
    "Path": Path,
    "nn": nn,
    "np": np,
    "torch": torch,
    "wavenet": wavenet,
}
"""Names that every example may use, beside those of its own module."""

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def documented(repository: Path) -> dict[str, dict[str, Any]]:
    """What has an entry in the reference: objects by name, by module."""
    source = (repository / "docs" / "gen_reference.py").read_text()
    tables: dict[str, Any] = {}
    exec(re.search(r"^MORE = .*?^}\n", source, re.DOTALL | re.MULTILINE)[0], tables)
    exec(re.search(r"^MODULES = .*?^\)\n", source, re.DOTALL | re.MULTILINE)[0], tables)
    found: dict[str, dict[str, Any]] = {}
    for module in tables["MODULES"]:
        listed = getattr(importlib.import_module(module), "__all__", ())
        full = [*(f"{module}.{name}" for name in listed), *tables["MORE"].get(module, ())]
        found[module] = {
            name.rpartition(".")[2]: getattr(
                importlib.import_module(name.rpartition(".")[0]), name.rpartition(".")[2]
            )
            for name in full
        }
    return found


REFERENCE = documented(Path(__file__).parents[1])


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder for what examples write; warnings' filters and registries that they may change."""
    monkeypatch.chdir(tmp_path)
    for module in (wavenet.distributions, wavenet.model.conditioner):
        monkeypatch.setattr(module, "_REGISTRY", dict(module._REGISTRY))
    with warnings.catch_warnings():
        yield


def is_documented(value: Any) -> bool:
    """True for classes and functions; constants and aliases, such as ``State``, have none."""
    return callable(value) and str(value.__module__).startswith("wavenet")


NAMES = [
    (module, name)
    for module, names in REFERENCE.items()
    for name, value in names.items()
    if is_documented(value)
]

SKIPPED = {"push", "import_checkpoint"}
"""Those that need the network, or a file of another program."""

SLOW = {"train", "fit"}


def example_of(module: str, name: str) -> doctest.DocTest:
    names = REFERENCE[module]
    text = names[name].__doc__ or ""
    return doctest.DocTestParser().get_doctest(text, {**COMMON, **names}, name, None, None)


def test_every_public_name_has_an_example_of_a_few_lines() -> None:
    assert len(NAMES) > 150
    lines = {name: len(example_of(module, name).examples) for module, name in NAMES}
    assert not [name for name, count in lines.items() if not 1 <= count <= 6]
    for name in wavenet.__all__:
        assert name in lines


@pytest.mark.parametrize(
    ("module", "name"),
    [pytest.param(*one, marks=pytest.mark.slow if one[1] in SLOW else ()) for one in NAMES],
)
def test_the_example_prints_what_it_says(module: str, name: str) -> None:
    example = example_of(module, name)
    run = [one for one in example.examples if not one.options.get(doctest.SKIP)]
    assert bool(run) != (name in SKIPPED)
    said: list[str] = []
    result = doctest.DocTestRunner(verbose=False, optionflags=FLAGS).run(example, out=said.append)
    assert not result.failed, "".join(said)
    assert result.attempted == len(run)
