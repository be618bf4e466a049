"""wavenet.training.config: a YAML file, keys on the command line, and a line for each mistake."""

from __future__ import annotations

import re
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest
import yaml

from wavenet.model.config import WaveNetConfig
from wavenet.training import ConfigError, TrainingConfig
from wavenet.training.model_keys import model_keys
from wavenet.training.recipe import parse_training


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "corpus: speech\n"
        "model:\n  preset: tiny\n  residual_channels: 48\n"
        "learning_rate: 1e-3\n"  # a string to YAML 1.1, which asks for a dot
        "max_steps: 7\n"
    )
    return str(path)


def test_nothing_given_is_all_defaults() -> None:
    assert parse_training([]) == (TrainingConfig(), None, False)


def test_a_recipe_changes_what_it_names_and_nothing_else(recipe: str) -> None:
    expected = TrainingConfig(
        corpus="speech",
        model={"preset": "tiny", "residual_channels": 48},
        learning_rate=0.001,
        max_steps=7,
    )
    assert parse_training([recipe]) == (expected, None, False)
    assert parse_training(["--config", recipe]) == (expected, None, False)


def test_keys_on_the_command_line_change_the_recipes(recipe: str) -> None:
    changes = "--max_steps=9 --model.stacks 1 --out there --trainer.accelerator cpu"
    config, out, _ = parse_training([recipe, *changes.split()])
    assert out == "there"
    assert config.init_from is None
    assert config.max_steps == 9
    assert config.model == {"preset": "tiny", "residual_channels": 48, "stacks": 1}
    assert config.trainer == {"accelerator": "cpu"}
    assert config.learning_rate == 0.001
    assert config.model_config().stacks == 1
    assert config.model_config().residual_channels == 48


@pytest.mark.parametrize("start", ["--from=voice", "--from voice"])
def test_a_recipes_model_gives_way_to_from_and_its_other_keys_stay(recipe: str, start: str) -> None:
    config, _, _ = parse_training([recipe, *start.split(), "--model.stacks", "1"])
    assert config.init_from == "voice"
    assert config.model == {"stacks": 1}
    assert config.learning_rate == 0.001


def test_silence_is_trimmed_only_when_a_threshold_is_given(tmp_path: Path) -> None:
    assert TrainingConfig().trim_db is None
    for value, threshold in (("-50", -50.0), ("-42.5", -42.5), ("false", None)):
        (tmp_path / "recipe.yaml").write_text(f"trim_silence: {value}\n")
        assert parse_training([f"--trim_silence={value}"])[0].trim_db == threshold
        assert parse_training([str(tmp_path / "recipe.yaml")])[0].trim_db == threshold


def test_a_mel_is_given_by_name_or_as_a_whole() -> None:
    by_name, *_ = parse_training(["--model.mel", "wavenet-16k"])
    whole, *_ = parse_training(["--model.mel", "{hop_samples: 100, power_epsilon: 1e-9}"])
    for config, hop_samples, epsilon in ((by_name, 200, 0.0), (whole, 100, 1e-9)):
        mel = config.model_config().mel
        assert mel is not None
        assert (mel.hop_samples, mel.power_epsilon) == (hop_samples, epsilon)


def test_options_have_hyphens_or_underscores() -> None:
    words = ("batch{}size=3", "model.residual{}channels=8", "trainer.num{}nodes=2")
    hyphens, underscores = (
        parse_training([f"--{word.format(sign)}" for word in words])[0] for sign in "-_"
    )
    assert hyphens == underscores
    assert (hyphens.batch_size, hyphens.model) == (3, {"residual_channels": 8})
    assert hyphens.trainer == {"num_nodes": 2}


def test_keys_of_a_model_are_added_and_a_whole_one_replaces_what_stands_before(
    tmp_path: Path,
) -> None:
    (tmp_path / "recipe.yaml").write_text("model: {preset: medium, mel: null}\nseed: 3")
    recipe = [str(tmp_path / "recipe.yaml"), "--model.stacks", "1"]
    added, *_ = parse_training(recipe)
    assert added.model == {"preset": "medium", "mel": None, "stacks": 1}
    replaced, *_ = parse_training([*recipe, "--model", "{preset: tiny}", "--model.stacks=4"])
    assert (replaced.model, replaced.seed) == ({"preset": "tiny", "stacks": 4}, 3)


def test_every_setting_of_a_model_is_a_key_with_its_type() -> None:
    hints = get_type_hints(WaveNetConfig)
    keys = {key.name: key for key in model_keys()}
    assert set(keys) == {"preset", *hints}
    for name, hint in hints.items():
        if hint in (bool, float, int, str, int | None):
            assert keys[name].type == hint
        assert keys[name].meaning


def test_an_empty_recipe_is_all_defaults(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("")
    assert parse_training([str(tmp_path / "empty.yaml")])[0] == TrainingConfig()


BILLION = "model:\n  a: &a [x, x, x, x, x, x, x, x, x]\n" + "\n".join(
    f"  {chr(i + 1)}: &{chr(i + 1)} [{', '.join([f'*{chr(i)}'] * 9)}]" for i in range(97, 107)
)
"""400 bytes that repeat an alias of an alias of ...: 9 ** 11 values."""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("corpsu: speech", "recipe.yaml: corpsu is unknown; did you mean corpus?"),
        ("model: {stakcs: 3}", "recipe.yaml: model.stakcs is unknown; did you mean stacks?"),
        ("model: {stacks: 1.5}", '"model.stacks": Expected a int. Got value: 1.5'),
        ("colour: red", "recipe.yaml: colour is unknown; known: corpus, corpus_root, "),
        ("max_steps: many", '"max_steps": Expected a int. Got value: many'),
        ("max_steps: 1.5", '"max_steps": Expected a int. Got value: 1.5'),
        ("model: tiny", '"model": Expected a dict. Got value: tiny'),
        ("corpus: [", "recipe.yaml: not YAML: "),
        ("- corpus", "recipe.yaml: expected settings, one `key: value` a line"),
        ("\udcff", "recipe.yaml: not YAML: 'utf-8' codec can't decode byte 0xff"),
        ("corpus: a\nseed:", "recipe.yaml: seed has no value; give one, or drop the key"),
        ("model:", "recipe.yaml: model has no value; give one, or drop the key"),
        ("seed: 1\nseed: 2", "recipe.yaml, line 2: 'seed' is given twice; drop one of them"),
        ("seed: 1\nbatch_size: 1_0", "recipe.yaml, line 2: '1_0' is another number in YAML; give"),
        ("seed: 1:30", "recipe.yaml, line 1: '1:30' is another number in YAML; give it in digits"),
        (BILLION, "recipe.yaml, line 3: *a repeats another value; write it out"),
        ("model: &a {b: *a}", "recipe.yaml, line 1: *a repeats another value; write it out"),
        ("model: " + "[" * 99_999, "recipe.yaml, line 1: nested more than 16 deep"),
        ("- a\n" * 30_000, "recipe.yaml, line 20000: more than 20000 values"),
        (
            "seed: " + "9" * 9999,
            "recipe.yaml, line 1: '999999999999999999999999999...9999999999999999999999999999' ",
        ),
        ("seed: " + "9" * 300, "less than 2**63"),
        ("window_s: " + "9" * 320, "int too large to convert to float"),
        ("# " + "x" * (1 << 20), "recipe.yaml: longer than 1048576 bytes; name a recipe"),
        ("seed: !!bool 1", "line 1: the tag 'tag:yaml.org,2002:bool' is not read"),
        ("trainer: {callbacks: {class_path: os.Thing}}", "line 1: class_path would import code"),
        ('corpus: "a\\0b"', r"line 1: 'a\x00b' holds a character that is no text"),
        (r'corpus: "\ud800"', r"line 1: '\ud800' holds a character that is no text"),
        ("workers: 9999", "workers=9999 must be at most 1024"),
        ("a" * 999 + ": 3", "a... is unknown; known: corpus"),
        ("model: " + "x" * 9999, "Expected a dict. Got value: xxx"),
    ],
)
def test_a_mistake_in_a_recipe_is_one_line_that_names_it(
    tmp_path: Path, content: str, message: str
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(ConfigError) as caught:
        parse_training([str(path)])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("value", ["{class_path: decimal.Decimal}", "[&a [*a]]", "{a: 1, a: 2}"])
def test_values_on_the_command_line_are_as_plain_as_those_of_a_recipe(value: str) -> None:
    """They are no mapping then, but the text that they are."""
    with pytest.raises(ConfigError, match='"trainer": Expected a dict'):
        parse_training(["--trainer", value])


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("max_steps", "2", "max_steps='2' must be an integer"),
        ("max_steps", 2.5, "max_steps=2.5 must be an integer"),
        ("seed", True, "seed=True must be an integer"),
        ("window_s", "0.5", "window_s='0.5' must be a number"),
        ("trim_silence", "-50", "trim_silence='-50' must be false or negative, in dB"),
        ("compile", "no", "compile='no' must be true or false"),
        ("decay", "step", "decay='step' must be cosine or linear"),
        ("corpus", 3, "corpus=3 must be text"),
        ("init_from", 3, "init_from=3 must be text"),
        ("trainer", 3, "trainer=3 must be settings by name"),
        ("loggers", "a.B", "loggers='a.B' must be a list"),
        ("drop_conditions", {"level": "1"}, "drop_conditions: level='1' must lie within 0 to 1"),
    ],
)
def test_a_value_of_another_type_is_refused(key: str, value: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainingConfig(**{key: value})  # type: ignore[arg-type]


def test_numbers_of_numpy_and_paths_are_kept_as_plain_values() -> None:
    """As they are in a checkpoint, in ``config.yaml`` and in a model's provenance."""
    given: dict[str, Any] = {
        "corpus": Path("wavs"),
        "max_steps": np.int64(7),
        "learning_rate": np.logspace(-3, -2, 2)[0],
        "model": {"stacks": np.int64(1), "mel": {"f_max_hz": np.float64(7600)}},
        "trainer": {"devices": np.int64(1)},
        "loggers": ("a.B",),
    }
    expected = TrainingConfig(
        corpus="wavs",
        max_steps=7,
        learning_rate=0.001,
        model={"stacks": 1, "mel": {"f_max_hz": 7600.0}},
        trainer={"devices": 1},
        loggers=["a.B"],
    )
    found = TrainingConfig(**given)
    assert found == expected
    assert yaml.safe_dump(asdict(found)) == yaml.safe_dump(asdict(expected))


def test_a_name_that_no_file_has_is_refused() -> None:
    for name in ("a\0b", "\ud800"):
        with pytest.raises(ConfigError, match="holds a character that no name of a file has"):
            TrainingConfig(corpus_root=name)
    assert TrainingConfig(corpus="\udcff").corpus == "\udcff"  # a name that is not UTF-8


def test_a_recipe_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"{tmp_path}/none.yaml: cannot be read: No such file"):
        parse_training([f"{tmp_path}/none.yaml"])
    with pytest.raises(ConfigError, match=f"{tmp_path}: cannot be read: Is a directory; name a"):
        parse_training([str(tmp_path)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--max-stesp 3", "unrecognized arguments: --max-stesp 3"),
        ("--max_stesp 3", "unrecognized arguments: --max-stesp 3"),
        ("--max-step 3", "unrecognized arguments: --max-step 3"),  # no guessing from a beginning
        ("--max-steps many", '"max_steps": Expected a int. Got value: many'),
        ("--max-steps 1_0", "argument --max-steps: 1_0 is no number"),
        ("--window-s=1_0.5", "argument --window-s: 1_0.5 is no number"),
        ("--seed 1:30", "argument --seed: 1:30 is no number"),
        ("--model.stacks \u0663", "argument --model.stacks: \u0663 is no number"),
        ("--max-steps", "argument --max-steps: expected one argument"),
        (
            "--model.mel.hop-samples 3",
            "--model.mel.hop-samples: give model.mel as a whole: --model.mel '{key: value, ...}'",
        ),
        ("--trainer.a.b 3", "--trainer.a.b: give trainer.a as a whole: --trainer.a '{key: "),
        ("--model.stakcs 3", "--model.stakcs is unknown; did you mean stacks?"),
        ("--model.stacks two", '"model.stacks": Expected a int. Got value: two'),
        ("--model tiny", '"model": Expected a dict. Got value: tiny'),
        ("--model", "argument --model: expected one argument"),
        ("--model {", "--model: "),
        ("recipe.yaml more", "recipe.yaml: cannot be read"),
        ("--batch_size 0", "batch_size=0 must be at least 1"),
        ("--trim_silence 0", "trim_silence=0.0 must be false or negative, in dB, such as -50"),
        ("--trim_silence=-.inf", "trim_silence=-inf must be false or negative, in dB"),
        ("--trim_silence=true", "Expected a float. Got value: True"),
        ("--max_steps 0", "max_steps=0 must be at least 1"),
        ("--window_s 0", "window_s=0.0 must be positive and finite"),
        ("--learning_rate .inf", "learning_rate=inf must be positive and finite"),
        ("--augment 1.5", "augment=1.5 must lie within 0 to 1"),
        ("--decay_fraction -0.1", "decay_fraction=-0.1 must lie within 0 to 1"),
        ("--feedback_noise -1", "feedback_noise=-1.0 must be finite and not negative"),
        ("--adam_beta2 1", "adam_beta2=1.0 must be at least 0 and less than 1"),
        ("--learning_rate .nan", "learning_rate=nan must be positive and finite"),
        ("--gradient_clip .nan", "gradient_clip=nan must not be negative"),
        ("--workers -1", "workers=-1 must not be negative"),
        ("--seed 9223372036854775808", "seed=9223372036854775808 must be less than 2**63"),
        ("--validation_fraction 1", "validation_fraction=1.0 must lie between 0 and 1"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line_that_names_it(
    arguments: str, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_training(arguments.split())
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"residual_chanels": 3}, "model.residual_chanels is unknown; did you mean residual_chan"),
        ({"stacks": "two"}, "model.stacks is 'two', expected int"),
        ({"preset": "huge"}, "preset='huge' is unknown; choose one of tiny, small, medium, nv"),
        ({"distribution": "cauchy"}, "unknown distribution 'cauchy': choose one of mu_law, "),
    ],
)
def test_a_model_that_cannot_be_is_one_line(model: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainingConfig(model=model).model_config()


def test_help_lists_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_training(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for key in ("--out", "--from", "--corpus", "--max-steps", "--trainer", "--model "):
        assert key in text
    options = [f"--{each.name}" for each in fields(TrainingConfig) if each.name != "model"]
    options += [f"--model.{each.name}" for each in fields(WaveNetConfig)]
    for option in [*options, "--model.preset"]:
        assert f"  {option.replace('_', '-')} " in text
    assert not re.search(r"--[\w.]*_", text)
    assert "width of the skip sum and of the head. (type: int)" in text
    assert "optimiser steps" in text  # the meaning, from the docstring
