"""Parameters that a block takes over from a module, with what computes them.

torch computes weights in two ways: by parametrizations, which make the weight a property, and by
forward pre-hooks (the old ``weight_norm`` and ``spectral_norm``, pruning), which set it before each
call from parameters such as ``weight_g``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

NAMES = ("weight", "bias")


def owner_of(weight: Tensor, running: nn.Module) -> nn.Module | None:
    """Return the module whose weight this is: the running one, or one inside it."""
    for module in running.modules():
        if getattr(module, "weight", None) is weight:
            return module
    return None


def adopt(block: nn.Module, owner: nn.Module | None, given: dict[str, Tensor | None]) -> None:
    """Let a block have the parameters of a module, or else the values that the module used.

    Args:
        block: with parameters of the same names and shapes.
        owner: None where a function computed the weight.
        given: values of ``weight`` and ``bias``.
    """
    for name, value in given.items():
        if value is None:
            setattr(block, name, None)
        elif owner is not None and parametrize.is_parametrized(owner, name):
            block.eval()  # in training mode a spectral norm changes its vectors at every call
            parametrize.transfer_parametrizations_and_params(owner, block, name)
        elif owner is not None and _is_hooked(owner, name):
            _take_hooks(block, owner, name)
        else:
            setattr(block, name, _as_parameter(value))


def foreign_hooks(module: nn.Module) -> bool:
    """Return whether a module has forward hooks other than torch's for computing weights."""
    hooks = module._forward_pre_hooks.values()
    return bool(module._forward_hooks) or any(not _computes(hook) for hook in hooks)


def _computes(hook: object) -> bool:
    return type(hook).__module__.startswith("torch.nn.utils.")


def _is_hooked(owner: nn.Module, name: str) -> bool:
    return name not in owner._parameters and any(map(_computes, owner._forward_pre_hooks.values()))


def _take_hooks(block: nn.Module, owner: nn.Module, name: str) -> None:
    """Give the block the parameters, buffers and hooks that a value is computed from."""
    value = getattr(owner, name)
    del block._parameters[name]
    for parameter, own in owner._parameters.items():
        if parameter.startswith(f"{name}_"):
            block.register_parameter(parameter, own)
    for buffer, held in owner._buffers.items():
        if buffer.startswith(f"{name}_"):
            block.register_buffer(buffer, held)
    setattr(block, name, value)
    for hook in owner._forward_pre_hooks.values():
        if _computes(hook):
            block.register_forward_pre_hook(hook)


def _as_parameter(value: Tensor) -> nn.Parameter:
    """Return a parameter itself; of another tensor its values, which are not trained."""
    if isinstance(value, nn.Parameter):
        return value
    return nn.Parameter(value.detach().clone(), requires_grad=False)


def constant(values: Tensor, like: nn.Module) -> Tensor:
    """Return fixed weights on the device and in the type of a module's parameters."""
    first = next(iter(like.parameters()), torch.empty(0))
    return values.to(first.device, first.dtype)
