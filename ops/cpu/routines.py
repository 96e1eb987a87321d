"""What kernels in vector code share: functions that stay functions of their own, and rows of zeros."""

from __future__ import annotations

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from tinygrad_cv.kernels.vector import Writer


@intrinsic
def zero_row(typing_context, target, target_at, count):
    """target[target_at + i] = 0 for i < count."""

    def codegen(context, builder, signature, args):
        writer = Writer(context, builder, target.dtype)
        begin = writer.at(writer.data(target, args[0]), args[1])
        lanes = ir.Constant(ir.IntType(64), writer.lanes)
        vectors = builder.sdiv(args[2], lanes)
        with cgutils.for_range(builder, vectors) as loop:
            writer.store(writer.zero, writer.at(begin, builder.mul(loop.index, lanes)))
        done = builder.mul(vectors, lanes)
        writer.store_first(writer.zero, writer.at(begin, done), builder.sub(args[2], done))
        return context.get_dummy_value()

    return types.void(target, types.intp, types.intp), codegen


def routine(function):
    """A function that kernels call and that stays a function of its own, if it begins with `stay_apart()`."""
    return numba.njit(error_model="numpy")(function)


@intrinsic
def stay_apart(typing_context):
    """Keeps the function that calls it from being inlined: LLVM otherwise multiplies it while it rearranges its callers'
    loops."""

    def codegen(context, builder, signature, args):
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.void(), codegen
