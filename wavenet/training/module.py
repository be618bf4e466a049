"""The loss, and Lightning's view of it."""

from __future__ import annotations

import math
from typing import Any

import lightning
import torch
from torch import Tensor

from wavenet.data import WindowPlan
from wavenet.model import WaveNet
from wavenet.training.config import TrainingConfig
from wavenet.training.errors import TrainingError


def window_log_prob(
    model: WaveNet, batch: dict[str, Tensor], plan: WindowPlan
) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the samples that a batch of windows predicts.

    The network hears quantised samples, as it does when it generates, and exact silence before the
    start of a file.

    Args:
        model: any ``WaveNet``.
        batch: as ``Windows`` makes it, collated.
        plan: the one the windows were made by.

    Returns:
        ``(log_prob, mask)``, both ``[B, length]``, in nats; the mask is 1 where x lies inside the
        recording.
    """
    x, heard = batch["x"], batch["heard"]
    cond = model.condition_frames(batch.get("mel"), batch.get("speaker"))
    if cond is not None and "mel" in batch:
        # As in generation, the first frame is held before the recording, the last one behind it.
        cond = cond.gather(-1, batch["frame"][:, None].expand_as(cond))
        margin = plan.context_frames * plan.hop
        cond = model.frame_lift(cond)[..., margin : margin + x.shape[-1] - 1]
    inputs = (model.distribution.quantize(x) * heard)[..., :-1]
    state = model.init_state(x.shape[0], device=x.device, dtype=x.dtype)
    params = model.stream(inputs, state, cond)[0][..., -plan.length :]
    log_prob = model.distribution.log_prob(params, x[:, 0, -plan.length :])
    return log_prob, heard[:, 0, -plan.length :]


def bits_per_sample(model: WaveNet, batch: dict[str, Tensor], plan: WindowPlan) -> Tensor:
    """Mean bits per 16-bit sample over what lies inside recordings: the loss."""
    log_prob, mask = window_log_prob(model, batch, plan)
    return -(log_prob * mask).sum() / mask.sum().clamp(min=1) / math.log(2)


class WaveNetTraining(lightning.LightningModule):
    """Minimises bits per sample with Adam; the learning rate rises and falls as a cosine.

    Args:
        model: trained in place.
        plan: of the windows.
        config: learning rate and steps.
    """

    def __init__(self, model: WaveNet, plan: WindowPlan, config: TrainingConfig) -> None:
        super().__init__()
        self.model, self.plan, self.config = model, plan, config
        self._nats, self._count = torch.zeros(2, dtype=torch.float64)
        # What the last block hands on is heard by nobody: it gets no gradient, and says so.
        model.stack.blocks[-1].residual_projection.requires_grad_(False)

    def training_step(self, batch: dict[str, Tensor], index: int) -> Tensor:
        """Bits per sample of one batch.

        Raises:
            TrainingError: if they are not finite.
        """
        loss = bits_per_sample(self.model, batch, self.plan)
        self._require_finite("loss", float(loss.detach()))
        self.log("train/bits", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: dict[str, Tensor], index: int) -> None:
        """Collect sums, so that the mean weighs every sample alike."""
        log_prob, mask = window_log_prob(self.model, batch, self.plan)
        self._nats = self._nats - (log_prob * mask).double().sum()
        self._count = self._count + mask.double().sum()

    def on_validation_epoch_start(self) -> None:
        """Start the sums."""
        self._nats = torch.zeros((), dtype=torch.float64, device=self.device)
        self._count = torch.zeros((), dtype=torch.float64, device=self.device)

    def on_validation_epoch_end(self) -> None:
        """Bits per sample over all validation windows.

        Raises:
            TrainingError: if they are not finite.
        """
        gathered = self.all_gather(torch.stack([self._nats, self._count]))
        assert isinstance(gathered, Tensor)  # as a tensor went in
        nats, count = gathered.view(-1, 2).sum(0)
        bits = (nats / count / math.log(2)).float()
        self._require_finite("validation loss", float(bits))
        self.log("valid/bits", bits, prog_bar=True)

    def _require_finite(self, name: str, value: float) -> None:
        """Raise TrainingError if training has run away."""
        if not math.isfinite(value):
            raise TrainingError(
                f"the {name} is {value} at step {self.global_step}; the last good model is kept. "
                f"Lower learning_rate={self.config.learning_rate} or "
                f"gradient_clip={self.config.gradient_clip}"
            )

    def configure_optimizers(self) -> Any:
        """Adam (Kingma and Ba 2015), linear warm-up, cosine decay to zero."""
        trained = [p for p in self.model.parameters() if p.requires_grad]
        optimizer = torch.optim.Adam(trained, lr=self.config.learning_rate)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def _rate(self, step: int) -> float:
        """Share of the learning rate at a step."""
        warmup, total = self.config.warmup_steps, self.config.max_steps
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, total - warmup))))
