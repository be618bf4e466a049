"""The architectures ``Linear``, ``ConvNet``, ``LSTM`` and ``Sequential`` as causal blocks.

Names, equations and the order of the weights are those of Neural Amp Modeler's own package
(``nam.models``, 0.13) and of its player (NeuralAmpModelerCore).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn

from wavenet.nam.activations import activation_json, make_activation
from wavenet.nam.model import NamModel
from wavenet.nam.simple_config import (
    ConvNetConfig,
    LinearConfig,
    LstmConfig,
    SequentialConfig,
)
from wavenet.nn import LSTM, BatchNorm, Causal, CausalConv1d, Chain, State
from wavenet.nn.graph import Buffer, Graph


class NamLinear(NamModel):
    """An impulse response: ``y[t] = b + sum_i w[i] x[t - i]``.

    ``w[0]`` acts on the newest sample, as in the player. (The trainer's package exports a
    ``Conv1d`` without reversing it, and its own import does not reverse it either: what it trained
    is played reversed.)

    >>> model = NamLinear(LinearConfig(receptive_field=3))
    >>> tuple(model(torch.randn(2, 1, 48)).shape)
    (2, 1, 48)
    """

    architecture = "Linear"
    config: LinearConfig
    body: CausalConv1d

    def __init__(self, config: LinearConfig, metadata: dict[str, Any] | None = None) -> None:
        super().__init__(config, metadata)
        self.body = CausalConv1d(1, 1, config.receptive_field, bias=config.bias)

    @property
    def multiply_adds(self) -> int:
        """The length of the response."""
        return self.config.receptive_field

    def file_config(self) -> dict[str, Any]:
        """Return ``config`` of the file."""
        return {"receptive_field": self.config.receptive_field, "bias": self.config.bias}

    def flat(self) -> Tensor:
        """Return the response, newest sample first, and the bias."""
        bias = [] if self.body.bias is None else [self.body.bias]
        return _joined(self.body.weight.flip(-1), *bias)

    def fill(self, weights: Tensor) -> None:
        """Set the response and the bias."""
        with torch.no_grad():
            self.body.weight.copy_(weights[: self.config.receptive_field].flip(0)[None, None])
            if self.body.bias is not None:
                self.body.bias.copy_(weights[-1:])

    def lower(self, graph: Graph, buffers: tuple[Buffer, ...]) -> tuple[Buffer, ...]:
        """Append the convolution."""
        return graph.module(self.body, buffers)


class NamConvNet(NamModel):
    """Dilated convolutions of kernel size 2, each normalised if asked for and activated.

    >>> model = NamConvNet(ConvNetConfig(channels=8, dilations=(1, 2, 4, 8))).eval()
    >>> tuple(model(torch.randn(1, 1, 480)).shape)
    (1, 1, 480)
    """

    architecture = "ConvNet"
    config: ConvNetConfig
    body: Chain

    def __init__(self, config: ConvNetConfig, metadata: dict[str, Any] | None = None) -> None:
        super().__init__(config, metadata)
        modules: list[nn.Module] = []
        for width, dilation in zip(config.widths, config.dilations, strict=True):
            bias = not config.batchnorm
            conv = CausalConv1d(width, config.channels, 2, dilation=dilation, bias=bias)
            norm = [BatchNorm(config.channels)] if config.batchnorm else []
            modules += [conv, *norm, make_activation(config.activation)]
        self.body = Chain(*modules, CausalConv1d(config.channels, 1, 1))

    @property
    def multiply_adds(self) -> int:
        """Weights of the convolutions."""
        blocks = [block for _, block in self.body.layers() if isinstance(block, CausalConv1d)]
        return sum(block.weight.numel() for block in blocks)

    def file_config(self) -> dict[str, Any]:
        """Return ``config`` of the file."""
        return {
            "channels": self.config.channels,
            "dilations": list(self.config.dilations),
            "batchnorm": self.config.batchnorm,
            "activation": activation_json(self.config.activation),
        }

    def flat(self) -> Tensor:
        """Return the weights of layer after layer, and of the last convolution."""
        return _joined(*self._tensors([torch.tensor([norm.eps]) for norm in self._norms()]))

    def fill(self, weights: Tensor) -> None:
        """Set the weights.

        Raises:
            ValueError: if a variance and eps have a sum that is not above zero.
        """
        epsilons = [torch.empty(1) for _ in self._norms()]
        _fill(weights, *self._tensors(epsilons))
        for norm, eps in zip(self._norms(), epsilons, strict=True):
            norm.eps = float(eps)
            if not bool((norm.running_var + eps > 0).all()):
                raise ValueError("weights: a variance of batchnorm is not above zero; damaged?")

    def lower(self, graph: Graph, buffers: tuple[Buffer, ...]) -> tuple[Buffer, ...]:
        """Append the operations of layer after layer."""
        return graph.module(self.body, buffers)

    def _norms(self) -> list[BatchNorm]:
        return [module for module in self.body.blocks if isinstance(module, BatchNorm)]

    def _tensors(self, epsilons: list[Tensor]) -> Iterator[Tensor]:
        """All tensors in the order of the file, in which eps is one of the weights."""
        remaining = iter(epsilons)
        for module in self.body.blocks:
            if isinstance(module, CausalConv1d):
                yield module.weight
                if module.bias is not None:
                    yield module.bias
            elif isinstance(module, BatchNorm):
                assert module.weight is not None
                assert module.bias is not None
                yield from (module.running_mean, module.running_var, module.weight, module.bias)
                yield next(remaining)


class NamLSTM(NamModel):
    """LSTM layers and a 1x1 convolution, begun at the state that the file gives.

    ``init_state`` and ``warm_state`` are that state: the trainer exports what a second of silence
    leads to.

    >>> model = NamLSTM(LstmConfig(hidden_size=16)).eval()
    >>> y, state = model.stream(torch.randn(1, 1, 48), model.warm_state(1))
    >>> tuple(y.shape), model.unbounded
    ((1, 1, 48), True)
    """

    architecture = "LSTM"
    config: LstmConfig
    body: LSTM
    hidden: Tensor
    cell: Tensor

    def __init__(self, config: LstmConfig, metadata: dict[str, Any] | None = None) -> None:
        super().__init__(config, metadata)
        self.body = LSTM(config.input_size, config.hidden_size, num_layers=config.num_layers)
        self.head = nn.Conv1d(config.hidden_size, 1, 1)
        shape = config.num_layers, config.hidden_size
        self.register_buffer("hidden", torch.zeros(shape))
        self.register_buffer("cell", torch.zeros(shape))

    @property
    def multiply_adds(self) -> int:
        """Weights without biases."""
        size = self.config.hidden_size
        return size + sum(4 * size * (width + size) for width in self.config.widths)

    def init_state(
        self,
        batch_size: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> State:
        """The file's hidden values and cells, ``[B, num_layers, hidden_size]`` each."""
        factory = self._factory(device, dtype)
        parts = (part.to(**factory) for part in (self.hidden, self.cell))
        return tuple(part[None].repeat(batch_size, 1, 1) for part in parts)

    def settle(self, x: Tensor, cond: Tensor | None = None) -> State:
        """The file's state, whatever x is."""
        return self.init_state(x.shape[0], device=x.device, dtype=x.dtype)

    def stream(self, x: Tensor, state: State, cond: Tensor | None = None) -> tuple[Tensor, State]:
        """``[B, input_size, T]`` to ``[B, 1, T]``; see ``Causal.stream``."""
        y, after = super().stream(x, state, cond)
        return self.head(y), after

    def lower(self, graph: Graph, buffers: tuple[Buffer, ...]) -> tuple[Buffer, ...]:
        """Append the layers, and the head."""
        (y,) = graph.module(self.body, buffers)
        return (graph.projection(self.head, y),)

    def file_config(self) -> dict[str, Any]:
        """Return ``config`` of the file."""
        keys = ("input_size", "hidden_size", "num_layers")
        return {key: getattr(self.config, key) for key in keys}

    def flat(self) -> Tensor:
        """Return each layer's ``[W_ih | W_hh]``, bias and state, then the head's weights."""
        parts: list[Tensor] = []
        for i in range(self.config.num_layers):
            w_ih, w_hh, b_ih, b_hh = self._layer(i)
            parts += [torch.cat([w_ih, w_hh], dim=1), b_ih + b_hh, self.hidden[i], self.cell[i]]
        assert self.head.bias is not None
        return _joined(*parts, self.head.weight, self.head.bias)

    def fill(self, weights: Tensor) -> None:
        """Set all weights; of torch's two biases the second becomes zero."""
        size, pieces = self.config.hidden_size, list[Tensor]()
        assert self.head.bias is not None
        for i, width in enumerate(self.config.widths):
            pieces += [torch.empty(4 * size, width + size), torch.empty(4 * size)]
            pieces += [self.hidden[i], self.cell[i]]
        _fill(weights, *pieces, self.head.weight, self.head.bias)
        with torch.no_grad():
            for i, width in enumerate(self.config.widths):
                w_ih, w_hh, b_ih, b_hh = self._layer(i)
                w_ih.copy_(pieces[4 * i][:, :width])
                w_hh.copy_(pieces[4 * i][:, width:])
                b_ih.copy_(pieces[4 * i + 1])
                b_hh.zero_()

    def _layer(self, i: int) -> list[Tensor]:
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        return [getattr(self.body.rnn, f"{name}_l{i}") for name in names]


class NamSequential(NamModel):
    """Models one after another.

    >>> amp, cabinet = NamWaveNet(preset("nano")), NamLinear(LinearConfig(receptive_field=2048))
    >>> rig = NamSequential([amp, cabinet])
    >>> rig.past == amp.past + cabinet.past
    True

    Args:
        models: ``NamModel`` or ``NamWaveNet``, of one sample rate.
        metadata: JSON values.
    """

    architecture = "Sequential"
    config: SequentialConfig
    body: Chain

    def __init__(self, models: list[Any], metadata: dict[str, Any] | None = None) -> None:
        configs = tuple(model.config for model in models)
        rate = configs[0].sample_rate if configs else 0
        super().__init__(SequentialConfig(models=configs, sample_rate=rate or 1), metadata)
        self.body = Chain(*models)

    @property
    def multiply_adds(self) -> int:
        """The sum over the models."""
        return sum(cast(Any, model).multiply_adds for model in self.body.blocks)

    def models(self) -> list[Causal]:
        """Return the models in order."""
        return cast("list[Causal]", list(self.body.blocks))

    def file_config(self) -> dict[str, Any]:
        """Refuse: ``wavenet.nam.writing`` writes each model whole."""
        raise NotImplementedError

    def flat(self) -> Tensor:
        """Return nothing: each model has its own weights in the file."""
        return torch.zeros(0)

    def fill(self, weights: Tensor) -> None:
        """Do nothing: the models are filled before."""

    def lower(self, graph: Graph, buffers: tuple[Buffer, ...]) -> tuple[Buffer, ...]:
        """Append model after model."""
        return graph.module(self.body, buffers)


def _joined(*tensors: Tensor) -> Tensor:
    return torch.cat([tensor.detach().float().cpu().reshape(-1) for tensor in tensors])


def _fill(weights: Tensor, *tensors: Tensor) -> None:
    """Cut the flat weights into the tensors, in order."""
    at = 0
    with torch.no_grad():
        for tensor in tensors:
            tensor.copy_(weights[at : at + tensor.numel()].view(tensor.shape))
            at += tensor.numel()
    assert at == len(weights)
