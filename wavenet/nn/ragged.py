"""A batch of rows of different lengths.

A causal block needs no mask to hide what lies behind the end of a row: no output before depends on
it. Only the state would: that of a row has to be the one after its own last sample. And streaming a
and then b equals streaming a ++ b. So the batch is streamed in pieces that end where a row ends,
each with the rows that go on; every block keeps it right without knowing of it, and no sample
behind the end of a row is computed.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from wavenet.nn.causal import Causal
from wavenet.nn.state import State, flatten_state, map_state, select_rows


def stream_rows(
    block: Causal,
    x: Tensor,
    state: State,
    lengths: Sequence[int],
    cond: Tensor | None = None,
) -> tuple[Tensor | tuple[Tensor, ...], State]:
    """``block.stream`` of rows of different lengths.

    >>> block = CausalConv1d(1, 1, 3)
    >>> y, state = stream_rows(block, torch.randn(2, 1, 9), block.init_state(2), [9, 4])
    >>> y[1, 0, 4:].abs().sum().item()
    0.0

    Args:
        block: any causal block.
        x: ``[B, in_channels, T]``; what it holds behind the end of a row changes nothing.
        state: of B rows.
        lengths: samples of each row, from 0 to T, multiples of ``block.step``.
        cond: ``[B, cond_channels, T]``, or one column that is held.

    Returns:
        ``(y, state')``: y has zeros behind the end of each row, and the state of a row is the one
        after its last sample; of a row of length 0 it is the one before.

    Raises:
        ValueError: if lengths does not fit, or as ``block.stream``.
    """
    block.check_call(x, cond)
    ends = _checked(block, x, lengths)
    outputs: list[list[Tensor]] = []  # of every piece, with zeros in the rows that have ended
    several, start = False, 0
    for end in sorted({0, x.shape[-1], *ends})[1:]:
        rows = torch.tensor([last >= end for last in ends], device=x.device).nonzero()[:, 0]
        columns = slice(start, end)
        held = cond is None or cond.shape[-1] == 1
        given = cond if held or cond is None else cond[..., columns]
        # Without a row, one is streamed for the shape of its output.
        taken = rows if len(rows) else torch.zeros(1, dtype=torch.long, device=x.device)
        y, after = block.stream(
            x[taken][..., columns],
            select_rows(state, taken),
            None if given is None else given[taken],
        )
        several, start = not isinstance(y, Tensor), end
        pieces = [y] if isinstance(y, Tensor) else list(y)
        outputs.append([_spread(one, rows, x.shape[0]) for one in pieces])
        state = _replaced(state, rows, after)
    joined = tuple(torch.cat(parts, dim=-1) for parts in zip(*outputs, strict=True))
    return (joined if several else joined[0]), state


def _checked(block: Causal, x: Tensor, lengths: Sequence[int]) -> list[int]:
    """Return the lengths as integers."""
    ends = [int(length) for length in lengths]
    if len(ends) != x.shape[0]:
        raise ValueError(f"lengths has {len(ends)} entries, but x has {x.shape[0]} rows")
    for end in ends:
        if not 0 <= end <= x.shape[-1] or end % block.step:
            raise ValueError(
                f"lengths has {end}, which must be a multiple of {block.step} samples, the step of "
                f"{type(block).__name__}, from 0 to the {x.shape[-1]} of x"
            )
    return ends


def _spread(y: Tensor, rows: Tensor, n_rows: int) -> Tensor:
    """Return rows of a batch at their places, and zeros at those of the others."""
    whole = y.new_zeros(n_rows, *y.shape[1:])
    return whole.index_copy(0, rows, y[: len(rows)])


def _replaced(state: State, rows: Tensor, after: State) -> State:
    """Return a state with some rows replaced by those of another one."""
    parts = flatten_state(after)
    return map_state(lambda part: part.index_copy(0, rows, next(parts)[: len(rows)]), state)
