"""Single machine instructions that Python has no name for: they keep loops free of branches and calls, so LLVM vectorises them.

All take and return float32 or float64 scalars (whichever they are given), except the conversions named by their types.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic


def _unary(name):
    def typed(typing_context, x):
        if not isinstance(x, types.Float):
            return None

        def generate(context, builder, signature, arguments):
            kind = arguments[0].type
            function = builder.module.declare_intrinsic(name, [kind])
            return builder.call(function, arguments)

        return x(x), generate

    typed.__name__ = name.rsplit(".", 1)[-1]
    return intrinsic(typed)


def _binary(name):
    def typed(typing_context, x, y):
        if not isinstance(x, types.Float) or x != y:
            return None

        def generate(context, builder, signature, arguments):
            kind = arguments[0].type
            function = builder.module.declare_intrinsic(name, [kind], ir.FunctionType(kind, [kind, kind]))
            return builder.call(function, arguments)

        return x(x, y), generate

    typed.__name__ = name.rsplit(".", 1)[-1]
    return intrinsic(typed)


floor = _unary("llvm.floor")
ceil = _unary("llvm.ceil")
trunc = _unary("llvm.trunc")
rint = _unary("llvm.rint")  # half to even
sqrt = _unary("llvm.sqrt")  # nan below zero
fabs = _unary("llvm.fabs")
copysign = _binary("llvm.copysign")


@intrinsic
def fma(typing_context, x, y, z):
    """x * y + z, rounded once."""
    if not isinstance(x, types.Float) or x != y or x != z:
        return None

    def generate(context, builder, signature, arguments):
        return builder.fma(*arguments)

    return x(x, y, z), generate


@intrinsic
def select(typing_context, condition, x, y):
    """x if condition else y, both already computed."""
    if not isinstance(condition, types.Boolean) or x != y:
        return None

    def generate(context, builder, signature, arguments):
        return builder.select(arguments[0], arguments[1], arguments[2])

    return x(condition, x, y), generate


@intrinsic
def bits32(typing_context, x):
    """The bits of a float32, as int32."""

    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.IntType(32))

    return types.int32(types.float32), generate


@intrinsic
def float32_of_bits(typing_context, x):
    """The float32 with the bits of an int32."""

    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), generate


@intrinsic
def int32_of(typing_context, x):
    """The int32 nearest to zero of a float32 in range."""

    def generate(context, builder, signature, arguments):
        return builder.fptosi(arguments[0], ir.IntType(32))

    return types.int32(types.float32), generate


@intrinsic
def bits64(typing_context, x):
    """The bits of a float64, as int64."""

    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.IntType(64))

    return types.int64(types.float64), generate


@intrinsic
def float64_of_bits(typing_context, x):
    """The float64 with the bits of an int64."""

    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.DoubleType())

    return types.float64(types.int64), generate
