"""The generator: a dilated stack that turns the samples so far into the distribution of the next.

    x [B, 1, T] -> input projection -> DilatedStack -> skip sum -> ReLU, 1x1, ReLU, 1x1 -> params

``params[..., t]`` are the parameters of the distribution of sample t + 1, given x up to t and the
conditioning (van den Oord et al. 2016, figure 4).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from wavenet.checkpoint import CheckpointError, load_weights, read_config, write_checkpoint
from wavenet.distributions import Distribution, make_distribution
from wavenet.features import MelConfig, mel_filterbank
from wavenet.model_config import WaveNetConfig
from wavenet.nn import (
    Causal,
    DilatedStack,
    FrameEncoder,
    FrameLift,
    GatedResidualBlock,
    SpeakerEmbedding,
    State,
)

ARCHITECTURE = "wavenet"
"""What ``config.json`` calls this model."""


class WaveNet(Causal):
    """A WaveNet as its configuration says; ``params = model(x, mel=..., speaker=...)``.

    Attributes:
        config: the frozen configuration.
        distribution: of one sample given params; see ``wavenet.distributions``.

    Args:
        config: see ``WaveNetConfig``.
    """

    mel_filterbank: Tensor

    def __init__(self, config: WaveNetConfig) -> None:
        super().__init__()
        self.config = config
        self.distribution: Distribution = make_distribution(
            config.distribution, config.distribution_size
        )
        self.in_channels = 1
        self.cond_channels = config.conditioning_channels
        self.input_projection = nn.Conv1d(1, config.residual_channels, 1)
        self.stack = DilatedStack(
            config.residual_channels,
            config.skip_channels,
            kernel_size=config.kernel_size,
            dilations=config.dilations,
            gate_channels=config.gate_channels,
            cond_channels=self.cond_channels,
        )
        self.head = nn.Sequential(
            nn.ReLU(),
            nn.Conv1d(config.skip_channels, config.skip_channels, 1),
            nn.ReLU(),
            nn.Conv1d(config.skip_channels, self.distribution.n_params, 1),
        )
        if self.cond_channels is not None and config.local is not None:
            self.frame_encoder = FrameEncoder(config.local.channels, self.cond_channels)
            self.frame_lift = FrameLift(
                config.local.hop_samples, centre_samples=config.local.centre_samples
            )
        if self.cond_channels is not None and config.speakers:
            self.speaker_embedding = SpeakerEmbedding(config.speakers, self.cond_channels)
        if config.mel is not None:
            self.register_buffer("mel_filterbank", mel_filterbank(config.mel))
        initialise(self)

    @property
    def sample_rate(self) -> int:
        """Of the audio, in Hz."""
        return self.config.sample_rate

    @property
    def past(self) -> int:
        """That of the stack."""
        return self.stack.past

    @property
    def context_frames(self) -> int:
        """Frames on each side that the conditioning of one frame's samples depends on."""
        return self.frame_encoder.context + 1 if self.config.local is not None else 0

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds per audio sample; work done once a frame does not count."""
        once_a_sample = [self.input_projection, *self.head]
        for block in self.stack.blocks:
            once_a_sample += [block.conv, block.residual_projection, block.skip_projection]
        weights = (getattr(module, "weight", None) for module in once_a_sample)
        return sum(weight.numel() for weight in weights if weight is not None)

    def layers(self) -> list[tuple[str, Causal]]:
        """The stack; everything else acts on each sample alone."""
        return [("stack", self.stack)]

    def init_state(
        self,
        batch_size: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> State:
        """``(state of the stack,)``."""
        return (self.stack.init_state(batch_size, device=device, dtype=dtype),)

    def settle(self, x: Tensor, cond: Tensor | None = None) -> State:
        """That of the stack."""
        return (self.stack.settle(self._hear(x), cond),)

    def stream(self, x: Tensor, state: State, cond: Tensor | None = None) -> tuple[Tensor, State]:
        """x ``[B, 1, T]`` in [-1, 1] to params ``[B, P, T]``; see ``Causal.stream``.

        Column t of ``cond`` (made by ``condition``) accompanies ``x[..., t]``.
        """
        self.check_call(x, cond)
        self._check_children(state, 1)
        (_, skip_sum), after = self.stack.stream(self._hear(x), state[0], cond)
        return self.head(skip_sum), (after,)

    def forward(
        self, x: Tensor, mel: Tensor | None = None, speaker: Tensor | None = None
    ) -> Tensor:
        """The parallel pass from silence, as a file begins and as generation begins.

        Args:
            x: ``[B, 1, T]`` in [-1, 1].
            mel: ``[B, M, F]``, the local features, F * hop_samples >= T.
            speaker: indices ``[B]``.

        Returns:
            params ``[B, P, T]``; ``params[..., t]`` predict ``x[..., t + 1]``.

        Raises:
            ValueError: if a conditioning is missing, unexpected or does not fit x.
        """
        cond = self.condition(mel, speaker, n_samples=x.shape[-1])
        first = None if cond is None else cond[..., :1]
        state = self.warm_state(x.shape[0], first, device=x.device, dtype=x.dtype)
        return self.stream(x, state, cond)[0]

    def condition(
        self,
        mel: Tensor | None = None,
        speaker: Tensor | None = None,
        *,
        n_samples: int | None = None,
    ) -> Tensor | None:
        """The conditioning as the blocks take it.

        It looks ahead by ``context_frames`` frames: the encoder sees frames on both sides, and
        samples between two centres hear both.

        Args:
            mel: ``[B, M, F]``.
            speaker: indices ``[B]``.
            n_samples: T; default, F * hop_samples.

        Returns:
            ``[B, cond_channels, T]``, a single column where it is constant in time, or None for an
            unconditional model.

        Raises:
            ValueError: if a conditioning is missing, unexpected or does not fit.
        """
        frames = self.condition_frames(mel, speaker)
        return frames if frames is None or mel is None else self.frame_lift(frames, n_samples)

    def condition_frames(
        self, mel: Tensor | None = None, speaker: Tensor | None = None
    ) -> Tensor | None:
        """The conditioning at frame rate, before the linear lift: ``[B, cond_channels, F]``.

        F is 1 for a model that knows only speakers. Raises as ``condition``.
        """
        self._check_conditioning(mel, speaker)
        frames = None if mel is None else self.frame_encoder(mel)
        if speaker is None:
            return frames
        embedded = self.speaker_embedding(speaker)
        return embedded if frames is None else frames + embedded

    def _check_conditioning(self, mel: Tensor | None, speaker: Tensor | None) -> None:
        local = self.config.local
        if (mel is None) != (local is None):
            expected = "no mel" if local is None else f"mel [B, {local.channels}, F]"
            found = "None" if mel is None else f"shape {tuple(mel.shape)}"
            raise ValueError(f"mel is {found}, but this model takes {expected}")
        if mel is not None and local is not None and (mel.ndim != 3 or mel.shape[-1] == 0):
            raise ValueError(
                f"mel has shape {tuple(mel.shape)}, expected [B, {local.channels}, F] with at "
                "least one frame"
            )
        if mel is not None and local is not None and mel.shape[1] != local.channels:
            raise ValueError(
                f"mel has {mel.shape[1]} channels, but this model was built for {local.channels}; "
                "make it with the model's own settings, log_mel(x, model.config.mel)"
            )
        if (speaker is None) != (self.config.speakers == 0):
            expected = (
                f"speaker indices [B] from 0 to {self.config.speakers - 1}"
                if self.config.speakers
                else "no speaker"
            )
            raise ValueError(f"speaker is {speaker}, but this model takes {expected}")
        if speaker is None:
            return
        if not isinstance(speaker, Tensor) or speaker.ndim != 1 or speaker.is_floating_point():
            raise ValueError(f"speaker is {speaker}, expected a tensor of indices [B]")
        if mel is not None and len({len(mel), len(speaker), 1}) > 2:
            raise ValueError(
                f"speaker has {len(speaker)} rows and mel {len(mel)}; give one for each row"
            )

    def _hear(self, x: Tensor) -> Tensor:
        """x ``[B, 1, T]`` as the first layer's input ``[B, R, T]``."""
        heard = self.distribution.network_input(x).to(self.input_projection.weight.dtype)
        return self.input_projection(heard)

    def save(self, folder: str | Path, *, provenance: dict[str, Any] | None = None) -> None:
        """Write ``config.json`` and ``model.safetensors``; see ``wavenet.checkpoint``.

        Args:
            folder: made if it is missing.
            provenance: where the weights come from: corpus, steps, command, loss ... (JSON values).
        """
        write_checkpoint(
            folder,
            architecture=ARCHITECTURE,
            config=self.config.to_dict(),
            tensors=self.state_dict(),
            provenance=provenance,
        )


def load(
    folder: str | Path,
    *,
    device: torch.device | str = "cpu",
    sample_rate: int | None = None,
    mel: MelConfig | None = None,
) -> WaveNet:
    """Read a model from a checkpoint, in evaluation mode.

    Args:
        folder: as ``WaveNet.save`` wrote it.
        device: where the model goes.
        sample_rate: of the audio it shall work on, in Hz; a model for another rate is refused.
        mel: the settings of the mels it shall get; a model for others is refused.

    Raises:
        CheckpointError: if there is no checkpoint, it is damaged, was written in a format this
            package does not know, or does not fit ``sample_rate`` or ``mel``.
    """
    content = read_config(folder)
    if content.get("architecture") != ARCHITECTURE:
        raise CheckpointError(
            f"{folder} has architecture {content.get('architecture')!r}, expected "
            f"{ARCHITECTURE!r}; only that one generates"
        )
    missing = [key for key in WaveNetConfig().to_dict() if key not in content["config"]]
    if missing:
        raise CheckpointError(
            f"{folder}: config.json does not say {', '.join(missing)}; save the model anew"
        )
    try:
        config = WaveNetConfig.from_dict(content["config"])
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{folder}: {error}") from None
    if sample_rate is not None and sample_rate != config.sample_rate:
        raise CheckpointError(
            f"{folder} works at {config.sample_rate} Hz, but {sample_rate} Hz was asked for; "
            "resample the audio or choose another model"
        )
    if mel is not None and mel != config.mel:
        raise CheckpointError(f"{folder}: {_mel_difference(config.mel, mel)}")
    model = WaveNet(config)
    load_weights(model, folder)
    return model.to(device).eval()


def _mel_difference(own: MelConfig | None, other: MelConfig) -> str:
    """Which settings differ, with both values."""
    if own is None:
        return "the model takes no mel, but one was given; choose a mel-conditioned model"
    pairs = ((name, value, getattr(other, name)) for name, value in vars(own).items())
    different = [f"{name}={a} in the model, {b} here" for name, a, b in pairs if a != b]
    return f"mel settings differ: {', '.join(different)}; make the mel with the model's"


def initialise(model: WaveNet) -> None:
    """Draw all parameters of a model, in one place.

    ======================  ==========================================================
    parameter               drawn from
    ======================  ==========================================================
    dilated convolutions    normal, std 1 / sqrt(fan_in): the gate's input has unit scale
    conditioning            normal, std 1 / sqrt(fan_in)
    residual projections    normal, std 1 / sqrt(fan_in * layers): the sum of all layers' terms
                            stays within the scale of one (Radford et al. 2019, section 2.3)
    skip projections        the same, for the skip sum
    head, first             normal, std sqrt(2 / fan_in) (He et al. 2015, equation 10)
    head, last              normal, a tenth of that: training starts near the distribution's
                            ``initial_params``, which are its bias
    speaker embedding       normal, std 0.1
    biases                  zero
    ======================  ==========================================================
    """
    n_layers = len(model.config.dilations)

    def draw(module: nn.Module, gain: float) -> None:
        weight = module.weight
        assert isinstance(weight, Tensor)
        nn.init.normal_(weight, std=gain / math.sqrt(weight[0].numel()))
        if isinstance(module.bias, Tensor):
            nn.init.zeros_(module.bias)

    draw(model.input_projection, 1.0)
    for block in cast(list[GatedResidualBlock], list(model.stack.blocks)):
        draw(block.conv, 1.0)
        draw(block.residual_projection, 1 / math.sqrt(n_layers))
        draw(block.skip_projection, 1 / math.sqrt(n_layers))
        if block.cond_channels is not None:
            draw(block.cond_projection, 1.0)
    first, last = cast(list[nn.Conv1d], [model.head[1], model.head[3]])
    draw(first, math.sqrt(2))
    draw(last, 0.1 * math.sqrt(2))
    assert last.bias is not None
    with torch.no_grad():
        last.bias.copy_(model.distribution.initial_params())
    if hasattr(model, "frame_encoder"):
        draw(model.frame_encoder.conv, 1.0)
        draw(model.frame_encoder.projection, 1.0)
    if hasattr(model, "speaker_embedding"):
        nn.init.normal_(model.speaker_embedding.table.weight, std=0.1)
