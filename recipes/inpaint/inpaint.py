"""Filling gaps of 20 ms: a dilated stack over both sides, against linear interpolation.

    python recipes/inpaint/inpaint.py --out inpaint-out

The network reads the samples before the gap with one causal stack, and those behind it with another
on the reversed signal. It is told where the gap is, and starts from the interpolated line.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from torch import Tensor, nn

import wavenet
from wavenet import CausalConv1d, Chain, DilatedStack, Select
from wavenet.audio import read_audio
from wavenet.cli.options import integer

REPOSITORY = Path(__file__).parents[2]
SAMPLE_RATE = 8000
GAP = 160  # samples, 20 ms
EVERY = 640  # samples from gap to gap in training, 80 ms
WINDOW = 4800  # samples of a training window
GAPS_PER_FILE = 20  # in the test
LOUDER_THAN = 0.01  # RMS around a gap in the test: filling silence is no feat


class BothSides(nn.Module):
    """One causal stack reads the past, another one the reversed signal: the future.

    Signal, mask and interpolated line ``[B, 3, T]`` to the filled signal ``[B, 1, T]``.
    """

    def __init__(self, channels: int, dilations: list[int]) -> None:
        super().__init__()
        self.past, self.future = (
            Chain(
                CausalConv1d(3, channels, 3),
                DilatedStack(channels, channels, kernel_size=3, dilations=dilations),
                Select(1),  # the skip sum
            )
            for _ in range(2)
        )
        self.head = nn.Sequential(
            nn.LeakyReLU(0.2),
            nn.Conv1d(2 * channels, channels, 1),
            nn.LeakyReLU(0.2),
            nn.Conv1d(channels, 1, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """What the gaps are filled with."""
        past, future = self.past(x), self.future(x.flip(-1)).flip(-1)
        return self.head(torch.cat([past, future], 1))


def network() -> BothSides:
    """What this recipe trains: `wavenet receptive-field` takes it as well."""
    return BothSides(16, [1, 2, 4, 8, 16, 32, 64, 128])


def interpolated(x: Tensor, mask: Tensor) -> Tensor:
    """``[B, T]`` with a straight line over every gap, from the sample before to the one behind."""
    n = x.shape[-1]
    at = torch.arange(n).expand(x.shape)
    before = torch.where(mask, -1, at).cummax(-1).values.clamp(min=0)
    behind = torch.where(mask, n, at).flip(-1).cummin(-1).values.flip(-1).clamp(max=n - 1)
    a, b = x.gather(-1, before), x.gather(-1, behind)
    return a + (b - a) * (at - before) / (behind - before).clamp(min=1)


def heard(x: Tensor, mask: Tensor) -> Tensor:
    """Input of the network, ``[B, 3, T]``: the line over the gaps, the mask, the rest alone."""
    line = interpolated(x, mask)
    return torch.stack([line, mask.float(), torch.where(mask, 0.0, x)], 1)


def train(model: nn.Module, files: list[Tensor], steps: int, seed: int) -> None:
    """Adam on the squared error within the gaps, each over the loudness of its window."""
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps)
    recent = []
    for step in range(steps):
        rows = []
        while len(rows) < 8:
            speech = files[int(torch.randint(len(files), (), generator=generator))]
            start = int(torch.randint(len(speech) - WINDOW, (), generator=generator))
            row = speech[start : start + WINDOW]
            if float(row.square().mean().sqrt()) > LOUDER_THAN:
                rows.append(row / row.square().mean().sqrt())
        x = torch.stack(rows)
        offset = int(torch.randint(EVERY - GAP, (), generator=generator))
        mask = ((torch.arange(WINDOW) - offset) % EVERY < GAP).expand(x.shape)
        given = heard(x, mask)
        filled = given[:, 0] + model(given)[:, 0]
        loss = (filled - x)[mask].square().mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        recent.append(float(loss.detach()))
        if step % 100 == 99:
            print(
                f"step {step + 1}: error {sum(recent) / len(recent):.3f} of the power", flush=True
            )
            recent = []


@torch.no_grad()
def filled(model: nn.Module, speech: Tensor, mask: Tensor) -> Tensor:
    """``[T]`` with its gaps filled; all else stays as it was."""
    scale = speech[~mask].square().mean().sqrt()
    given = heard(speech[None] / scale, mask[None])
    guess = (given[:, 0] + model(given)[:, 0])[0] * scale
    return torch.where(mask, guess, speech)


def gaps(speech: Tensor, generator: torch.Generator) -> list[int]:
    """Where gaps begin: random places in sound, a second of context kept whole around each."""
    found: list[int] = []
    for _ in range(1000):
        start = int(torch.randint(2000, len(speech) - 2000, (), generator=generator))
        around = speech[start - GAP : start + 2 * GAP]
        if float(around.square().mean().sqrt()) > LOUDER_THAN:
            found.append(start)
        if len(found) == GAPS_PER_FILE:
            break
    return found


def snr_db(truth: Tensor, guess: Tensor) -> float:
    """Power of the truth over power of the error, in dB."""
    return float(10 * torch.log10(truth.square().sum() / (truth - guess).square().sum()))


def measure(model: nn.Module, files: list[Tensor], seed: int) -> dict[str, float]:
    """Mean SNR per gap, of the network, of the line and of silence, and how often we win."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for speech in files:
        for start in gaps(speech, generator):
            piece = speech[start - 2000 : start + 2000]
            mask = torch.zeros(len(piece), dtype=torch.bool)
            mask[2000 : 2000 + GAP] = True
            truth = piece[mask]
            line = interpolated(piece[None], mask[None])[0][mask]
            rows.append((snr_db(truth, filled(model, piece, mask)[mask]), snr_db(truth, line)))
    ours, lines = (torch.tensor(column) for column in zip(*rows, strict=True))
    return {
        "gaps": len(rows),
        "network_snr_db": float(ours.mean()),
        "linear_snr_db": float(lines.mean()),
        "better_than_linear": float((ours > lines).float().mean()),
    }


def picture(model: nn.Module, speech: Tensor, path: Path) -> None:
    """Four gaps: what was there, the line, and what the network fills in."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.4), layout="constrained")
    axes = figure.subplots(2, 2).ravel()
    starts = gaps(speech, torch.Generator().manual_seed(5))[:4]
    for axis, start in zip(axes, starts, strict=True):
        piece = speech[start - 2000 : start + 2000]
        mask = torch.zeros(len(piece), dtype=torch.bool)
        mask[2000 : 2000 + GAP] = True
        show = slice(2000 - GAP, 2000 + 2 * GAP)
        ms = (torch.arange(len(piece)) - 2000)[show] * 1000 / SAMPLE_RATE
        axis.axvspan(0, GAP * 1000 / SAMPLE_RATE, color="#eef1f5")
        axis.plot(ms, piece[show], color="#9aa9b8", linewidth=1.2, label="what was there")
        line = interpolated(piece[None], mask[None])[0]
        inside = slice(2000 - 1, 2000 + GAP + 1)
        ms = (torch.arange(len(piece)) - 2000)[inside] * 1000 / SAMPLE_RATE
        axis.plot(ms, line[inside], color="#c8553d", linewidth=1, label="linear interpolation")
        guess = filled(model, piece, mask)
        axis.plot(ms, guess[inside], color="#1f4e79", linewidth=1.2, label="network")
        axis.set(yticks=[])
    for axis in axes[2:]:
        axis.set_xlabel("ms since the gap began")
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False
    )
    figure.savefig(path, dpi=120)


def main() -> None:
    """Train, measure on files that were not trained on, and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("inpaint-out"))
    parser.add_argument("--steps", type=integer, default=500)
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
    files = [read_audio(path, SAMPLE_RATE)[0] for path in paths]
    test, training = files[::5], [f for i, f in enumerate(files) if i % 5]
    model = network()
    print(wavenet.receptive_field(model, SAMPLE_RATE, input_shape=(1, 3, WINDOW)))
    began = time.perf_counter()
    train(model, training, options.steps, options.seed)
    results = measure(model.eval(), test, seed=2)
    results |= {"steps": options.steps, "training_s": round(time.perf_counter() - began, 1)}
    print(
        f"{results['gaps']} gaps of 20 ms: network {results['network_snr_db']:.2f} dB, linear "
        f"{results['linear_snr_db']:.2f} dB, better in {results['better_than_linear']:.0%}"
    )
    (options.out / "results.json").write_text(json.dumps(results, indent=1))
    torch.save(model.state_dict(), options.out / "model.pt")
    picture(model, test[0], options.out / "inpaint.png")


if __name__ == "__main__":
    main()
