"""Where is speech? A dilated stack over both sides says so for every sample, in noise.

    python recipes/segment/segment.py --out segment-out

The labels come from the clean recordings, where energy alone tells speech from silence. The network
hears them with noise added, and so does the energy threshold that it is compared with.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import wavenet
from wavenet import CausalConv1d, Chain, DilatedStack, Select
from wavenet.audio import read_audio
from wavenet.cli.options import integer

REPOSITORY = Path(__file__).parents[2]
SAMPLE_RATE = 8000
WINDOW = 240  # samples, 30 ms: over which energy is measured, for the labels and for the baseline
HANGOVER = 400  # samples, 50 ms: gaps and sounds shorter than this do not count
BELOW_LOUDEST_DB = 30  # clean speech is what is louder than this below the loudest window
TEST_FILES = 9
SNR_DB = (0.0, 5.0, 10.0)


class BothSides(nn.Module):
    """One causal stack reads the past, another one the reversed signal: the future.

    ``[B, 1, T]`` to ``[B, 1, T]``: the size is kept, whatever the dilations.
    """

    def __init__(self, channels: int, dilations: list[int]) -> None:
        super().__init__()
        self.past, self.future = (
            Chain(
                CausalConv1d(1, channels, 1),
                DilatedStack(channels, channels, kernel_size=3, dilations=dilations),
                Select(1),  # the skip sum
            )
            for _ in range(2)
        )
        self.head = nn.Sequential(
            nn.ReLU(), nn.Conv1d(channels, channels, 1), nn.ReLU(), nn.Conv1d(channels, 1, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """The logit of speech, for every sample."""
        return self.head(self.past(x) + self.future(x.flip(-1)).flip(-1))


def network() -> BothSides:
    """What this recipe trains: `wavenet receptive-field` takes it as well."""
    return BothSides(12, [1, 3, 9, 27, 81, 243])


def energy_db(x: Tensor) -> Tensor:
    """Mean power over a window centred on each sample, ``[T]`` to ``[T]``, in dB."""
    power = F.avg_pool1d(x.square()[None, None], WINDOW + 1, 1, WINDOW // 2)[0, 0]
    return 10 * torch.log10(power + 1e-10)


def without_short_runs(active: Tensor) -> Tensor:
    """Close gaps shorter than the hangover, then drop sounds shorter than it."""
    x = active.float()[None, None]
    for sign in (1, -1):  # a maximum and then a minimum close gaps; the other way drops sounds
        x = sign * F.max_pool1d(sign * x, HANGOVER + 1, 1, HANGOVER // 2)
        x = -sign * F.max_pool1d(-sign * x, HANGOVER + 1, 1, HANGOVER // 2)
    return x[0, 0] > 0.5


def labelled(path: Path) -> tuple[Tensor, Tensor]:
    """Clean speech ``[T]`` and, for every sample, whether it is speech."""
    speech, _ = read_audio(path, SAMPLE_RATE)
    energy = energy_db(speech)
    return speech, without_short_runs(energy > energy.max() - BELOW_LOUDEST_DB)


def noise(n: int, generator: torch.Generator) -> Tensor:
    """White to brown noise whose level wanders by several dB within a second, of power 1."""
    white = torch.randn(n, generator=generator)
    smooth = F.avg_pool1d(white[None, None], 9, 1, 4)[0, 0]
    colour = torch.rand((), generator=generator)
    mixed = (1 - colour) * white + 3 * colour * smooth
    knots = 6 * torch.randn(1, 1, max(2, n // 4000), generator=generator)
    level_db = F.interpolate(knots, n, mode="linear", align_corners=True)[0, 0]
    mixed = mixed * 10 ** (level_db / 20)
    return mixed / mixed.square().mean().sqrt()


def noisy(speech: Tensor, snr_db: float, generator: torch.Generator) -> Tensor:
    """Speech in noise, scaled to power 0.01 in all, so that no absolute level tells anything."""
    power = speech.square().mean()
    x = speech + noise(len(speech), generator) * (power / 10 ** (snr_db / 10)).sqrt()
    return 0.1 * x / x.square().mean().sqrt()


def balanced_error(answers: list[tuple[Tensor, Tensor]], threshold: float) -> float:
    """The mean of the error rates within speech and within silence, short runs taken away."""
    said = torch.cat([without_short_runs(scores > threshold) for scores, _ in answers])
    truth = torch.cat([truth for _, truth in answers])
    missed = (~said & truth).sum() / truth.sum()
    false = (said & ~truth).sum() / (~truth).sum()
    return float(missed + false) / 2


def train(model: nn.Module, files: list[tuple[Tensor, Tensor]], steps: int, seed: int) -> None:
    """Adam on windows of a second at signal-to-noise ratios of -5 to 15 dB."""
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(model.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps)
    for step in range(steps):
        xs, ys = [], []
        for _ in range(8):
            speech, active = files[int(torch.randint(len(files), (), generator=generator))]
            snr_db = float(torch.rand((), generator=generator)) * 20 - 5
            start = int(torch.randint(len(speech) - SAMPLE_RATE, (), generator=generator))
            xs.append(noisy(speech, snr_db, generator)[start : start + SAMPLE_RATE])
            ys.append(active[start : start + SAMPLE_RATE])
        x, y = torch.stack(xs)[:, None], torch.stack(ys)[:, None].float()
        loss = F.binary_cross_entropy_with_logits(model(10 * x), y)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 50 == 0:
            print(f"step {step}: {loss:.3f} nats", flush=True)


Files = list[tuple[Tensor, Tensor]]


def best_threshold(model: nn.Module | None, files: Files) -> float:
    """The threshold with the least balanced error on training files in noise."""
    answers = scored(model, files, SNR_DB, seed=1)
    every = torch.cat([scores for scores, _ in answers])[::101]
    grid = torch.quantile(every, torch.linspace(0.02, 0.9, 45)).tolist()
    return min(grid, key=lambda threshold: balanced_error(answers, threshold))


@torch.no_grad()
def scored(
    model: nn.Module | None, files: Files, snrs_db: tuple[float, ...], seed: int
) -> list[tuple[Tensor, Tensor]]:
    """The network's logits (or the energy) and the truth, for every file in noise."""
    generator = torch.Generator().manual_seed(seed)
    answers = []
    for speech, active in files:
        for snr_db in snrs_db:
            x = noisy(speech, snr_db, generator)
            scores = energy_db(x) if model is None else model(10 * x[None, None])[0, 0]
            answers.append((scores, active))
    return answers


def picture(
    model: nn.Module, file: tuple[Tensor, Tensor], thresholds: tuple[float, float], path: Path
) -> None:
    """A noisy file with the truth, the network's and the threshold's answers below it."""
    from matplotlib.figure import Figure

    speech, active = file
    x = noisy(speech, 5.0, torch.Generator().manual_seed(3))
    with torch.no_grad():
        said = without_short_runs(model(10 * x[None, None])[0, 0] > thresholds[0])
    by_energy = without_short_runs(energy_db(x) > thresholds[1])
    seconds = torch.arange(len(x)) / SAMPLE_RATE
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    wave, rows = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    wave.plot(seconds, x, color="#b9c7d6", linewidth=0.4, label="speech in noise, 5 dB")
    scale = float(0.1 * (speech.square().mean() * (1 + 10**-0.5)).rsqrt())
    wave.plot(seconds, speech * scale, color="#1f4e79", linewidth=0.4, label="the speech in it")
    wave.set(ylabel="amplitude", xlim=(0, float(seconds[-1])))
    wave.legend(frameon=False, fontsize=8, loc="upper right")
    answers = {"truth": active, "network": said, "energy": by_energy}
    for i, (name, answer) in enumerate(answers.items()):
        colour = "#c8553d" if name == "truth" else "#1f4e79"
        rows.fill_between(seconds, -i, answer * 0.75 - i, step="mid", color=colour, linewidth=0)
    rows.set(yticks=[0.35, -0.65, -1.65], xlabel="seconds")
    rows.set_yticklabels(answers)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Train, measure on files that were not trained on, and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("segment-out"))
    parser.add_argument("--steps", type=integer, default=400)
    parser.add_argument("--seed", type=integer, default=0)
    options = parser.parse_args()
    if options.steps < 1:
        parser.error(f"--steps {options.steps} must be at least 1")
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--out {options.out}: {error.strerror}; choose another folder")
    torch.manual_seed(options.seed)
    paths = sorted((REPOSITORY / "samples" / "prompts-en").glob("*.flac"))
    files = [labelled(path) for path in paths]
    test, training = files[::5][:TEST_FILES], [f for i, f in enumerate(files) if i % 5]
    model = network()
    print(wavenet.receptive_field(model, SAMPLE_RATE, input_shape=(1, 1, SAMPLE_RATE)))
    began = time.perf_counter()
    train(model, training, options.steps, options.seed)
    took_s = time.perf_counter() - began
    model.eval()
    some = training[::3]
    thresholds = best_threshold(model, some), best_threshold(None, some)
    results: dict[str, object] = {"steps": options.steps, "training_s": round(took_s, 1)}
    for snr_db in SNR_DB:
        errors = []
        for scorer, threshold in zip((model, None), thresholds, strict=True):
            errors.append(balanced_error(scored(scorer, test, (snr_db,), seed=2), threshold))
        results[f"{snr_db:g} dB"] = {"network": errors[0], "energy threshold": errors[1]}
        print(f"{snr_db:4g} dB: network {errors[0]:.1%} balanced error, energy {errors[1]:.1%}")
    (options.out / "results.json").write_text(json.dumps(results, indent=1))
    torch.save(model.state_dict(), options.out / "model.pt")
    picture(model, test[0], thresholds, options.out / "segment.png")


if __name__ == "__main__":
    main()
