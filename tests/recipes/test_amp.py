"""recipes/amp: the simulated pair is a pair, and the script trains, exports and draws."""

import json
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import soundfile
import torch

import wavenet
from wavenet.nam import NamWaveNet, read_nam

GOLDEN_STFT_LOSS = 3.6647656
"""MultiResolutionSTFTLoss() of neural-amp-modeler 0.13.0's auraloss, of the signals below."""


def test_the_simulated_amplifier_saturates_and_keeps_silence(repository: Path) -> None:
    pair = runpy.run_path(str(repository / "recipes" / "amp" / "pair.py"))
    time_s = torch.arange(4800) / pair["SAMPLE_RATE"]
    tone = torch.sin(2 * torch.pi * 440 * time_s)
    loudness = [float(pair["wet"](level * tone).square().mean().sqrt()) for level in (0.01, 0.5)]
    assert loudness[1] < 20 * loudness[0]  # 50 times louder going in
    assert float(pair["wet"](torch.zeros(4800)).abs().max()) == 0
    x = pair["dry"](1.0, seed=1)
    assert (x.shape, float(x.abs().max())) == ((48000,), pytest.approx(0.9))
    assert torch.equal(x, pair["dry"](1.0, seed=1))


@pytest.mark.slow
@pytest.mark.parametrize("own", [False, True])
def test_the_recipe_trains_exports_and_draws(
    repository: Path,
    samples: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    own: bool,
) -> None:
    folder = repository / "recipes" / "amp"
    brief = ["--out", str(tmp_path / "out"), "--steps", "2", "--seconds", "1"]
    rate = 48000
    if own:  # speech, and the same limited: any two files of one length
        dry, rate = samples / "prompts-en" / "agent-user.flac", 16000
        x, _ = soundfile.read(dry)
        soundfile.write(tmp_path / "wet.wav", (3 * x).clip(-0.3, 0.3), rate)
        brief += ["--dry", str(dry), "--wet", str(tmp_path / "wet.wav"), "--size", "feather"]
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(sys, "argv", ["amp.py", *brief])
    runpy.run_path(str(folder / "amp.py"), run_name="__main__")
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert 0 < results["test_esr"] < 2
    made = read_nam(tmp_path / "out" / "model.nam")
    assert made.sample_rate == rate
    kept = wavenet.load(tmp_path / "out" / "model")
    assert isinstance(kept, NamWaveNet)
    x = torch.randn(1, 1, 100)
    with torch.no_grad():
        assert torch.equal(kept(x), made(x))
    assert (tmp_path / "out" / "amp.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_both_sizes_of_the_second_architecture_are_trained_at_once_and_share_a_file(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = repository / "recipes" / "amp", tmp_path / "out"
    brief = ["--out", str(out), "--steps", "2", "--seconds", "2", "--size", "packed"]
    brief += ["--training", "nam"]
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(sys, "argv", ["amp.py", *brief])
    runpy.run_path(str(folder / "amp.py"), run_name="__main__")
    results = json.loads((out / "results.json").read_text())
    assert [result["size"] for result in results] == ["a2-lite", "a2"]
    x = torch.randn(1, 1, 100)
    for name in ("a2-lite", "a2"):
        kept, made = wavenet.load(out / name), read_nam(out / "model.nam", submodel=name)
        assert made.past == 6346
        with torch.no_grad():
            assert torch.equal(kept(x), made(x))


def test_delay_drift_and_clipping_of_a_pair_are_found(
    repository: Path,
) -> None:
    checks = SimpleNamespace(**runpy.run_path(str(repository / "recipes" / "amp" / "checks.py")))
    pair = runpy.run_path(str(repository / "recipes" / "amp" / "pair.py"))
    x, rate = pair["dry"](4.0, seed=0), pair["SAMPLE_RATE"]
    y = pair["wet"](x)
    own = checks.delay_of(x, y, rate)
    assert 0 <= own < 50  # its filters delay, by less than a millisecond
    late = torch.cat([torch.zeros(777), -y])  # and inverted
    assert checks.delay_of(x, late, rate) == 777 + own
    assert checks.findings(x, y, rate) == []
    assert checks.clipped_samples(y) == 0
    slow = torch.nn.functional.interpolate(y[None, None], len(y) + 30, mode="linear")[0, 0]
    assert 10 <= checks.drift_of(x, slow, rate) <= 30
    limit = float(y.abs().max()) / 2
    clipped, drifting = checks.findings(x, slow.clamp(-limit, limit), rate)
    assert "samples are clipped at its peak" in clipped
    assert "the devices ran on two clocks" in drifting
    with pytest.raises(SystemExit, match=r"--wet: -\d+ dB of full scale is silence"):
        checks.findings(x, 1e-5 * y, rate)


def amp_module(repository: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """One module of the recipe, which imports its neighbours."""
    folder = repository / "recipes" / "amp"
    monkeypatch.syspath_prepend(str(folder))
    return SimpleNamespace(**runpy.run_path(str(folder / f"{name}.py")))


def test_a_stereo_recording_is_read_by_channel_and_otherwise_refused(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recordings = amp_module(repository, "recordings", monkeypatch)
    tone = 0.5 * torch.sin(torch.arange(800) / 9)
    path = tmp_path / "wet.wav"
    soundfile.write(path, torch.stack([tone, 0.5 * tone], 1).numpy(), 8000, "FLOAT")
    with pytest.raises(SystemExit, match=r"has 2 channels that differ; choose one with --channel"):
        recordings.read_channel(path, None)
    for channel, gain in (("1", 1.0), ("2", 0.5), ("mean", 0.75)):
        samples, rate = recordings.read_channel(path, channel)
        torch.testing.assert_close(samples, gain * tone)
        assert rate == 8000
    for wrong in ("3", "0", "left"):
        with pytest.raises(SystemExit, match=rf"--channel {wrong}: .* has channels 1 to 2"):
            recordings.read_channel(path, wrong)
    soundfile.write(path, torch.stack([tone, tone], 1).numpy(), 8000, "FLOAT")
    assert torch.equal(recordings.read_channel(path, None)[0], tone)  # one signal, twice


def test_a_delay_that_leaves_nothing_or_is_early_is_refused(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recordings = amp_module(repository, "recordings", monkeypatch)
    path = tmp_path / "wet.wav"
    soundfile.write(path, 0.5 * torch.sin(torch.arange(8000) / 9).numpy(), 8000, "FLOAT")
    for wrong in (-5, 8000):
        with pytest.raises(SystemExit, match=rf"--delay {wrong}: .* give 0 to 7999 samples"):
            recordings.read_pair(path, path, wrong, None)
    x, y, _ = recordings.read_pair(path, path, 100, None)
    assert len(x) == len(y) == 7900


def test_the_loss_is_that_of_neural_amp_modeler(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = amp_module(repository, "losses", monkeypatch)
    y = torch.sin(torch.arange(2 * 8192).view(2, 1, 8192) ** 1.2 / 9)
    target = 0.3 * y.roll(3, -1) + 0.1 * y.square()
    assert float(losses.stft_loss(y, target)) == pytest.approx(GOLDEN_STFT_LOSS, rel=1e-4)
    mse = float((y - target).square().mean())
    assert float(losses.nam_loss(y, target)) == pytest.approx(mse + 5e-4 * GOLDEN_STFT_LOSS)
    gain = losses.gain_to_level(target)
    assert float((gain * target).square().mean()) == pytest.approx(10**-1.8)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--dry", "nowhere.wav", "--wet", "nowhere.wav"], "nowhere.wav: cannot be read: "),
        (["--dry", "nowhere.wav"], "--dry and --wet belong together: give both or none"),
        (["--steps", "0"], "--steps 0 must be at least 1"),
        (["--seconds", "0.1"], "--seconds 0.1 must be at least 1"),
    ],
)
def test_a_mistake_is_one_line_and_2(
    repository: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    given: list[str],
    message: str,
) -> None:
    amp = amp_module(repository, "amp", monkeypatch)
    monkeypatch.setattr(sys, "argv", ["amp.py", "--out", str(tmp_path / "out"), *given])
    with pytest.raises(SystemExit) as exit_of:
        amp.command_line()
    assert exit_of.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(f"amp.py: {message}")
    assert said.count("\n") == 1
    assert not list(tmp_path.rglob("*.nam"))
