"""An amplifier learnt from a recording of what goes in and what comes out, written as ``.nam``.

    python recipes/amp/amp.py --out amp-out
    python recipes/amp/amp.py --out amp-out --dry dry.wav --wet wet.wav --size standard
    python recipes/amp/amp.py --out amp-out --size packed   # a2-lite and a2 in one file

Without a pair of your own, it trains on a simulated amplifier (``pair.py``).
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path

import checks
import lightning
import pair
import torch
from torch import Tensor

import wavenet
from wavenet.audio import read_audio, write_audio
from wavenet.nam import PRESETS, NamWaveNet, preset, write_nam, write_nam_container

PRE_EMPHASIS = 0.85  # Wright and Valimaki 2020, section 3.1: what the ear hears counts more
WINDOW = 8192  # samples whose error counts, behind the model's past
BATCH = 8
TEST_PART = 0.2  # of the pair, at its end, for the test
VALIDATION_PART = 0.1  # of the rest, at its end, chooses among the weights of a run
VALIDATIONS = 20  # in a run
LEARNING_RATE = 4e-3
PACKED = ("a2-lite", "a2")  # the sizes that Neural Amp Modeler's trainer packs into one file


def esr(y: Tensor, target: Tensor) -> Tensor:
    """Error-to-signal ratio: the energy of the error over the target's (Wright et al. 2019, 4)."""
    return (y - target).square().sum() / (target.square().sum() + 1e-8)


def emphasised(x: Tensor) -> Tensor:
    """x[t] - 0.85 x[t - 1]: a first-order high-pass, ``[..., T]`` to ``[..., T - 1]``."""
    return x[..., 1:] - PRE_EMPHASIS * x[..., :-1]


def loss_of(y: Tensor, target: Tensor) -> Tensor:
    """ESR behind the pre-emphasis, and that of the offset (Wright and Valimaki 2020, 3.2)."""
    offset = (y - target).mean(-1).square().mean() / (target.square().mean() + 1e-8)
    return esr(emphasised(y), emphasised(target)) + offset


class Windows(torch.utils.data.Dataset[tuple[Tensor, Tensor]]):
    """Stretches of the pair; which ones is a function of seed and index alone."""

    def __init__(self, x: Tensor, y: Tensor, past: int, count: int, seed: int) -> None:
        self.past, self.x, self.y = past, torch.cat([torch.zeros(past), x]), y
        generator = torch.Generator().manual_seed(seed)
        self.starts = torch.randint(max(1, len(y) - WINDOW), (count,), generator=generator)

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Dry ``[1, past + W]`` and wet ``[1, W]``."""
        start = int(self.starts[index])
        x = self.x[start : start + self.past + WINDOW]
        return x[None], self.y[None, start : start + WINDOW]


class Training(lightning.LightningModule):
    """Adam on the sum of the networks' losses, with a learning rate that warms up and falls."""

    def __init__(
        self, models: dict[str, NamWaveNet], steps: int, validation: tuple[Tensor, Tensor]
    ) -> None:
        super().__init__()
        self.models, self.steps, self.validation = torch.nn.ModuleDict(models), steps, validation
        self.best: dict[str, tuple[float, dict[str, Tensor]]] = {}

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        """The losses over the outputs whose whole past is in the window."""
        x, target = batch
        losses = {name: self._loss(model, x, target) for name, model in self.models.items()}
        if self.global_step % 50 == 0:
            each = ", ".join(f"{name} {loss:.4f}" for name, loss in losses.items())
            print(f"step {self.global_step}: loss of {each}", flush=True)
        return torch.stack(list(losses.values())).sum()

    @staticmethod
    def _loss(model: torch.nn.Module, x: Tensor, target: Tensor) -> Tensor:
        assert isinstance(model, NamWaveNet)
        return loss_of(model(x, model.init_state(len(x)))[..., model.past :], target)

    def on_train_batch_end(self, *_: object) -> None:
        """Keep the weights of each network whose error on the validation part is smallest."""
        every = max(1, self.steps // VALIDATIONS)
        if self.global_step % every and self.global_step != self.steps:
            return
        x, target = self.validation
        for name, model in self.models.items():
            assert isinstance(model, NamWaveNet)
            error = float(esr(answer(model, x), target))
            if name not in self.best or error < self.best[name][0]:
                weights = {key: value.clone() for key, value in model.state_dict().items()}
                self.best[name] = error, weights

    def configure_optimizers(self) -> dict[str, object]:
        """One cycle over all steps."""
        optimiser = torch.optim.Adam(self.parameters(), lr=LEARNING_RATE)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, LEARNING_RATE, total_steps=self.steps, pct_start=0.1
        )
        return {
            "optimizer": optimiser,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


def train(models: dict[str, NamWaveNet], x: Tensor, y: Tensor, steps: int, seed: int) -> None:
    """Train networks of one past in place on the same windows; each ends with its best weights."""
    (past,) = {model.past for model in models.values()}
    split = round(len(x) * (1 - VALIDATION_PART))
    before = torch.cat([torch.zeros(past), x])
    training = Training(models, steps, (before[split:], y[split:]))
    windows = Windows(x[:split], y[:split], past, BATCH * steps, seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        trainer = lightning.Trainer(
            max_steps=steps,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            gradient_clip_val=1.0,
        )
        trainer.fit(training, torch.utils.data.DataLoader(windows, BATCH))
    for name, model in models.items():
        error, weights = training.best[name]
        model.load_state_dict(weights)
        print(f"{name}: smallest ESR on the validation part {error:.4f}")


def read_pair(options: argparse.Namespace) -> tuple[Tensor, Tensor, int]:
    """Dry and wet ``[T]`` of one length, and their rate in Hz."""
    if (options.dry is None) != (options.wet is None):
        raise SystemExit("--dry and --wet belong together: give both or none")
    if options.dry is None:
        x = pair.dry(options.seconds, options.seed)
        y, rate = pair.wet(x), pair.SAMPLE_RATE
        write_audio(options.out / "dry.wav", x, rate)
        write_audio(options.out / "wet.wav", y, rate)
        return x, y, rate
    x, rate = read_audio(options.dry)
    y, _ = read_audio(options.wet, rate)
    for line in checks.findings(x, y, rate):
        print(f"warning: {line}")
    delay = options.delay
    if delay is None:
        delay = max(0, checks.delay_of(x, y, rate) - checks.MARGIN)
        print(f"wet is taken to be {delay} samples late; --delay N says otherwise")
    y = y[delay:]
    n = min(len(x), len(y))
    return x[:n], y[:n], rate


def picture(target: Tensor, y: Tensor, rate: int, path: Path) -> None:
    """The loudest 20 ms of the test: amplifier, model and their error."""
    from matplotlib.figure import Figure

    n = rate // 50
    energy = target[: len(target) // n * n].view(-1, n).square().sum(1)
    start = int(energy.argmax()) * n
    part = slice(start, start + n)
    seconds = 1000 * torch.arange(n) / rate
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.plot(seconds, target[part], color="#1f4e79", linewidth=2.2, label="amplifier")
    axes.plot(seconds, y[part], color="#c8553d", linewidth=0.8, label="model")
    axes.plot(seconds, (y - target)[part], color="#8a8a8a", linewidth=0.6, label="error")
    axes.set(xlabel="milliseconds", ylabel="amplitude", xlim=(0, 20))
    axes.legend(frameon=False, fontsize=8, loc="upper right", ncols=3)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Train, measure on the part that was not trained on, export, and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("amp-out"))
    parser.add_argument("--dry", type=Path, help="what went in")
    parser.add_argument("--wet", type=Path, help="what came out, recorded at the same time")
    parser.add_argument(
        "--delay", type=int, help="samples that wet.wav is late (default: measured)"
    )
    parser.add_argument("--size", choices=[*PRESETS, "packed"], default="nano")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seconds", type=float, default=60.0, help="of the simulated pair")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options.seed)
    x, y, rate = read_pair(options)
    split = round(len(x) * (1 - TEST_PART))
    names = PACKED if options.size == "packed" else (options.size,)
    models = {name: NamWaveNet(preset(name, sample_rate=rate)) for name in names}
    for model in models.values():
        print(wavenet.receptive_field(model))
    began = time.perf_counter()
    train(models, x[:split], y[:split], options.steps, options.seed)
    training_s = round(time.perf_counter() - began, 1)
    target = y[split:]
    dry_esr = float(esr(_best_scaled(x[split:], target), target))
    results = []
    for name, model in models.items():
        said = answer(model.eval(), x[split - model.past :])
        result = {
            "size": name,
            "steps": options.steps,
            "training_s": training_s,
            "test_esr": float(esr(said, target)),
            "test_esr_emphasised": float(esr(emphasised(said), emphasised(target))),
            "esr_of_the_dry_signal_scaled": dry_esr,
        }
        results.append(result)
        folder = options.out / ("model" if len(models) == 1 else name)
        model.metadata |= {"name": name, "training": {"validation_esr": result["test_esr"]}}
        model.save(folder, provenance={"recipe": "amp", **result})
        print(json.dumps(result))
    made = results[0] if len(results) == 1 else results
    (options.out / "results.json").write_text(json.dumps(made, indent=1))
    metadata = {"name": "recipes/amp"}
    if len(models) == 1:
        write_nam(options.out / "model.nam", model, metadata)
    else:
        write_nam_container(options.out / "model.nam", models, metadata)
    picture(target, said, rate, options.out / "amp.png")


@torch.no_grad()
def answer(model: NamWaveNet, x: Tensor) -> Tensor:
    """Outputs of the network for x ``[past + T]``, ``[T]``."""
    y: Tensor = model(x[None, None])[0, 0, model.past :]
    return y


def _best_scaled(x: Tensor, target: Tensor) -> Tensor:
    """What no network is needed for: the input, at the loudness that fits best."""
    return x * (x @ target) / (x @ x)


if __name__ == "__main__":
    main()
