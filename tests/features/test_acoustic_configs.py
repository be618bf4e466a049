"""Mel settings are those of a preset, of a file, or of an acoustic model's configuration."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from wavenet.features import MelConfig
from wavenet.features.acoustic_configs import read_mel_config
from wavenet.training.config import TrainingConfig

HIFIGAN: dict[str, Any] = {  # of config_v1.json, without the network
    "resblock": "1",
    "batch_size": 16,
    "segment_size": 8192,
    "num_mels": 80,
    "num_freq": 1025,
    "n_fft": 1024,
    "hop_size": 256,
    "win_size": 1024,
    "sampling_rate": 22050,
    "fmin": 0,
    "fmax": 8000,
    "fmax_for_loss": None,
}
BIGVGAN = HIFIGAN | {"num_mels": 100, "sampling_rate": 24000, "fmax": None}
VITS = {
    "train": {"segment_size": 8192},
    "data": {
        "max_wav_value": 32768.0,
        "sampling_rate": 22050,
        "filter_length": 1024,
        "hop_length": 256,
        "win_length": 1024,
        "n_mel_channels": 80,
        "mel_fmin": 0.0,
        "mel_fmax": None,
    },
}
MATCHA = """_target_: matcha.data.text_mel_datamodule.TextMelDataModule
n_fft: 1024
n_feats: 80
sample_rate: 22050
hop_length: 256
win_length: 1024
f_min: 0
f_max: 8000
data_statistics:
  mel_mean: -5.536622
seed: ${seed}
"""


def file(folder: Path, content: Any, name: str = "config.json") -> str:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def test_mel_settings_are_a_preset_or_a_file(tmp_path: Path) -> None:
    small = dataclasses.replace(MelConfig(), n_mels=5)
    assert read_mel_config("hifigan") == MelConfig.preset("hifigan")
    path = file(tmp_path, small.to_dict(), "mine.json")
    assert read_mel_config(path) == small
    file(tmp_path, "{}", "mine.json")
    with pytest.raises(ValueError, match=r"mine.json: no mel settings: mel setting sample_rate,"):
        read_mel_config(path)
    with pytest.raises(ValueError, match="--mel-config=mine: no such file, and unknown mel preset"):
        read_mel_config("mine")


def test_the_configurations_of_acoustic_models_have_the_presets_settings(tmp_path: Path) -> None:
    hifigan, bigvgan = MelConfig.preset("hifigan"), MelConfig.preset("bigvgan-24k")
    assert read_mel_config(file(tmp_path, HIFIGAN)) == hifigan
    assert read_mel_config(file(tmp_path, BIGVGAN)) == bigvgan
    assert read_mel_config(file(tmp_path, MATCHA, "ljspeech.yaml")) == hifigan
    run = "data:\n" + "".join(f"  {line}\n" for line in MATCHA.splitlines())
    assert read_mel_config(file(tmp_path, run, "config.yaml")) == hifigan
    vits = dataclasses.replace(hifigan, f_max_hz=11025.0, power_epsilon=1e-6)
    assert read_mel_config(file(tmp_path, VITS)) == vits


@pytest.mark.parametrize(
    ("content", "name", "line"),
    [
        (HIFIGAN | {"n_fft": "1024"}, "a.json", "n_fft is '1024'; give an integer"),
        (HIFIGAN | {"fmax": 20000}, "a.json", "f_max_hz is 20000.0, above half of sample_rate"),
        (BIGVGAN | {"sampling_rate": []}, "a.json", "sampling_rate of HiFi-GAN or BigVGAN is "),
        ([1], "a.json", "mel settings are a list; give a mapping"),
        ("{", "a.json", "Expecting property name"),
        ("a: [", "a.yaml", "not YAML: while parsing"),
        ("!!python/name:os.system", "a.yaml", "not YAML: could not determine a constructor"),
        (100_000 * "[", "a.json", "it is nested too deeply"),
    ],
)
def test_what_makes_no_mel_is_one_line(content: Any, name: str, line: str, tmp_path: Path) -> None:
    path = file(tmp_path, content, name)
    with pytest.raises(ValueError, match="no mel settings") as caught:
        read_mel_config(path)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_recipe_takes_the_mel_and_the_sample_rate_of_the_file(tmp_path: Path) -> None:
    path = file(tmp_path, BIGVGAN)
    made = TrainingConfig(model={"preset": "medium", "mel": path}).model_config()
    assert (made.sample_rate, made.mel) == (24000, MelConfig.preset("bigvgan-24k"))
    other = TrainingConfig(model={"mel": path, "sample_rate": 22050})
    with pytest.raises(ValueError, match="mel.sample_rate=24000 Hz differs from .*=22050 Hz"):
        other.model_config()
    with pytest.raises(ValueError, match="model.mel=nothing: no such file, and unknown mel"):
        TrainingConfig(model={"mel": "nothing"}).model_config()
