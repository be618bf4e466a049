"""16 numbers from any address, and to it: float32, or bfloat16 widened and rounded.

A kernel that gets an address instead of an array costs nothing to call, which matters where calls
are many and short, and it may read a type that numba has no arrays of. Nothing is checked.

    x = read(address)                 16 floats          x = read_bfloat16(address)
    write(address, x)                 and back           write_bfloat16(address, x)
    read_some(address, n)             the first n of them, n < 16; the others are 0
    write_some(address, x, n)

A bfloat16 is the upper half of a float. A float is rounded to the nearest one, of two to the even
one, as torch does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from wavenet.simd.compiling import instruction
from wavenet.simd.registers import FLOATS, INT64, INTS, LANES, register

_HALVES = ir.VectorType(ir.IntType(16), LANES)

Converter = Callable[[Any, Any], Any]


def _widened(builder: Any, halves: Any) -> Any:
    bits = builder.shl(builder.zext(halves, INTS), ir.Constant(INTS, [16] * LANES))
    return builder.bitcast(bits, FLOATS)


def _rounded(builder: Any, value: Any) -> Any:
    """Round to nearest, ties to even: add half a unit of the last place, less a bit for a tie."""
    bits, shift = builder.bitcast(value, INTS), ir.Constant(INTS, [16] * LANES)
    odd = builder.and_(builder.lshr(bits, shift), ir.Constant(INTS, [1] * LANES))
    bits = builder.add(bits, builder.add(odd, ir.Constant(INTS, [0x7FFF] * LANES)))
    return builder.trunc(builder.lshr(bits, shift), _HALVES)


def _as_it_is(_: Any, value: Any) -> Any:
    return value


def _pointer(builder: Any, address: Any, kind: Any) -> Any:
    return builder.inttoptr(address, kind.as_pointer())


def _reading(kind: Any, convert: Converter) -> Any:
    """Make an instruction that reads a vector of a kind."""

    def read(_: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            (address,) = args
            return convert(builder, builder.load(_pointer(builder, address, kind), align=2))

        return register(address), generate

    return instruction(read)


def _writing(kind: Any, convert: Converter) -> Any:
    """Make an instruction that writes a vector of a kind."""

    def write(_: Any, address: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            address, value = args
            builder.store(convert(builder, value), _pointer(builder, address, kind), align=2)
            return context.get_dummy_value()

        return types.void(address, value), generate

    return instruction(write)


def _bytes(builder: Any, kind: Any, n: Any) -> Any:
    return builder.mul(n, INT64(2 if kind is _HALVES else 4))


def _move(builder: Any, target: Any, source: Any, size: Any) -> None:
    cgutils.raw_memcpy(builder, target, source, size, 1)


def _reading_some(kind: Any, convert: Converter) -> Any:
    """Make an instruction that reads the first few numbers of a vector, through the stack."""

    def read_some(_: Any, address: Any, n: Any) -> Any:
        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            address, n = args
            room = cgutils.alloca_once(builder, kind)
            builder.store(ir.Constant(kind, None), room)
            source = _pointer(builder, address, ir.IntType(8))
            target = builder.bitcast(room, source.type)
            _move(builder, target, source, _bytes(builder, kind, n))
            return convert(builder, builder.load(room))

        return register(address, types.int64), generate

    return instruction(read_some)


def _writing_some(kind: Any, convert: Converter) -> Any:
    """Make an instruction that writes the first few numbers of a vector."""

    def write_some(_: Any, address: Any, value: Any, n: Any) -> Any:
        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            address, value, n = args
            room = cgutils.alloca_once(builder, kind)
            builder.store(convert(builder, value), room)
            target = _pointer(builder, address, ir.IntType(8))
            source = builder.bitcast(room, target.type)
            _move(builder, target, source, _bytes(builder, kind, n))
            return context.get_dummy_value()

        return types.void(address, value, types.int64), generate

    return instruction(write_some)


read, read_bfloat16 = _reading(FLOATS, _as_it_is), _reading(_HALVES, _widened)
write, write_bfloat16 = _writing(FLOATS, _as_it_is), _writing(_HALVES, _rounded)
read_some, read_some_bfloat16 = (
    _reading_some(FLOATS, _as_it_is),
    _reading_some(_HALVES, _widened),
)
write_some, write_some_bfloat16 = (
    _writing_some(FLOATS, _as_it_is),
    _writing_some(_HALVES, _rounded),
)
