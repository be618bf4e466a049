"""Hook of MkDocs: pages that are generated from the code, and files of the repository in the site.

- The page of the commands comes from their argparse parsers, that of the configuration from the
  typed classes and their docstrings, those of the Python interface from ``__all__``.
- Recipes, samples and the changelog stay where they are; the site gets them at the same place.
- A link in a page is that of the repository, so that it works there as well; ``on_page_markdown``
  makes it one of the site.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docstring_parser import parse
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import wavenet
from wavenet.cli.main import whole_parser
from wavenet.features import MelConfig
from wavenet.model import FeatureConfig, WaveNetConfig
from wavenet.model.config import UpsamplingConfig
from wavenet.training import TrainingConfig
from wavenet.training.model_keys import model_keys

REPOSITORY = Path(__file__).parents[1]

MOUNTED = (
    "CHANGELOG.md",
    "examples/*",
    "recipes/*",
    "recipes/*/*",
    "samples/*.md",
    "samples/*.txt",
    "samples/pictures/*",
    "samples/voice/README.md",
    "samples/voice/*/*.flac",
    "samples/voice/*/*/*.flac",
    "wavenet/voices/*/MODEL_CARD.md",
)
"""Files of the repository that the site has at the same place."""

SUFFIXES = {".csv", ".flac", ".md", ".png", ".py", ".sh", ".txt", ".yaml"}

MORE = {
    "wavenet.nn": ["wavenet.nn.memoryless.Memoryless", "wavenet.nn.refine.refine"],
    "wavenet.interop": ["wavenet.interop.blocks.export", "wavenet.interop.blocks.initial_state"],
    "wavenet.model": [
        "wavenet.model.sharing.Shared",
        "wavenet.model.config.UpsamplingConfig",
        "wavenet.model.conditioner.Condition",
        "wavenet.model.conditioner.register_condition",
    ],
    "wavenet.features": [
        "wavenet.features.mel_files.open_mel",
        "wavenet.features.mel_files.write_mel",
        "wavenet.features.linear_prediction.MelPredictor",
    ],
    "wavenet.receptive_fields": [
        "wavenet.receptive_fields.design.design",
        "wavenet.receptive_fields.effective.effective_field",
        "wavenet.receptive_fields.plots.plot_stack",
        "wavenet.receptive_fields.plots.plot_field",
        "wavenet.receptive_fields.plots.plot_image_fields",
    ],
    "wavenet.processing": ["wavenet.processing.process", "wavenet.processing.Processor"],
    "wavenet.storage": [
        "wavenet.loading.load",
        "wavenet.storage.pretrained.voice_names",
        "wavenet.storage.hub.push",
        "wavenet.storage.checkpoint.CheckpointError",
        "wavenet.interop.wavenet_vocoder.import_checkpoint",
        "wavenet.interop.onnx.export_onnx",
        "wavenet.interop.programs.export_program",
    ],
}
"""Names beside those of ``__all__`` that have an entry on the page of a module."""

MODULES = (
    "wavenet.nn",
    "wavenet.model",
    "wavenet.generation",
    "wavenet.features",
    "wavenet.distributions",
    "wavenet.receptive_fields",
    "wavenet.processing",
    "wavenet.nam",
    "wavenet.conversion",
    "wavenet.interop",
    "wavenet.audio",
    "wavenet.data",
    "wavenet.training",
    "wavenet.storage",
    "wavenet.testing",
)
"""Public modules, a page each."""

_LINK = re.compile(r"(\]\(|<(?:audio|img|source)[^>]*? src=\")([^)\s\"#]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages, and the files of the repository."""
    for name, text in generated_pages().items():
        files.append(File.generated(config, name, content=text))
    for path in mounted():
        name = path.relative_to(REPOSITORY).as_posix()
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Make the links of a page, which are those of the repository, links of the site."""
    name = page.file.src_uri
    if name in generated_pages():
        return markdown
    source = name if (REPOSITORY / name).exists() else f"docs/{name}"

    def moved(match: re.Match[str]) -> str:
        before, target = match.groups()
        if ":" in target:
            return match[0]
        found = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        shown = found.removeprefix("docs/")
        if shown == "README.md":
            shown = "index.md"
        return before + posixpath.relpath(shown, posixpath.dirname(name) or ".")

    return _LINK.sub(moved, markdown)


def mounted() -> list[Path]:
    """Return the files of the repository that are part of the site."""
    found = [path for pattern in MOUNTED for path in sorted(REPOSITORY.glob(pattern))]
    return [path for path in found if path.suffix in SUFFIXES]


def generated_pages() -> dict[str, str]:
    """Return the text of every generated page by its path below ``docs``."""
    if not _PAGES:
        _PAGES["reference/commands.md"] = commands_page()
        _PAGES["reference/configuration.md"] = configuration_page()
        _PAGES["reference/api/index.md"] = package_page()
        for module in MODULES:
            _PAGES[f"reference/api/{module.partition('.')[2]}.md"] = module_page(module)
    return _PAGES


_PAGES: dict[str, str] = {}


# --- the Python interface ---


def entries(module: str) -> list[str]:
    """Return the full names that have an entry on the page of a module."""
    listed = getattr(importlib.import_module(module), "__all__", ())
    return [*(f"{module}.{name}" for name in listed), *MORE.get(module, ())]


def module_page(module: str) -> str:
    """Return the page of a module: its docstring, and an entry for each public name."""
    text = _first_paragraph(importlib.import_module(module).__doc__)
    return "\n\n".join([f"# {module}", text, *(f"::: {name}" for name in entries(module))])


def package_page() -> str:
    """Return the table of the names of ``wavenet`` itself, with links to their entries."""
    rows = [
        f"| [`wavenet.{name}`][{_entry(name)}] "
        f"| {_cell(_first_paragraph(getattr(wavenet, name).__doc__))} |"
        for name in wavenet.__all__
    ]
    pages = [
        f"| [{module}]({module.partition('.')[2]}.md) "
        f"| {_cell(_first_paragraph(importlib.import_module(module).__doc__))} |"
        for module in MODULES
    ]
    return "\n".join(
        [
            "# Python interface",
            "",
            "These names are imported from `wavenet` itself. Everything else that is listed on the "
            "pages of the modules is public as well; what is listed nowhere may change.",
            "",
            *_table(("name", ""), rows),
            "",
            "## Modules",
            "",
            *_table(("module", ""), pages),
        ]
    )


def _entry(name: str) -> str:
    """Return the full name under which a name of ``wavenet`` has its entry."""
    for module in MODULES:
        for full in entries(module):
            folder, _, last = full.rpartition(".")
            if last == name and getattr(importlib.import_module(folder), name) is getattr(
                wavenet, name
            ):
                return full
    raise ValueError(f"wavenet.{name} has no entry; add it to MORE")


# --- the commands ---


def commands_page() -> str:
    """Return the page of all commands, from their parsers."""
    parts = [
        "# Commands",
        "Every command prints its options with `--help`. Options are written with hyphens; "
        "underscores are accepted. A mistake in the input is one line on standard error, with exit "
        "code 2; an interrupted command ends with 130. "
        "`wavenet --version` prints the version; `wavenet --print-completion bash` (or `zsh`) "
        "prints a completion script for the shell, with the extra `completion`.",
    ]
    for command in whole_parser().commands.values():
        parts += _command(command, 2)
    return "\n\n".join(parts)


def _command(parser: argparse.ArgumentParser, level: int) -> Iterator[str]:
    """Yield the section of a command, and those of the commands below it."""
    yield f"{'#' * level} {parser.prog}"
    if parser.description:
        yield parser.description
    below: list[argparse.ArgumentParser] = []
    for group in parser._action_groups:
        rows = []
        for action in group._group_actions:
            if isinstance(action, argparse._SubParsersAction):
                below += action.choices.values()
            elif action.dest != "help" and action.help != argparse.SUPPRESS:
                rows.append(_option(action))
        if rows:
            if group.title not in ("positional arguments", "options", None):
                yield f"{str(group.title).capitalize()}:"
            yield "\n".join(_table(("option", "meaning"), rows))
    for each in below:
        yield from _command(each, level + 1)


def _option(action: argparse.Action) -> str:
    """Return a row of an option: its spellings with its value, its meaning, its default."""
    value = action.metavar or ("" if action.nargs == 0 else action.dest.upper())
    if action.choices is not None:
        value = "{" + ", ".join(map(str, action.choices)) + "}"
    value = " ".join(value) if isinstance(value, tuple) else value
    names = action.option_strings or [""]
    spelled = ", ".join(f"`{f'{name} {value}'.strip()}`" for name in names)
    defaults = {**vars(action), "prog": "wavenet"}
    meaning = " ".join(((action.help or "") % defaults).split())
    return f"| {_cell(spelled)} | {_cell(meaning)} |"


# --- the configuration ---


def configuration_page() -> str:
    """Return the page of all keys: of a recipe, of a model, and of the features it takes."""
    keys = [(each.name, _written(each.type), "", each.meaning) for each in model_keys()[:1]]
    return "\n".join(
        [
            "# Configuration",
            "",
            "A recipe is a YAML file with those of these keys that differ from the defaults; "
            "`wavenet train RECIPE.yaml --KEY VALUE` changes one. A recipe is checked when it is "
            "read: an unknown key, or a value of the wrong type, is an error that names it.",
            "",
            "## A run: `TrainingConfig`",
            "",
            *_key_table(_keys(TrainingConfig)),
            "",
            "## A model: `WaveNetConfig`, below `model`",
            "",
            "The same keys are in the `config.json` of a checkpoint. `mel` is the name of a preset "
            "or a mapping of the keys below it.",
            "",
            *_key_table([*keys, *_keys(WaveNetConfig)]),
            "",
            "## A mel spectrogram: `MelConfig`, below `model.mel`",
            "",
            *_key_table(_keys(MelConfig)),
            "",
            "## Other features: `FeatureConfig`, below `model.features`",
            "",
            *_key_table(_keys(FeatureConfig)),
            "",
            "## Learnt upsampling: `UpsamplingConfig`, below `model.features.upsampling`",
            "",
            *_key_table(_keys(UpsamplingConfig)),
        ]
    )


def _keys(kind: Any) -> Iterator[tuple[str, str, str, str]]:
    """Yield name, type, default and meaning of each field of a dataclass."""
    meanings = {}
    for each in parse(kind.__doc__).params:
        for name in each.arg_name.split(", "):
            meanings[name] = each.description or ""
    for field in dataclasses.fields(kind):
        default = "" if field.default is dataclasses.MISSING else repr(field.default)
        if field.default_factory is not dataclasses.MISSING:
            default = repr(field.default_factory())
        yield field.name, str(field.type), default, meanings[field.name]


def _key_table(keys: Any) -> list[str]:
    rows = [
        f"| `{name}` | `{kind}` | {f'`{default}`' if default else ''} | {_cell(meaning)} |"
        for name, kind, default, meaning in keys
    ]
    return _table(("key", "type", "default", "meaning"), rows)


def _written(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) else str(kind)


# --- text ---


def _table(header: tuple[str, ...], rows: list[str]) -> list[str]:
    return [f"| {' | '.join(header)} |", f"|{' --- |' * len(header)}", *rows]


def _cell(text: str) -> str:
    """Return a text for one cell: no line breaks, bars escaped outside of code in backticks."""
    parts = " ".join(text.replace("``", "`").split()).split("`")
    return "`".join(part if i % 2 else part.replace("|", "\\|") for i, part in enumerate(parts))


def _first_paragraph(text: str | None) -> str:
    return (text or "").strip().partition("\n\n")[0]
