"""Modules made on the meta device, as for very large models, equal those made in memory."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from tests.causal_blocks import BLOCKS
from tests.configurations import CONFIGURATIONS
from wavenet import Causal, MelConfig, WaveNet
from wavenet.features import mel_filterbank
from wavenet.nn import CausalISTFT, CausalSTFT, FrameLift, MelRefinement, Snake
from wavenet.nn.linear_prediction import LinearPrediction
from wavenet.testing.probe import outputs_of

MODULES = BLOCKS | {
    "stft": CausalSTFT(16, 4),
    "istft": CausalISTFT(16, 4),
    "refinement": MelRefinement(MelConfig(), passes=2),
    "refinement by another filterbank": MelRefinement(
        MelConfig(), passes=2, filterbank=2 * mel_filterbank(MelConfig())
    ),
    "linear prediction": LinearPrediction(4, pitch_taps=1),
    "lift": FrameLift(4),
    "snake": Snake(4, alpha=2.0),
}


NORMALIZED = ("normalized temporal block",)
"""Blocks with torch's ``weight_norm``, whose weights no ``reset_parameters`` draws."""


def tensors(module: nn.Module) -> dict[str, Tensor]:
    """All parameters and buffers, those that no state dict contains as well."""
    return dict(module.named_parameters()) | dict(module.named_buffers())


def without_values(module: nn.Module) -> nn.Module:
    """Return a copy whose memory is uninitialised, by way of the meta device."""
    return copy.deepcopy(module).to("meta").to_empty(device="cpu")


@torch.no_grad()
def filled(module: nn.Module) -> nn.Module:
    """Return the module with values that nothing has computed."""
    for value in tensors(module).values():
        value.fill_(float("nan") if value.is_floating_point() else -1)
    return module


def require_equal(module: nn.Module, other: nn.Module) -> None:
    """Fail unless all tensors are equal."""
    wanted = tensors(other)
    assert wanted.keys() == tensors(module).keys()
    for name, value in tensors(module).items():
        assert not value.is_meta, name
        assert torch.equal(value, wanted[name]), name


@pytest.mark.parametrize("name", MODULES)
def test_a_block_from_the_meta_device_is_complete_once_its_weights_are_loaded(name: str) -> None:
    module = MODULES[name]
    emptied = without_values(module)
    emptied.load_state_dict(module.state_dict())
    require_equal(emptied, module)
    assigned = copy.deepcopy(module).to("meta")
    assigned.load_state_dict(module.state_dict(), assign=True)
    require_equal(assigned, module)


@pytest.mark.parametrize("name", [name for name in MODULES if name not in NORMALIZED])
def test_every_tensor_of_a_block_belongs_to_a_module_that_can_reset_it(name: str) -> None:
    module = filled(without_values(MODULES[name]))
    module.apply(lambda part: getattr(part, "reset_parameters", lambda: None)())
    for key, value in tensors(module).items():
        assert bool(value.isfinite().all()), key


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_model_made_on_the_meta_device_equals_the_one_whose_weights_it_loads(name: str) -> None:
    model = WaveNet(CONFIGURATIONS[name])
    with torch.device("meta"):
        empty = WaveNet(model.config)
    assert all(value.is_meta for value in tensors(empty).values())
    assigned = copy.deepcopy(empty)
    empty.to_empty(device="cpu").load_state_dict(model.state_dict())
    require_equal(empty, model)
    assigned.load_state_dict(model.state_dict(), assign=True)
    require_equal(assigned, model)


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_reset_parameters_draws_a_model_whatever_its_memory_contained(name: str) -> None:
    model = WaveNet(CONFIGURATIONS[name])
    with torch.device("meta"):
        empty = WaveNet(model.config)
    filled(empty.to_empty(device="cpu"))
    for one in (model, empty):
        torch.manual_seed(1)
        one.reset_parameters()
    require_equal(empty, model)


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_model_on_the_meta_device_computes_the_shape_of_its_params(name: str) -> None:
    model = WaveNet(CONFIGURATIONS[name])
    used = [one for one in model.conditions.values() if one.used]
    given = {one.name: one.example(2, 16) for one in used}
    x = torch.zeros(2, 1, 16)
    expected = model(x, conditions=given).shape
    on_meta = {key: value.to("meta") for key, value in given.items()}
    assert model.to("meta")(x.to("meta"), conditions=on_meta).shape == expected


@pytest.mark.parametrize("name", MODULES)
def test_a_block_on_the_meta_device_computes_the_shapes_of_its_outputs(name: str) -> None:
    module = MODULES[name]
    if not isinstance(module, Causal) or isinstance(module, WaveNet):
        return
    n = 8 * module.step
    given = [torch.randn(2, module.in_channels, n)]
    if module.cond_channels is not None:
        given.append(torch.randn(2, module.cond_channels, n))
    made = copy.deepcopy(module).to("meta")(*(one.to("meta") for one in given))
    shapes = [one.shape for one in outputs_of(module(*given))]
    assert [(one.shape, one.is_meta) for one in outputs_of(made)] == [(s, True) for s in shapes]


def test_the_filterbank_is_computed_on_the_cpu_and_moved_to_the_default_device() -> None:
    with torch.device("meta"):
        assert mel_filterbank(MelConfig()).is_meta
        assert torch.equal(mel_filterbank(MelConfig(), device="cpu").cpu(), _filters())


def _filters() -> Tensor:
    with torch.device("cpu"):
        return mel_filterbank(MelConfig())
