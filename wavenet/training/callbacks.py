"""Callbacks of a run: hooks that are called beside its own work.

A callback is an object with any of these methods. Names and arguments are those of Lightning's
callbacks, with ``trainer`` a ``wavenet.training.trainer.Trainer`` and ``module`` its
``WaveNetTraining``; so a class that derives from ``lightning.pytorch.callbacks.Callback`` will do,
if it needs nothing else. ``trainer`` has ``global_step``, ``max_steps``, ``should_stop``,
``optimizers``, ``loggers``, ``callback_metrics``, ``world_size``, ``is_global_zero``, ``strategy``
and ``log(numbers, step)``.

- ``on_train_start(trainer, module)``: before the first step.
- ``on_train_batch_start(trainer, module, batch, batch_idx)``: before each part of a step.
- ``on_before_optimizer_step(trainer, module, optimizer)``: the gradients are there, not clipped.
- ``on_train_batch_end(trainer, module, loss, batch, batch_idx)``: after each part of a step.
- ``on_validation_start(trainer, module)``, ``on_validation_end(trainer, module)``.
- ``on_train_end(trainer, module)``: after the last step.
- ``on_exception(trainer, module, error)``: the run ends by an error or by ctrl-C.
- ``state_dict()``, ``load_state_dict(state)``: plain values and tensors that checkpoints keep.

A callback that overrides another hook of Lightning's, such as ``on_train_epoch_start``, would never
hear of what it waits for, and is refused. So are Lightning's own that need its Trainer; of those,
``Timer`` works.
"""

from __future__ import annotations

from collections.abc import Sequence

from lightning.pytorch.callbacks import Callback, Timer

from wavenet.training.config import ConfigError
from wavenet.values.text import short

HOOKS = (
    "on_train_start",
    "on_train_batch_start",
    "on_before_optimizer_step",
    "on_train_batch_end",
    "on_validation_start",
    "on_validation_end",
    "on_train_end",
    "on_exception",
    "state_dict",
    "load_state_dict",
)

_OTHER_STAGES = ("on_test_", "on_predict_", "on_sanity_")
"""Beginnings of hooks of what is no training: to override them does no harm."""

WORKING: tuple[type[Callback], ...] = (Callback, Timer)
"""Callbacks of Lightning that need nothing but the hooks."""


def check_callbacks(callbacks: Sequence[object]) -> None:
    """Raise ConfigError, in one line, for a callback that cannot work."""
    for callback in callbacks:
        kind = type(callback)
        if isinstance(callback, type) or not any(hasattr(callback, hook) for hook in HOOKS):
            raise ConfigError(
                f"callbacks: {short(callback)} is no object with a hook; the hooks are "
                f"{', '.join(HOOKS)}"
            )
        if kind in WORKING:
            continue
        if kind.__module__.split(".")[0] in ("lightning", "pytorch_lightning"):
            raise ConfigError(
                f"callbacks: {kind.__name__} needs Lightning's Trainer; of Lightning's callbacks "
                "Timer works, and from Python any of your own with the hooks of "
                "wavenet.training.callbacks"
            )
        for hook in _overridden(kind):
            if hook not in HOOKS and not hook.startswith(_OTHER_STAGES):
                raise ConfigError(
                    f"callbacks: {kind.__name__} overrides {hook}, which training does not call; "
                    f"it calls {', '.join(HOOKS)}"
                )


def _overridden(kind: type) -> list[str]:
    """Hooks that a class defines, of those that Lightning knows."""
    hooks = [name for name in vars(Callback) if name.startswith(("on_", "setup", "teardown"))]
    return [
        name for name in hooks if getattr(kind, name, None) not in (None, getattr(Callback, name))
    ]
