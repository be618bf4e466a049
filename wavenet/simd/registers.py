"""16 floats as one value of the compiled language.

Numba has scalars and arrays, and leaves vector registers to LLVM's vectoriser. Here a vector is a
type of its own, so that a kernel determines which values stay in registers:

    a = load(work, at)            16 floats from an array, at any index
    store(work, at, a * b + c)    and back
    broadcast(weights, at)        16 times one float of an array
    fill(s), fma(a, b, c), minimum(a, b), maximum(a, b), where_less(a, b, yes, no),
    square_root(a), has_512_bits()
    sum_of(a), largest_of(a)      to a scalar, in an order that is always the same

LLVM cuts the value to the registers of the machine: one of AVX-512, two of AVX2, four of NEON.
``fma`` rounds once where the machine can, so every operation has one result on one machine.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import lower_builtin, models, register_model

from wavenet.simd.compiling import instruction

LANES = 16

FLOAT = ir.FloatType()
INT32 = ir.IntType(32)
INT64 = ir.IntType(64)
FLOATS = ir.VectorType(FLOAT, LANES)
INTS = ir.VectorType(INT32, LANES)


class Register(types.Type):
    """The type of 16 floats."""

    def __init__(self) -> None:
        super().__init__(name="register16xfloat32")


register = Register()


@register_model(Register)
class _RegisterModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, FLOATS)


# What other modules need to write instructions of their own.


def address(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    """Pointer to an element of a one-dimensional contiguous array."""
    data = context.make_array(array_type)(context, builder, value=array).data
    return builder.gep(data, [index])


def load_vector(builder: Any, pointer: Any, kind: Any = FLOATS) -> Any:
    """Load a vector from a pointer that need not be aligned to more than 2 bytes."""
    return builder.load(builder.bitcast(pointer, kind.as_pointer()), align=2)


def store_vector(builder: Any, value: Any, pointer: Any) -> None:
    """Store a vector of floats at a pointer that need not be aligned."""
    builder.store(value, builder.bitcast(pointer, FLOATS.as_pointer()), align=4)


def spread(builder: Any, scalar: Any) -> Any:
    """A vector of 16 equal floats."""
    empty = ir.Constant(FLOATS, ir.Undefined)
    first = builder.insert_element(empty, scalar, INT32(0))
    return builder.shuffle_vector(first, empty, ir.Constant(INTS, [0] * LANES))


def multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c, rounded once where the machine has the instruction."""
    kind = ir.FunctionType(FLOATS, [FLOATS] * 3)
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.fmuladd.v16f32")
    return builder.call(function, [a, b, c])


# The operations, as kernels see them.


@instruction
def load(_: Any, array: Any, index: Any) -> Any:
    """Load 16 floats from ``array[index]`` on."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return load_vector(builder, address(context, builder, sig.args[0], *args))

    return register(array, index), generate


@instruction
def store(_: Any, array: Any, index: Any, value: Any) -> Any:
    """Store 16 floats from ``array[index]`` on."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        store_vector(builder, args[2], address(context, builder, sig.args[0], *args[:2]))
        return context.get_dummy_value()

    return types.void(array, index, value), generate


@instruction
def row_of(_: Any, table: Any, index: Any) -> Any:
    """Point to row ``index`` of a contiguous table of integers; its columns are ``row[column]``.

    A view of the row would be counted by numba when it is made and when it is left.
    """

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        made = context.make_array(sig.args[0])(context, builder, value=args[0])
        columns = cgutils.unpack_tuple(builder, made.shape, 2)[1]
        return builder.gep(made.data, [builder.mul(args[1], columns)])

    return types.CPointer(table.dtype)(table, index), generate


def _pointing(kind: Any, element: Any) -> Any:
    """Make an instruction that points to the numbers at an address."""

    def point(_: Any, number: Any) -> Any:
        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return builder.inttoptr(args[0], element.as_pointer())

        return types.CPointer(kind)(types.int64), generate

    return instruction(point)


floats_at = _pointing(types.float32, FLOAT)
"""The floats at an address, such as ``data_ptr`` of a tensor gives."""
integers_at = _pointing(types.int64, INT64)
"""The 64-bit integers at an address."""


@instruction
def prefetch(_: Any, array: Any, index: Any) -> Any:
    """Prefetch the memory around ``array[index]``."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = address(context, builder, sig.args[0], *args)
        pointer = builder.bitcast(pointer, ir.IntType(8).as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [pointer.type, INT32, INT32, INT32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [pointer, INT32(0), INT32(3), INT32(1)])  # read, keep, data
        return context.get_dummy_value()

    return types.void(array, index), generate


@instruction
def fill(_: Any, scalar: Any) -> Any:
    """16 times one float."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return spread(builder, context.cast(builder, args[0], sig.args[0], types.float32))

    return register(scalar), generate


@instruction
def broadcast(_: Any, array: Any, index: Any) -> Any:
    """16 times ``array[index]``, the index not negative: Python's indexing would check that."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return spread(builder, builder.load(address(context, builder, sig.args[0], *args)))

    return register(array, index), generate


@instruction
def fma(_: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return multiply_add(builder, *args)

    return register(a, b, c), generate


@instruction
def has_512_bits(_: Any) -> Any:
    """Whether a register of this CPU holds 16 floats; constant when a kernel is compiled."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        features = context.codegen().magic_tuple()[2].split(",")
        return ir.Constant(ir.IntType(1), int("+avx512f" in features))

    return types.boolean(), generate


@instruction
def square_root(_: Any, a: Any) -> Any:
    """The square root; NaN below 0."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = ir.FunctionType(FLOATS, [FLOATS])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.sqrt.v16f32")
        return builder.call(function, args)

    return register(a), generate


@instruction
def where_less(_: Any, a: Any, b: Any, yes: Any, no: Any) -> Any:
    """``yes`` where a < b, else ``no``."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        a, b, yes, no = args
        return builder.select(builder.fcmp_ordered("<", a, b), yes, no)

    return register(a, b, yes, no), generate


@instruction
def add_exponent(_: Any, value: Any, shifted: Any) -> Any:
    """value * 2**n, n the lowest bits of ``shifted``; for results that are normal numbers."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        value, shifted = (builder.bitcast(arg, INTS) for arg in args)
        exponent = builder.shl(shifted, ir.Constant(INTS, [23] * LANES))
        return builder.bitcast(builder.add(value, exponent), FLOATS)

    return register(value, shifted), generate


def _folded(combine: Callable[[Any, Any, Any], Any]) -> Any:
    """Sum by halves: 16, 8, 4, 2, 1 numbers."""

    def fold(_: Any, a: Any) -> Any:
        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            (vector,), width = args, LANES
            while width > 1:
                width //= 2
                order = [(lane + width) % LANES for lane in range(LANES)]
                other = builder.shuffle_vector(vector, vector, ir.Constant(INTS, order))
                vector = combine(builder, vector, other)
            return builder.extract_element(vector, INT32(0))

        return types.float32(a), generate

    return instruction(fold)


def _larger(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


def _smaller(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.fcmp_ordered("<", a, b), a, b)


sum_of = _folded(lambda builder, a, b: builder.fadd(a, b))
largest_of = _folded(_larger)


def _lane_by_lane(combine: Callable[[Any, Any, Any], Any]) -> Any:
    def operation(_: Any, a: Any, b: Any) -> Any:
        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return combine(builder, *args)

        return register(a, b), generate

    return instruction(operation)


maximum = _lane_by_lane(_larger)
minimum = _lane_by_lane(_smaller)


def _operator(function: Any, instruction: str) -> None:
    """Bind a Python operator to an instruction."""

    class Signature(ConcreteTemplate):
        cases = [signature(register, register, register)]  # noqa: RUF012

    infer_global(function)(Signature)

    @lower_builtin(function, register, register)
    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return getattr(builder, instruction)(*args)


for _function, _instruction in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _operator(_function, _instruction)
