"""Names and shapes of the tensors that a configuration describes, without memory for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from wavenet.model.config import FeatureConfig, WaveNetConfig
from wavenet.model.wavenet import WaveNet


def described_tensors(config: WaveNetConfig) -> dict[str, Tensor]:
    """Return what the ``state_dict`` of a model holds, on the meta device.

    The projections of the input lack the few channels that a linear predictor adds.
    """
    mel = config.mel
    if mel is not None:
        same = FeatureConfig(channels=mel.n_mels, hop_samples=mel.hop_samples)
        # A predictor and the taps need the mel, and have no tensors of their own.
        config = config.replace(mel=None, features=same, linear_prediction=0, pitch_taps=0)
    with torch.device("meta"), _NothingDrawn():
        tensors = WaveNet(config).state_dict()
        if mel is not None:
            tensors["mel_filterbank"] = torch.empty(mel.n_mels, mel.n_fft // 2 + 1)
    return tensors


class _NothingDrawn(TorchFunctionMode):
    """Modules are made without drawing their parameters, on a device that has no memory for them.

    On the meta device torch answers a draw, ``arange`` and some arithmetic by rules written in
    Python, and imports its compiler to do so. That takes longer than all the rest of loading a
    model in a new process, so nothing there computes what is not read.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        return given["tensor"] if func is nn.init.normal_ else func(*args, **given)
