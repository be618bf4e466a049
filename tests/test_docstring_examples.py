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


def examples(names: dict[str, Any]) -> Iterator[tuple[str, doctest.DocTest]]:
    parser = doctest.DocTestParser()
    for name, value in names.items():
        if is_documented(value):
            text = value.__doc__ or ""
            yield name, parser.get_doctest(text, {**COMMON, **names}, name, None, None)


def is_documented(value: Any) -> bool:
    """True for classes and functions; constants and aliases, such as ``State``, have none."""
    return callable(value) and str(value.__module__).startswith("wavenet")


@pytest.mark.parametrize("module", REFERENCE)
def test_examples_print_what_they_say(module: str) -> None:
    failed: list[str] = []
    for name, example in examples(REFERENCE[module]):
        torch.manual_seed(0)
        said: list[str] = []
        result = doctest.DocTestRunner(verbose=False, optionflags=FLAGS).run(
            example, out=said.append
        )
        assert result.attempted == len(example.examples)
        assert bool(result.failed) == bool(said)
        failed += said
        assert not example.examples or len(example.examples) <= 8, f"{name}: a long example"
    assert not failed, "\n".join(failed)
