"""Hooks of modules and wrappers around them, which run when a module is called.

torch recomputes weights in forward pre-hooks (the old ``weight_norm`` and ``spectral_norm``,
pruning), gathers shards in them (FSDP2), and compiles or checkpoints by wrappers.
``nn.Module.__call__`` runs them all; calling ``forward`` or another method, or reading weights,
skips them.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from typing import cast

import torch
from torch import nn
from torch.nn.modules import module as torch_module
from torch.nn.parameter import is_lazy

_WRAPPED = ("_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module")
"""Names under which torch.compile, activation checkpointing and FSDP1 keep the wrapped module."""


def unwrapped(module: nn.Module) -> nn.Module:
    """Return the module inside torch's wrappers; itself if there is none."""
    children = module._modules
    if children:
        for name in _WRAPPED:
            if name in children:  # not `get`, which the children of TorchScript do not have
                return unwrapped(cast(nn.Module, children[name]))
    return module


def without_compiler(module: nn.Module) -> nn.Module:
    """Return the module inside torch.compile's wrapper, which computes the same; else itself."""
    if "_orig_mod" not in module._modules or _is_watched(module):
        return module
    return without_compiler(cast(nn.Module, module._modules["_orig_mod"]))


def uncompiled() -> AbstractContextManager[object]:
    """Within, compiled parts run as they are: compiling them for each length takes long."""
    if "torch._dynamo" not in sys.modules:  # nothing is compiled, and torch need not import it
        return nullcontext()
    stance: AbstractContextManager[object] = torch.compiler.set_stance("force_eager")
    return stance


def has_hooks(module: nn.Module) -> bool:
    """Return true if a call of this module runs more than the ``forward`` of its class."""
    return may_differ(module) or module._compiled_call_impl is not None


def may_differ(module: nn.Module) -> bool:
    """Return true if a call may compute something else than the ``forward`` of the class."""
    return _is_watched(module) or "forward" in module.__dict__


def _is_watched(module: nn.Module) -> bool:
    return bool(
        module._forward_pre_hooks
        or module._forward_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or torch_module._has_any_global_hook()
    )


def unreadable(module: nn.Module) -> str | None:
    """Describe the first part that is TorchScript, or a lazy one that was never run.

    The code of TorchScript runs in none of torch's functions; the other has no weights.
    """
    for name, part in module.named_modules():
        own = (*part._parameters.values(), *part._buffers.values())
        if any(is_lazy(tensor) for tensor in own):
            return (
                f"{name or 'module'} is a {type(part).__name__} that has no weights yet; run the "
                "network once on an input"
            )
        if isinstance(part, torch.jit.ScriptModule):
            return (
                f"{name or 'module'} is a {type(part).__name__} of TorchScript, whose code cannot "
                "be followed; give the nn.Module that it was made of"
            )
    return None
