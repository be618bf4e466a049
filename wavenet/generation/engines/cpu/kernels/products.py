"""Matrix times vectors, accumulators held in registers: nearly all the work of a sample.

    y[r, c] += sum_k W[k, c] x[r, k]          k = 0, 1, 2 ..: one addition after the other

The matrix is cut into panels of up to ``PANEL_REGISTERS`` registers of columns, each row by row
(``packing``), so that one sample reads all weights as a single stream. A panel's sums stay in
registers while k runs. A tile of rows shares each weight that is read. Whatever the tile, a sum
is made in the same order, so a row has the same bits in every batch.

Formats of the weights, by the type of the array:

    float32    as they are
    uint16     float16, widened by the processor, or bit by bit where it cannot
    uint32     bfloat16 in pairs, W[2k] in the low half of a word and W[2k + 1] in the high half: a
               bfloat16 is the upper half of a float, so a shift or a mask widens it
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types

from wavenet.generation.engines.cpu.kernels.packing import PANEL_REGISTERS
from wavenet.simd.compiling import instruction, outlined
from wavenet.simd.registers import (
    FLOATS,
    INT64,
    INTS,
    LANES,
    address,
    load_vector,
    multiply_add,
    spread,
    store_vector,
)


def _accumulators(context: Any) -> int:
    """Number of sums of 16 floats that the registers hold beside the weights in flight."""
    features = context.codegen().magic_tuple()[2].split(",")
    if "+avx512f" in features:
        return 20  # of 32 registers of 16 floats
    if "+avx" in features or "+neon" in features:
        return 6  # of 16 registers of 8, or 32 of 4
    return 3


def _has_halves(context: Any) -> bool:
    """Return whether the CPU converts float16; else LLVM calls a function that may not exist."""
    features = context.codegen().magic_tuple()[2].split(",")
    return "+f16c" in features or "+neon" in features


def _widen_halves(builder: Any, pointer: Any, has_halves: bool) -> Any:
    """float16 to float32; by hand: move the fields in place, and correct the exponent's bias."""
    if has_halves:
        return builder.fpext(
            load_vector(builder, pointer, ir.VectorType(ir.HalfType(), LANES)), FLOATS
        )
    bits = load_vector(builder, pointer, ir.VectorType(ir.IntType(16), LANES))
    bits = builder.zext(bits, INTS)
    size = builder.and_(bits, ir.Constant(INTS, [0x7FFF] * LANES))
    size = builder.bitcast(builder.shl(size, ir.Constant(INTS, [13] * LANES)), FLOATS)
    size = builder.fmul(size, ir.Constant(FLOATS, [2.0**112] * LANES))
    sign = builder.and_(bits, ir.Constant(INTS, [0x8000] * LANES))
    sign = builder.shl(sign, ir.Constant(INTS, [16] * LANES))
    return builder.bitcast(builder.or_(builder.bitcast(size, INTS), sign), FLOATS)


def _widen(builder: Any, pointer: Any, kind: Any, has_halves: bool) -> list[Any]:
    """One register of columns for each k that an element of the array holds."""
    if kind == types.float32:
        return [load_vector(builder, pointer)]
    if kind == types.uint16:
        return [_widen_halves(builder, pointer, has_halves)]
    assert kind == types.uint32
    pairs = load_vector(builder, pointer, INTS)
    low = builder.shl(pairs, ir.Constant(INTS, [16] * LANES))
    high = builder.and_(pairs, ir.Constant(INTS, [-65536] * LANES))
    return [builder.bitcast(low, FLOATS), builder.bitcast(high, FLOATS)]


def _pass(
    builder: Any,
    widen: Callable[[Any], list[Any]],
    weights: Any,
    step: int,
    x: list[Any],
    n: Any,
    y: list[list[Any]],
) -> None:
    """Add n steps of products to the sums at ``y[row][register]``.

    Args:
        widen: loads a register of columns, see ``_widen``.
        weights: pointer to the first register of columns; the next step is ``step`` further on.
        x: pointer to the inputs of each row.
    """
    pointers = [pointer for row in y for pointer in row]
    starts = [load_vector(builder, pointer) for pointer in pointers]
    before, body = builder.block, builder.append_basic_block("products")
    builder.branch(body)
    builder.position_at_end(body)
    k = builder.phi(INT64)
    k.add_incoming(INT64(0), before)
    sums = [builder.phi(FLOATS) for _ in starts]
    for phi, start in zip(sums, starts, strict=True):
        phi.add_incoming(start, before)
    here = builder.gep(weights, [builder.mul(k, INT64(step))])
    width = len(y[0])
    columns = [widen(builder.gep(here, [INT64(LANES * i)])) for i in range(width)]
    taken = len(columns[0])
    new = list(sums)
    for row, pointer in enumerate(x):
        first = builder.gep(pointer, [builder.mul(k, INT64(taken))])
        for part in range(taken):
            value = spread(builder, builder.load(builder.gep(first, [INT64(part)])))
            for i in range(width):
                place = row * width + i
                new[place] = multiply_add(builder, columns[i][part], value, new[place])
    following = builder.add(k, INT64(1))
    for phi, value in zip([k, *sums], [following, *new], strict=True):
        phi.add_incoming(value, body)
    after = builder.append_basic_block("sums")
    builder.cbranch(builder.icmp_signed("<", following, n), body, after)
    builder.position_at_end(after)
    for value, pointer in zip(new, pointers, strict=True):
        store_vector(builder, value, pointer)


def _panel(registers: int) -> Any:
    """The product with a panel of so many registers of columns."""

    def panel(_: Any, weights: Any, at: Any, n: Any, work: Any, rows: Any, x: Any, y: Any) -> Any:
        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            weights, at, n, work, rows, x, y = args
            weights_type, work_type = sig.args[0], sig.args[3]
            matrix = address(context, builder, weights_type, weights, at)
            starts = [builder.extract_value(rows, i) for i in range(sig.args[4].count)]

            def place(start: Any, offset: Any) -> Any:
                return address(context, builder, work_type, work, builder.add(start, offset))

            inputs = [place(start, x) for start in starts]
            outputs = [place(start, y) for start in starts]
            has_halves = _has_halves(context)

            def widen(pointer: Any) -> list[Any]:
                return _widen(builder, pointer, weights_type.dtype, has_halves)

            width = max(1, _accumulators(context) // len(starts))
            for first in range(0, registers, width):
                some = range(first, min(first + width, registers))
                sums = [[builder.gep(y, [INT64(LANES * i)]) for i in some] for y in outputs]
                begin = builder.gep(matrix, [INT64(LANES * first)])
                step = LANES * registers
                _pass(builder, widen, begin, step, inputs, n, sums)
            return context.get_dummy_value()

        return types.void(weights, at, n, work, rows, x, y), generate

    return instruction(panel)


_panel_1, _panel_2, _panel_3, _panel_4, _panel_5 = map(_panel, range(1, PANEL_REGISTERS + 1))


@outlined
def product(weights, at, steps, registers, work, rows, x, y):
    """Add to ``work[row + y ..]`` the product of a packed matrix with ``work[row + x ..]``.

    Args:
        weights: all packed matrices.
        at: where this one begins.
        steps: elements of ``weights`` for one column.
        registers: columns in units of 16.
        work: inputs and outputs.
        rows: where each row of the tile begins in ``work``; its length is part of the type.
        x: the inputs, from the beginning of the row.
        y: the outputs.

    Returns:
        Where the next matrix begins.
    """
    panels = (registers + PANEL_REGISTERS - 1) // PANEL_REGISTERS
    while panels > 0:  # divided as in packing.panel_widths
        width = (registers + panels - 1) // panels
        if width == 5:
            _panel_5(weights, at, steps, work, rows, x, y)
        elif width == 4:
            _panel_4(weights, at, steps, work, rows, x, y)
        elif width == 3:
            _panel_3(weights, at, steps, work, rows, x, y)
        elif width == 2:
            _panel_2(weights, at, steps, work, rows, x, y)
        else:
            _panel_1(weights, at, steps, work, rows, x, y)
        at += steps * LANES * width
        y += LANES * width
        registers -= width
        panels -= 1
    return at
