"""How much memory a state keeps alive; for tests of everything that returns one."""

from __future__ import annotations

from torch import Tensor

from wavenet.nn import State, flatten_state


def parts_with_memory(state: State) -> list[Tensor]:
    """The tensors of a state that have any."""
    return [part for part in flatten_state(state) if part.untyped_storage().nbytes()]


def stray_bytes(state: State) -> int:
    """Bytes that the tensors of a state keep alive beyond their own values."""
    parts = parts_with_memory(state)
    held = {part.untyped_storage().data_ptr(): part.untyped_storage().nbytes() for part in parts}
    return sum(held.values()) - sum(part.numel() * part.element_size() for part in parts)


def shares_memory(state: State, other: State) -> bool:
    """Whether a tensor of one state lies in the memory of another's."""
    places = {part.untyped_storage().data_ptr() for part in parts_with_memory(other)}
    return any(part.untyped_storage().data_ptr() in places for part in parts_with_memory(state))
