"""Any ``config.json`` and any weights are a model or one line, in little time and memory."""

from __future__ import annotations

import io
import json
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from peak_memory import peak_kib, reset_peak

import wavenet
from wavenet import FeatureConfig, MelConfig, WaveNet, WaveNetConfig
from wavenet.cli.main import main
from wavenet.model.config import UpsamplingConfig
from wavenet.storage.checkpoint import CheckpointError

BRIEF = settings(max_examples=15, derandomize=True, deadline=None, database=None)
LONG = settings(BRIEF, max_examples=1000)
LONGEST_S = 5.0
"""Of processor time, which another load on the machine hardly changes."""
MOST_KIB = 400 * 1024
"""That the process may grow by: the files have some kilobytes."""

SMALL: dict[str, Any] = {
    "layers_per_stack": 2,
    "stacks": 1,
    "residual_channels": 4,
    "skip_channels": 4,
}
MEL = MelConfig(n_fft=64, win_samples=32, hop_samples=8, n_mels=5)
CONFIGS = {
    "plain": WaveNetConfig(**SMALL, distribution="gaussian"),
    "classes": WaveNetConfig(**SMALL, distribution_size=16, one_hot_input=True, kernel_size=3),
    "speech": WaveNetConfig(
        **SMALL,
        distribution="logistic_mixture",
        distribution_size=2,
        mel=MEL,
        speakers=2,
        speaker_names=("ann", "bob"),
        linear_prediction=4,
        pitch_taps=3,
        unconditional=True,
    ),
    "features": WaveNetConfig(
        **SMALL,
        distribution="gaussian_mixture",
        distribution_size=2,
        features=FeatureConfig(
            channels=3, hop_samples=6, upsampling=UpsamplingConfig(scales=(2, 3), context_frames=1)
        ),
        cond_channels=5,
    ),
}
LONGEST_LINE = 600
LONG_VALUES = ("[" * 100_000, ["a" * 1000] * 1000, 10**4000, {"a" * 10_000: 1})
KEYS = [field.name for field in fields(WaveNetConfig)]
MEL_KEYS = [field.name for field in fields(MelConfig)]

numbers = st.one_of(
    st.integers(-2, 70),
    st.sampled_from([2**16, 2**20, 2**21, 2**31, 2**63, 10**30, 10**400, 1e300, 1e-320, -0.0]),
    st.floats(),
)
scalars = st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=8))
anything = st.recursive(
    scalars,
    lambda part: st.one_of(
        st.lists(part, max_size=4), st.dictionaries(st.text(max_size=5), part, max_size=3)
    ),
    max_leaves=6,
)
mels = st.one_of(
    anything,
    st.dictionaries(st.sampled_from(MEL_KEYS), scalars, max_size=3).map(
        lambda changes: MEL.to_dict() | changes
    ),
)
features = st.fixed_dictionaries(
    {"channels": scalars, "hop_samples": scalars},
    optional={
        "upsampling": st.one_of(
            anything,
            st.fixed_dictionaries(
                {"scales": st.lists(scalars, max_size=5)},
                optional={"context_frames": scalars, "band_kernel_size": scalars},
            ),
        )
    },
)
settings_of_a_model = st.fixed_dictionaries(
    {},
    optional={
        **{key: st.one_of(numbers, numbers, anything) for key in KEYS},
        "mel": mels,
        "features": st.one_of(features, anything),
        "surplus": anything,
    },
)
OUTER_KEYS = ("format_version", "architecture", "dtype", "config", "provenance")
outer = st.fixed_dictionaries({}, optional=dict.fromkeys(OUTER_KEYS, anything))


@st.composite
def configs(draw: st.DrawFn) -> tuple[str, bytes]:
    """The name of a model, and the text of its ``config.json`` with a few changes."""
    name = draw(st.sampled_from(sorted(CONFIGS)))
    content: dict[str, Any] = {
        "format_version": 1,
        "architecture": "wavenet",
        "config": CONFIGS[name].to_dict(),
        "provenance": {},
    }
    changes = draw(settings_of_a_model)
    kept = draw(st.lists(st.sampled_from(sorted(changes)), max_size=3)) if changes else []
    content["config"] |= {key: changes[key] for key in kept}
    if draw(st.integers(0, 4)) == 0:
        content |= draw(outer)
    text = json.dumps(content).encode("utf-8", "surrogatepass")
    return name, draw(st.one_of(st.just(text), st.just(text), damaged(text)))


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """Bytes of which some are cut off, changed or added."""
    at = draw(st.integers(0, len(content)))
    rest = draw(st.integers(0, min(9, len(content) - at)))
    added = draw(st.one_of(st.binary(max_size=9), st.sampled_from([b"[" * 10**5, b"9" * 5000])))
    whole = content[:at] + added + content[at + rest :]
    return whole[: draw(st.one_of(st.just(len(whole)), st.integers(0, len(whole))))]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A checkpoint of each model."""
    found = {name: tmp_path_factory.mktemp(name) for name in CONFIGS}
    for name, folder in found.items():
        WaveNet(CONFIGS[name]).save(folder)
        wavenet.load(folder)  # what is imported once is not the time of a file
        main(["info", str(folder)])
    return found


def check(folder: Path) -> None:
    """Assert that a folder is loaded, or refused in one line, from Python and by a command."""
    reset_peak()
    before_kib = peak_kib()
    started = time.process_time()
    line = None
    try:
        model = wavenet.load(folder)
        assert model.past >= 0
    except CheckpointError as error:
        line = str(error)
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(["info", str(folder)])
    assert time.process_time() - started < LONGEST_S
    assert peak_kib() - before_kib < MOST_KIB
    if line is None:
        assert (code, err.getvalue()) == (0, "")
        return
    assert "\n" not in line
    assert len(line) < LONGEST_LINE + 2 * len(str(folder))
    assert code == 2
    assert err.getvalue().count("\n") == 1


def check_config(folders: dict[str, Path], made: tuple[str, bytes]) -> None:
    """Assert it of a ``config.json`` beside the weights of its model."""
    name, text = made
    path = folders[name] / "config.json"
    before = path.read_bytes()
    try:
        path.write_bytes(text)
        check(folders[name])
    finally:
        path.write_bytes(before)


def check_weights(folders: dict[str, Path], name: str, data: st.DataObject) -> None:
    """Assert it of damaged weights beside the ``config.json`` of their model."""
    path = folders[name] / "model.safetensors"
    before = path.read_bytes()
    header_bytes = 8 + int.from_bytes(before[:8], "little")
    if data.draw(st.booleans()):  # the header, its length made to fit or not
        header = data.draw(damaged(before[8:header_bytes]))
        length = data.draw(st.sampled_from([len(header), header_bytes - 8, 2**40, 2**63]))
        content = length.to_bytes(8, "little") + header + before[header_bytes:]
    else:
        content = data.draw(damaged(before))
    try:
        path.write_bytes(content)
        check(folders[name])
    finally:
        path.write_bytes(before)


@BRIEF
@given(made=configs())
def test_any_config_is_a_model_or_one_line(
    folders: dict[str, Path], made: tuple[str, bytes]
) -> None:
    check_config(folders, made)


@pytest.mark.parametrize("value", LONG_VALUES, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("key", [*KEYS, *(f"mel.{key}" for key in MEL_KEYS), "surplus"])
def test_a_setting_of_any_length_is_refused_in_a_short_line(key: str, value: Any) -> None:
    settings = CONFIGS["plain"].to_dict() | {"mel": MEL.to_dict()}
    where = settings["mel"] if key.startswith("mel.") else settings
    where[key.removeprefix("mel.")] = value
    with pytest.raises(ValueError, match=r".") as caught:
        WaveNetConfig.from_dict(settings)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < LONGEST_LINE


@pytest.mark.parametrize("value", LONG_VALUES, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("key", OUTER_KEYS)
def test_a_config_file_with_a_long_value_is_a_model_or_a_short_line(
    folders: dict[str, Path], key: str, value: Any
) -> None:
    content = {
        "format_version": 1,
        "architecture": "wavenet",
        "dtype": "float32",
        "config": CONFIGS["plain"].to_dict(),
        "provenance": {},
    }
    check_config(folders, ("plain", json.dumps(content | {key: value}).encode()))


@BRIEF
@given(name=st.sampled_from(sorted(CONFIGS)), data=st.data())
def test_any_weights_are_a_model_or_one_line(
    folders: dict[str, Path], name: str, data: st.DataObject
) -> None:
    check_weights(folders, name, data)


@pytest.mark.slow
@LONG
@given(made=configs())
def test_a_thousand_configs_are_models_or_one_line(
    folders: dict[str, Path], made: tuple[str, bytes]
) -> None:
    check_config(folders, made)


@pytest.mark.slow
@LONG
@given(name=st.sampled_from(sorted(CONFIGS)), data=st.data())
def test_a_thousand_weights_are_models_or_one_line(
    folders: dict[str, Path], name: str, data: st.DataObject
) -> None:
    check_weights(folders, name, data)
