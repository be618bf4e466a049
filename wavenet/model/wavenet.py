"""The generator: a dilated stack that turns the samples so far into the distribution of the next.

    x [B, 1, T] -> input projection -> DilatedStack -> skip sum -> ReLU, 1x1, ReLU, 1x1 -> params

``params[..., t]`` are the parameters of the distribution of sample t + 1, given x up to t and the
conditioning (van den Oord et al. 2016, figure 4).

With ``linear_prediction`` each mel frame also gives a predictor. The network's input is then the
predictor's excitation, and its distribution is that of the next excitation, moved and scaled to
where the next sample is (``nn.prediction``):

    x -> LinearPrediction -> inputs -> input projection -> ... -> head -> moved by p[t], scaled by g

With ``samples_per_step`` 2 the input projection takes two samples, t - 1 and t, and the head takes
the stack's output where t is odd; where t is even, that at t - 1 and a projection of sample t
(``nn.steps``). Every dilation is even, so that nothing needs the stack where t is even: ``stream``
computes it all the same, the engines and the training window do not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from wavenet.distributions import Distribution, MuLaw, make_distribution
from wavenet.features import mel_filterbank
from wavenet.features.linear_prediction import MelPredictor
from wavenet.model.conditioner import encode_conditions, make_conditions, named_conditions
from wavenet.model.config import WaveNetConfig
from wavenet.model.hidden import Hidden, ModelState
from wavenet.model.initialisation import initialise
from wavenet.model.sharing import Shared
from wavenet.nn import (
    Causal,
    DilatedStack,
    FrameEncoder,
    FrameLift,
    SpeakerEmbedding,
    State,
    TransposedUpsamplingEncoder,
    UpsamplingEncoder,
)
from wavenet.nn.causal import require_causal, stream_child
from wavenet.nn.exact import difference
from wavenet.nn.hooks import has_hooks
from wavenet.nn.steps import SAMPLES_PER_STEP, Pairs, StepOutputs
from wavenet.values.autocast import without_autocast
from wavenet.values.computed_buffers import ComputedBuffers
from wavenet.values.text import short


class WaveNet(ComputedBuffers, Shared, Causal):
    """A WaveNet built from its configuration; ``params = model(x, mel=..., speaker=...)``.

    >>> model = WaveNet(WaveNetConfig(stacks=1, mel=wavenet.MelConfig(), distribution="gaussian"))
    >>> speech = torch.zeros(1, 1, 400)
    >>> params = model(speech, mel=wavenet.log_mel(speech[:, 0], wavenet.MelConfig()))
    >>> tuple(params.shape), model.past
    ((1, 2, 400), 1023)

    A model without memory, for weights that are made elsewhere or loaded:

    >>> with torch.device("meta"):
    ...     empty = WaveNet(model.config)
    >>> loaded = empty.to_empty(device="cpu").load_state_dict(model.state_dict())

    Attributes:
        config: the frozen configuration.
        distribution: of one sample given params; see ``wavenet.distributions``.
        licences: texts of licence and attribution of the weights by file name; ``load`` fills it,
            ``save`` and ``push`` put them beside the weights.
        conditions: what it can be conditioned on, by name; see ``wavenet.model.conditioner``.

    Args:
        config: see ``WaveNetConfig``.
    """

    mel_filterbank: Tensor
    frame_encoder: FrameEncoder | UpsamplingEncoder | TransposedUpsamplingEncoder
    frame_lift: FrameLift
    no_features: nn.Parameter
    speaker_embedding: SpeakerEmbedding

    def __init__(self, config: WaveNetConfig) -> None:
        super().__init__()
        if not isinstance(config, WaveNetConfig):
            raise TypeError(
                f"config={short(config)} is no WaveNetConfig; make one, such as "
                "WaveNetConfig.preset('tiny')"
            )
        self.config = config
        self.licences: Mapping[str, str] = {}
        self.distribution: Distribution = make_distribution(
            config.distribution, config.distribution_size
        )
        self.in_channels = 1
        width = config.conditioning_channels
        self.predictor = config.predictor()
        inputs = 1 if self.predictor is None else self.predictor.inputs
        if config.one_hot_input:
            inputs = self.distribution.n_params
        self.samples_per_step = config.samples_per_step
        entries = inputs * self.samples_per_step
        self.input_projection = nn.Conv1d(entries, config.residual_channels, 1)
        if self.samples_per_step == SAMPLES_PER_STEP:
            self.pairs = Pairs(inputs)
            self.step_outputs = StepOutputs(config.skip_channels)
            self.second_projection = nn.Conv1d(inputs, config.skip_channels, 1)
        self.stack = DilatedStack(
            config.residual_channels,
            config.skip_channels,
            kernel_size=config.kernel_size,
            dilations=config.dilations,
            gate_channels=config.gate_channels,
            cond_channels=width,
        )
        self.head = nn.Sequential(
            nn.ReLU(),
            nn.Conv1d(config.skip_channels, config.skip_channels, 1),
            nn.ReLU(),
            nn.Conv1d(config.skip_channels, self.distribution.n_params, 1),
        )
        self.conditions = make_conditions(config)
        for condition in self.conditions.values():
            if width is not None and condition.used:
                for name, part in condition.parts(width).items():
                    setattr(self, name, part)
        self.register_computed(persistent=True)
        self.cond_channels = width
        if width is not None and self.predictor is not None and config.mel is not None:
            self.mel_predictor = MelPredictor(config.mel, self.predictor.order)
            self.cond_channels = width + self.predictor.columns
        initialise(self)

    def compute_buffers(self) -> dict[str, Tensor]:
        """``mel_filterbank [M, n_fft / 2 + 1]``, if the model takes a mel."""
        mel = self.config.mel
        return {} if mel is None else {"mel_filterbank": mel_filterbank(mel)}

    def reset_parameters(self) -> None:
        """Draw all parameters anew, and compute all buffers."""
        for part in self.modules():
            if part is not self and isinstance(part, ComputedBuffers):
                part.reset_parameters()
        super().reset_parameters()
        initialise(self)

    @property
    def sample_rate(self) -> int:
        """Sample rate of the audio, in Hz."""
        return self.config.sample_rate

    @property
    def past(self) -> int:
        """Reach of the stack, and of the predictor before it, in samples."""
        return sum(layer.past for _, layer in self.layers())

    @property
    def context_frames(self) -> int:
        """Frames on each side that the conditioning of one frame's samples depends on."""
        if self.config.local is None:
            return 0
        lifted = isinstance(self.frame_encoder, FrameEncoder)  # or it comes to samples by itself
        return self.frame_encoder.context + int(lifted)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds per audio sample; work done once a frame does not count."""
        once_a_step: list[object] = []
        for block in self.stack.blocks:
            once_a_step += [block.conv, block.residual_projection, block.skip_projection]
        entry = self.config.residual_channels  # one column, whatever the input
        return entry + _weights(self.head) + _weights(once_a_step) // self.samples_per_step

    def layers(self) -> list[tuple[str, Causal]]:
        """The predictor, the stack and the memories of its steps; all else acts on one sample."""
        named = [(name, getattr(self, name, None)) for name in ModelState._fields]
        return [
            (name, require_causal(layer, f"WaveNet: {name}"))
            for name, layer in named
            if layer is not None
        ]

    def split_state(self, state: State) -> ModelState:
        """Return a state's parts by the names of ``layers``."""
        return ModelState(**dict(zip((name for name, _ in self.layers()), state, strict=True)))

    def join_state(self, parts: ModelState) -> State:
        """Return the state whose parts these are."""
        return tuple(getattr(parts, name) for name, _ in self.layers())

    def settle(self, x: Tensor, cond: Tensor | None = None) -> State:
        """Return the states of the layers after periodic input x; ``Causal.settle``."""
        return self._settled(x, cond)[1]

    def after_silence(self, cond: Tensor | None = None) -> tuple[Tensor, State]:
        """Params of the first sample ``[B, P, 1]``, and the state from which it is drawn.

        What ``stream`` returns for a step of silence from ``warm_state``, its last column, in one
        pass instead of two where model and stack are exactly the classes of this package.

        Args:
            cond: the conditioning, held during the silence, ``[B, cond_channels, 1]``; None for a
                model without any, and then B is 1.
        """
        x = torch.zeros(1 if cond is None else cond.shape[0], 1, 1, **self._factory(None, None))
        if difference(self, WaveNet, "model") is not None or not self._has_known_stack:
            silence = x.expand(-1, -1, self.samples_per_step)
            params, state = self.stream(silence, self.warm_state(x.shape[0], cond), cond)
            return params[..., -1:], state
        self.check_call(x, cond)
        hidden, state = self._settled(x, cond)
        return self.params_of(hidden), state

    def _settled(self, x: Tensor, cond: Tensor | None) -> tuple[Hidden, State]:
        """``hidden`` of periodic input x after endless repetitions of it, a step just complete."""
        columns, predictor, pairs, outputs = self._of_predictor(cond), (), (), ()
        if self.predictor is not None:
            predictor = self.predictor.settle(x, columns)
        inputs, place, predictor = self.encode_input(x, predictor, columns)
        if self.samples_per_step == SAMPLES_PER_STEP:
            pairs = self.pairs.settle(inputs)
        entry, pairs = self.project_input(inputs, pairs)
        of_stack = self._of_stack(cond)
        if self._has_known_stack:  # in one pass
            (_, skip_sum), stack = self.stack.settled(entry, of_stack)
        else:
            stack = self.stack.settle(entry, of_stack)
            (_, skip_sum), stack = stream_child(self.stack, entry, stack, of_stack)
        if self.samples_per_step == SAMPLES_PER_STEP:
            outputs = self.step_outputs.settle(skip_sum)
        state = self.join_state(ModelState(predictor, pairs, stack, outputs))
        return Hidden(skip_sum, *place), state

    @property
    def _has_known_stack(self) -> bool:
        """Whether the stack is exactly a ``DilatedStack``."""
        return difference(self.stack, DilatedStack, "stack") is None

    def stream(self, x: Tensor, state: State, cond: Tensor | None = None) -> tuple[Tensor, State]:
        """x ``[B, 1, T]`` in [-1, 1] to params ``[B, P, T]``; see ``Causal.stream``.

        Column t of ``cond`` (made by ``condition``) accompanies ``x[..., t]``.
        """
        hidden, after = self.hidden(x, state, cond)
        return self.params_of(hidden), after

    def hidden(self, x: Tensor, state: State, cond: Tensor | None = None) -> tuple[Hidden, State]:
        """Compute ``stream`` up to the input of ``params_of``."""
        self.check_call(x, cond)
        self._check_children(state, len(self.layers()))
        before = self.split_state(state)
        columns = self._of_predictor(cond)
        inputs, place, predictor = self.encode_input(x, before.predictor, columns)
        entry, pairs = self.project_input(inputs, before.pairs)
        (_, skip_sum), stack = stream_child(self.stack, entry, before.stack, self._of_stack(cond))
        outputs: State = ()
        if self.samples_per_step == SAMPLES_PER_STEP:
            between = ~self.step_outputs.completes(before.step_outputs, x.shape[-1])
            skip_sum, outputs = stream_child(self.step_outputs, skip_sum, before.step_outputs)
            second = self.second_projection(inputs.to(self.second_projection.weight.dtype))
            skip_sum = torch.where(between, skip_sum + second, skip_sum)
        return Hidden(skip_sum, *place), self.join_state(
            ModelState(predictor, pairs, stack, outputs)
        )

    def params_of(self, hidden: Hidden) -> Tensor:
        """The head: to params ``[B, P, T]``, each column by itself.

        In float32 also under autocast: what the loss is made of deserves all its digits.
        """
        with without_autocast(hidden.skip_sum.device):
            params: Tensor = self.head(hidden.skip_sum.to(self.input_projection.weight.dtype))
            if hidden.location is not None and hidden.log_scale is not None:
                params = self.distribution.relocate(params, hidden.location, hidden.log_scale)
        return params

    def forward(  # type: ignore[override]  # a model, which makes its conditioning itself
        self,
        x: Tensor,
        mel: Tensor | None = None,
        speaker: Tensor | None = None,
        *,
        conditions: Mapping[str, Tensor] | None = None,
        cond: Tensor | None = None,
        state: State | None = None,
    ) -> Any:
        """The parallel pass from silence, as a file begins and as generation begins.

        With a state it is ``stream(x, state, cond)``, which a block around the model calls.

        Args:
            x: ``[B, 1, T]`` in [-1, 1].
            mel: ``[B, M, F]``, the local features, F * hop_samples >= T.
            speaker: indices ``[B]``.
            conditions: the others by name, or these two as well.
            cond: ``[B, cond_channels, T]``, in the place of all these where a state is given.
            state: see ``Causal.stream``.

        Returns:
            params ``[B, P, T]``; ``params[..., t]`` predict ``x[..., t + 1]``. With a state,
            ``(params, state')``.

        Raises:
            ValueError: if a conditioning is missing, unexpected or does not fit x.
        """
        if state is not None:
            return self._defined_stream(x, state, cond)
        if cond is not None:
            raise ValueError(
                "cond is given without a state; pass mel and speaker, or call model.stream"
            )
        self._check_rows(x)
        given = named_conditions(mel, speaker, conditions)
        cond = self.condition(conditions=given, n_samples=x.shape[-1])
        if cond is not None and not given:
            cond = cond.expand(x.shape[0], -1, -1)  # the null embedding is one row
        first = None if cond is None else cond[..., :1]
        state = self.warm_state(x.shape[0], first, device=x.device, dtype=x.dtype)
        return self._defined_stream(x, state, cond)[0]

    def condition(
        self,
        mel: Tensor | None = None,
        speaker: Tensor | None = None,
        *,
        conditions: Mapping[str, Tensor] | None = None,
        n_samples: int | None = None,
    ) -> Tensor | None:
        """The conditioning as the blocks take it.

        It looks ahead by ``context_frames`` frames: the encoder sees frames on both sides, and
        samples between two centres depend on both.

        Args:
            mel: ``[B, M, F]``; or None, for a model that is ``unconditional`` too.
            speaker: indices ``[B]``; or None, likewise.
            conditions: the others by name, or these two as well.
            n_samples: T; default, F * hop_samples.

        Returns:
            ``[B, cond_channels, T]``, a single column where it is constant in time, or None for an
            unconditional model.

        Raises:
            ValueError: if a conditioning is missing, unexpected or does not fit.
        """
        given = named_conditions(mel, speaker, conditions)
        frames = self.condition_frames(conditions=given)
        if frames is None or "mel" not in given:
            return frames
        return self.frame_lift(frames, n_samples)

    def condition_frames(
        self,
        mel: Tensor | None = None,
        speaker: Tensor | None = None,
        *,
        conditions: Mapping[str, Tensor] | None = None,
        kept: Mapping[str, Tensor] | None = None,
    ) -> Tensor | None:
        """The conditioning at frame rate, before the linear lift: ``[B, cond_channels, F]``.

        F is 1 where there is no mel. Features with an ``upsampling`` of their own come at the rate
        of the audio, and the lift is none. Rows of an ``unconditional`` model whose ``kept[name]``
        (``[B]``, bool) is false are as if that condition had not been given. Raises as
        ``condition``.
        """
        return encode_conditions(self, named_conditions(mel, speaker, conditions), kept or {})

    def example_conditions(self, rows: int = 1, n_frames: int = 1) -> dict[str, Tensor]:
        """Return valid values of all conditions that the model takes, of so many rows."""
        used = {name: one for name, one in self.conditions.items() if one.used}
        return {name: one.example(rows, n_frames) for name, one in used.items()}

    def encode_input(
        self, x: Tensor, state: State, columns: Tensor | None
    ) -> tuple[Tensor, tuple[Tensor, ...], State]:
        """Encode x ``[B, 1, T]`` for the input projection, ``[B, inputs, T]``.

        With a predictor, whose state and conditioning these are, also where the next samples are,
        ``(location, log_scale)``, and its state afterwards; both are empty without one.
        """
        if self.predictor is None:
            return self.entry_values(x), (), ()
        outputs, after = stream_child(self.predictor, x, state, columns)
        inputs, location, log_scale = outputs
        return inputs, (location, log_scale), after

    def project_input(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        """Project encoded samples ``[B, inputs, T]`` to the stack's input ``[B, R, T]``.

        The state is that of ``pairs``, and empty without them.
        """
        entry, after = self.input_projection, state
        if self.samples_per_step == SAMPLES_PER_STEP:
            inputs, after = stream_child(self.pairs, inputs, state)
        if not self.config.one_hot_input:
            return entry(inputs.to(entry.weight.dtype)), after
        classes = inputs[:, 0].long()
        if has_hooks(entry):
            vectors = nn.functional.one_hot(classes, entry.in_channels)
            return entry(vectors.transpose(1, 2).to(entry.weight.dtype)), after
        assert entry.bias is not None
        columns = nn.functional.embedding(classes, entry.weight[..., 0].T)
        return columns.transpose(1, 2) + entry.bias[:, None], after

    def _of_stack(self, cond: Tensor | None) -> Tensor | None:
        """The channels of the conditioning that the stack takes."""
        return cond if cond is None else cond[:, : self.stack.cond_channels]

    def _of_predictor(self, cond: Tensor | None) -> Tensor | None:
        """The channels of the conditioning that the predictor takes."""
        if cond is None or self.predictor is None:
            return None
        return cond[:, self.stack.cond_channels :]

    def entry_values(self, x: Tensor) -> Tensor:
        """Encode samples x for the input projection, with the same shape and type.

        Numbers that it multiplies by, or with ``one_hot_input`` the classes whose columns it takes.
        """
        if not self.config.one_hot_input:
            return self.distribution.network_input(x)
        assert isinstance(self.distribution, MuLaw)
        return self.distribution.classify(x).to(x.dtype)


def _weights(modules: Iterable[object]) -> int:
    """Values of the weights, without biases."""
    weights = (getattr(module, "weight", None) for module in modules)
    return sum(weight.numel() for weight in weights if weight is not None)
