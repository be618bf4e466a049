"""wavenet.data.augmentation: sections of altered recordings, and the windows cut from them."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from wavenet import MelConfig, WaveNet, WaveNetConfig, log_mel
from wavenet.data import Corpus, Utterance, WindowPlan, Windows
from wavenet.data.augmentation import (
    LARGEST_COEFFICIENT,
    PEAKS_DB,
    RATES,
    Augmentation,
    AugmentedUtterance,
    resampled,
)
from wavenet.model.conditioner import Condition, Recording

RATE = 8000
HOP = 40
PLAIN = Augmentation(rate=1.0, peak_db=0.0, sign=1, zeros=(0.0, 0.0), poles=(0.0, 0.0))


def noise(n_samples: int, speaker: str = "ann") -> Utterance:
    draw = np.random.default_rng(n_samples)
    samples = draw.normal(0, 3000, n_samples).astype(np.int16)
    return Utterance(f"{speaker}/{n_samples}", samples, speaker)


def sine(frequency: float, n_samples: int) -> np.ndarray:
    """Frequency in cycles per sample."""
    return (20000 * np.sin(2 * np.pi * frequency * np.arange(n_samples))).astype(np.int16)


def drawn(seed: int) -> Augmentation:
    return Augmentation.draw(np.random.default_rng(seed))


def whole(utterance: Utterance, augmentation: Augmentation, seed: int = 0) -> AugmentedUtterance:
    length = augmentation.length(len(utterance.samples))
    return AugmentedUtterance(utterance, augmentation, 0, length, np.random.Philox(key=seed))


def windows(
    augment: float, *lengths: int, padding: str = "hop", feedback_noise: float = 0.0
) -> Windows:
    mel = MelConfig(
        sample_rate=RATE,
        n_fft=128,
        win_samples=100,
        hop_samples=HOP,
        n_mels=8,
        f_max_hz=RATE / 2,
        padding="hop" if padding == "hop" else "center",
    )
    small = {"layers_per_stack": 6, "stacks": 1, "residual_channels": 2, "skip_channels": 2}
    people = {"speakers": 1, "speaker_names": ["ann"], "unconditional": True}
    model = WaveNet(WaveNetConfig.from_dict({"sample_rate": RATE, "mel": mel, **small, **people}))
    parts = tuple(noise(n) for n in lengths)
    plan = WindowPlan.of(model, 200 / RATE)
    return Windows(
        Corpus(parts, RATE),
        plan,
        n_windows=200,
        seed=5,
        augment=augment,
        feedback_noise=feedback_noise,
    )


@pytest.mark.parametrize("rate", [0.75, 0.9, 1.2, 1.35])
def test_resampling_a_sine_multiplies_its_frequency(rate: float) -> None:
    found = resampled(sine(0.03, 4000), rate, 500, 2000)
    expected = 20000 / 32768 * np.sin(2 * np.pi * 0.03 * rate * np.arange(500, 2000))
    assert np.abs(found - expected).max() < 2e-4


def test_frequencies_above_the_new_nyquist_frequency_are_removed() -> None:
    found = resampled(sine(0.45, 4000), 1.35, 500, 2000)
    assert np.abs(found).max() < 1e-3


def test_a_resampled_recording_is_longer_or_shorter_by_the_rate() -> None:
    assert drawn(0).length(1) == 1
    assert Augmentation(0.75, 0.0, 1, (0, 0), (0, 0)).length(7500) == 10000
    assert Augmentation(1.25, 0.0, 1, (0, 0), (0, 0)).length(10000) == 8000


@pytest.mark.parametrize("seed", range(4))
def test_a_section_is_the_same_part_of_the_whole_recording(seed: int) -> None:
    utterance, augmentation = noise(3000), drawn(seed)
    expected = whole(utterance, augmentation)
    for first, stop in [(0, 40), (401, 1003), (1500, 10_000)]:
        part = AugmentedUtterance(utterance, augmentation, first, stop, np.random.Philox(key=0))
        stop = min(stop, expected.n_samples)
        assert part.n_samples == expected.n_samples
        assert torch.equal(part.audio(first, stop), expected.audio(first, stop))


class CountedSamples(np.ndarray):
    """Samples that note how many are read at once."""

    read: ClassVar[list[int]] = []

    def __getitem__(self, index: Any) -> Any:
        part = super().__getitem__(index)
        CountedSamples.read.append(np.size(part))
        return part


def test_of_a_long_recording_a_window_reads_a_section_once_its_peak_is_known() -> None:
    samples = noise(100_000).samples
    assert isinstance(samples, np.ndarray)
    utterance = Utterance("a", samples.view(CountedSamples), "")
    expected = AugmentedUtterance(utterance, drawn(0), 0, 400, np.random.Philox(key=0))
    CountedSamples.read.clear()
    found = AugmentedUtterance(utterance, drawn(0), 0, 400, np.random.Philox(key=0))
    assert torch.equal(found.audio(0, 400), expected.audio(0, 400))
    assert 0 < sum(CountedSamples.read) < 2000


def test_draws_lie_within_the_documented_ranges_and_reach_both_signs() -> None:
    found = [drawn(seed) for seed in range(200)]
    coefficients = [c for each in found for c in (*each.zeros, *each.poles)]
    assert all(RATES[0] <= each.rate <= RATES[1] for each in found)
    assert all(PEAKS_DB[0] <= each.peak_db <= PEAKS_DB[1] for each in found)
    assert max(map(abs, coefficients)) <= LARGEST_COEFFICIENT
    assert {each.sign for each in found} == {-1, 1}


def test_the_filter_is_the_rational_one() -> None:
    b, a = (0.3, -0.2), (-0.35, 0.1)
    response = np.zeros(64)
    for n in range(64):
        response[n] = (1.0, *b)[n] if n < 3 else 0.0
        response[n] -= sum(a[k] * response[n - 1 - k] for k in range(2) if n > k)
    impulse = np.zeros(400, np.int16)
    impulse[100] = 16384
    recording = Utterance("a", impulse, "")
    found = Augmentation(1.0, 0.0, 1, b, a).section(recording, 0, 400)
    plain = Augmentation(1.0, 0.0, 1, (0, 0), (0, 0)).section(recording, 0, 400)
    expected = np.convolve(plain, response)[:400] / np.linalg.norm(response)
    assert np.abs(found - expected).max() < 1e-6


def test_samples_are_16_bit_values_at_the_wanted_level_and_sign() -> None:
    utterance = Utterance("a", sine(0.03, 4000), "")
    altered = whole(utterance, Augmentation(1.0, -20.0, -1, (0, 0), (0, 0))).audio(0, 4000)
    assert torch.equal(altered * 32768, (altered * 32768).round())
    assert float(altered.abs().max()) == pytest.approx(0.1, rel=0.02)
    plain = utterance.audio(0, 4000)
    assert float((altered * plain).sum()) < 0


def test_loud_samples_are_clipped_not_wrapped() -> None:
    altered = whole(noise(4000), Augmentation(1.0, 6.0, 1, (0, 0), (0, 0))).audio(0, 4000)
    assert float(altered.max()) == 32767 / 32768
    assert float(altered.min()) >= -1


def test_dither_has_the_variance_of_the_triangular_distribution() -> None:
    silent = np.zeros(20_000, np.int16)
    silent[0] = 32767  # a peak to be scaled to
    values = whole(Utterance("a", silent, ""), PLAIN).audio(1000, 20_000) * 32768
    assert float(values.var()) == pytest.approx(1 / 6 + 1 / 12, rel=0.05)  # and of rounding


def test_outside_of_the_recording_there_is_silence_and_outside_of_the_section_an_error() -> None:
    utterance = noise(3000)
    part = AugmentedUtterance(utterance, PLAIN, 0, 500, np.random.Philox(key=0))
    assert not part.audio(-40, 0).any()
    assert not part.audio(3000, 3040).any()
    with pytest.raises(IndexError, match="outside of the section 0 to 500"):
        part.audio(480, 520)


@pytest.mark.parametrize("padding", ["hop", "center"])
def test_an_augmented_window_has_the_samples_and_the_mel_of_the_augmented_file(
    padding: str,
) -> None:
    made = windows(1.0, 90, 700, 5000, padding=padding)
    plan = made.plan
    assert plan.mel is not None
    for index in range(20):
        (utterance, start), augmentation = made.place(index), made.augmentation(index)
        assert augmentation is not None
        file = AugmentedUtterance(utterance, augmentation, 0, 10_000, made._random(3, index))
        item = made[index]
        first = start - plan.warm_up
        assert torch.equal(item["x"][0], file.audio(first, start + plan.length))
        inside = torch.arange(first, start + plan.length)
        assert torch.equal(item["mask"][0].bool(), (inside >= 0) & (inside < file.n_samples))
        rows = log_mel(file.audio(0, file.n_samples), plan.mel)
        wanted = first // plan.hop - plan.context_frames + torch.arange(item["mel"].shape[-1])
        expected = rows[:, wanted.clamp(0, rows.shape[-1] - 1)]
        torch.testing.assert_close(item["mel"][:, item["frame"]], expected, rtol=1e-4, atol=1e-3)
        assert made.n_inside(index) == int(item["mask"][0, -plan.length :].sum())


def test_a_condition_of_an_augmented_window_is_that_of_the_whole_augmented_file() -> None:
    class Loudest(Condition):
        name, encoder = "loudest", "loudest_encoder"

        def make_encoder(self, channels: int) -> torch.nn.Module:
            raise NotImplementedError

        def example(self, rows: int, n_frames: int) -> torch.Tensor:
            return torch.zeros(rows)

        def of_recording(self, recording: Recording) -> torch.Tensor:
            return recording.audio(-5, recording.n_samples + 5).abs().max()

    corpus = Corpus((noise(5000), noise(70_000)), RATE)
    plan = WindowPlan(80, 40, HOP, 0, None, (), conditions=(Loudest(WaveNetConfig()),))
    made = Windows(corpus, plan, n_windows=10, seed=0, augment=1.0)
    for index in range(10):
        (utterance, _), augmentation = made.place(index), made.augmentation(index)
        assert augmentation is not None
        file = AugmentedUtterance(utterance, augmentation, 0, 100_000, made._random(3, index))
        assert made[index]["loudest"] == file.audio(0, file.n_samples).abs().max()


def test_an_augmented_window_has_no_speaker_and_keeps_its_mel() -> None:
    item = windows(1.0, 700)[0]
    assert not item["speaker_kept"]
    assert item["mel_kept"]


def test_windows_that_are_not_augmented_are_those_of_a_run_without_augmentation() -> None:
    some, none = windows(0.5, 700, 5000), windows(0.0, 700, 5000)
    same = [index for index in range(200) if some.augmentation(index) is None]
    assert 70 < len(same) < 130
    for index in same[:8]:
        for key, value in none[index].items():
            assert torch.equal(some[index][key], value)


def test_a_window_depends_on_seed_and_index_alone() -> None:
    first, second = (windows(0.5, 700, 5000, feedback_noise=2.0) for _ in range(2))
    alone, together = second[7], first.__getitems__([3, 7])[1]
    for key, value in alone.items():
        assert torch.equal(together[key], value)


def test_feedback_noise_has_the_asked_for_mean_amplitude_and_is_small_in_half_of_the_windows() -> (
    None
):
    made = windows(0.0, 5000, feedback_noise=2.0)
    scales = torch.stack([made[i]["feedback_noise"].std() for i in range(200)])
    assert float(scales.mean()) == pytest.approx(2.0, rel=0.25)
    assert 0.4 < float((scales <= 1.0).float().mean()) < 0.6
    assert "feedback_noise" not in windows(0.0, 5000)[0]
