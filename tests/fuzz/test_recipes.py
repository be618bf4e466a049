"""Any content of a recipe is a configuration or one line; any configuration a model or one line."""

from __future__ import annotations

import tempfile
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from wavenet.model.config import WaveNetConfig
from wavenet.training.config import ConfigError, TrainingConfig
from wavenet.training.recipe import parse_training
from wavenet.training.sizes import check_sizes

BRIEF = settings(max_examples=40, derandomize=True, deadline=None, database=None)
LONG = settings(BRIEF, max_examples=1000)

ANY_TEXT = st.text(st.characters(), max_size=12)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.sampled_from((10**30, 10**350, 1e308, 1e-320, 2**63, -1, 0)),
    ANY_TEXT,
)
VALUES = st.recursive(
    SCALARS,
    lambda part: st.lists(part, max_size=3) | st.dictionaries(ANY_TEXT, part, max_size=3),
    max_leaves=5,
)
MODEL_KEYS = [each.name for each in fields(WaveNetConfig)]
MODELS = st.dictionaries(st.sampled_from([*MODEL_KEYS, "preset"]), st.one_of(SCALARS, VALUES))
MODELS_WITH_SIZES = st.dictionaries(
    st.sampled_from(
        ("layers_per_stack", "stacks", "residual_channels", "skip_channels", "kernel_size")
    ),
    st.one_of(st.integers(1, 80), st.integers(1, 10**9), st.just(10**40)),
)
KEYS = [each.name for each in fields(TrainingConfig)]
RECIPES = st.dictionaries(st.sampled_from([*KEYS, "out", "from"]), VALUES, max_size=4)


@st.composite
def dumped(draw: st.DrawFn) -> bytes:
    recipe = draw(RECIPES)
    if draw(st.booleans()):
        recipe["model"] = draw(st.one_of(MODELS, MODELS_WITH_SIZES))
    text = yaml.safe_dump(recipe, allow_unicode=draw(st.booleans()))
    return text.encode(errors="surrogatepass")


FRAGMENTS = (
    *(
        "seed:",
        "seed: 3",
        "model:",
        "model: &a",
        "  preset: tiny",
        "  stacks: *a",
        "*a",
        "- ",
        "? ",
    ),
    *("<<: *a", "[", "]" * 3, "{", "}", "---", "...", "!!int ''", "!!python/object:os.system", "#"),
    *("trainer: {class_path: os.system}", "window_s: .nan", "learning_rate: 1e-3", "\t", "|", ">"),
    *(
        "corpus: 2001-99-99",
        "max_steps: 1:30:00",
        "[" * 400,
        '"\\ud800"',
        "%YAML 9.9",
        "\0",
        "\ufeff",
    ),
)


@st.composite
def pieced(draw: st.DrawFn) -> bytes:
    parts = draw(st.lists(st.sampled_from(FRAGMENTS), max_size=8))
    return draw(st.sampled_from(("\n", " "))).join(parts).encode()


VALID = b"""corpus: speech
model:
  preset: tiny
  residual_channels: 48
learning_rate: 1e-3  # of Adam
max_steps: 7
trainer: {accelerator: cpu}
"""


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A recipe in which a few bytes have changed, gone or come."""
    content = bytearray(VALID)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(content) - 1)))
        content[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(content)


CONTENTS = st.one_of(dumped(), dumped(), pieced(), damaged(), st.binary(max_size=40))


def require_configuration_or_line(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "recipe.yaml")
        path.write_bytes(content)
        try:
            config, out, resume = parse_training([str(path)])
        except ConfigError as error:
            require_one_line(error)
            return
    assert isinstance(config, TrainingConfig)
    assert out is None or isinstance(out, str)
    assert resume is False
    try:
        check_sizes(config, config.model_config())
    except ValueError as error:
        require_one_line(error)


def require_one_line(error: ValueError) -> None:
    message = str(error)
    assert message
    assert "\n" not in message
    assert len(message) < 2000


def test_any_content_is_a_configuration_or_a_line() -> None:
    BRIEF(given(CONTENTS)(require_configuration_or_line))()


@pytest.mark.slow
def test_a_thousand_contents_are_configurations_or_lines() -> None:
    LONG(given(CONTENTS)(require_configuration_or_line))()


def test_what_is_damaged_is_a_recipe_before() -> None:
    require_configuration_or_line(VALID)
