"""The linear predictor of a tile of rows: ``wavenet.nn.LinearPrediction``, a sample at a time.

Both memories are rings within a launch: slot s mod length holds what came at sample s of it, and
the engine turns them back afterwards, the oldest first.
"""

from __future__ import annotations

import triton
import triton.language as tl

# mypy: disable-error-code="no-untyped-def"


@triton.jit
def column(columns, k, near, far, near_share, far_share, alive):
    """One of the predictor's numbers ``[ROWS]``, between the two frames around."""
    first = tl.load(columns + near + k, mask=alive, other=0.0)
    second = tl.load(columns + far + k, mask=alive, other=0.0)
    return near_share * first + far_share * second


@triton.jit
def asinh(x):
    """log(|x| + sqrt(x^2 + 1)) with the sign of x."""
    size = tl.abs(x)
    y = tl.log(size + tl.sqrt(size * size + 1.0))
    return tl.where(x < 0, -y, y)


@triton.jit
def excite(
    x, t, history, columns, near, far, near_share, far_share, alive, ORDER: tl.constexpr
):  # fmt: skip
    """``(e, p / g, log g)``, each ``[ROWS]``, of sample x; see ``wavenet.nn.linear_prediction``.

    Args:
        history: pointers ``[ROWS]`` to the last samples of each row, without x.
    """
    before, ahead = tl.zeros_like(x), tl.zeros_like(x)
    newer = x
    for k in range(ORDER):
        a = column(columns, k, near, far, near_share, far_share, alive)
        older = tl.load(history + (t + ORDER - 1 - k) % ORDER, mask=alive, other=0.0)
        before += a * older
        ahead += a * newer
        newer = older
    log_gain = column(columns, ORDER, near, far, near_share, far_share, alive)
    inverse = tl.exp(-log_gain)
    return (x - before) * inverse, ahead * inverse, log_gain


@triton.jit
def lagged(e, t, past, first, j, alive, REACH: tl.constexpr):
    """e at place ``first + j`` of the last REACH values and the newest, ``[ROWS]``."""
    place = first + j
    older = tl.load(past + (t + place) % REACH, mask=alive, other=0.0)
    return tl.where(place == REACH, e, older)
