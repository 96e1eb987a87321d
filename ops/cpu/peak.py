"""What the processor can do at best: multiply-adds from registers, bytes from memory. The yardsticks of `tinygrad_cv.profiler`."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from tinygrad_cv.kernels.jit import kernel, prange
from tinygrad_cv.kernels.vector import REGISTER_BYTES, Writer, constant

LANES = REGISTER_BYTES // 4
SUMS = 12  # held at once: a core needs some ten independent ones to be busy


@intrinsic
def _multiply_add(typing_context, steps, factor, addend):
    """SUMS vectors, each replaced `steps` times by itself * factor + addend; returns one element of their total."""

    def codegen(context, builder, signature, args):
        writer = Writer(context, builder, types.float32)
        by, plus = writer.spread(args[1]), writer.spread(args[2])
        starts = [ir.Constant(writer.vector, [float(i)] * writer.lanes) for i in range(SUMS)]
        held = [cgutils.alloca_once_value(builder, start) for start in starts]
        with cgutils.for_range(builder, args[0]):
            for variable in held:
                builder.store(writer.fused(builder.load(variable), by, plus), variable)
        total = builder.load(held[0])
        for variable in held[1:]:
            total = builder.fadd(total, builder.load(variable))
        return builder.extract_element(total, constant(0))

    return types.float32(types.intp, types.float32, types.float32), codegen


@kernel
def spin(steps, factor, addend, out):
    """out[i] = a number that takes `steps` * SUMS * LANES multiply-adds to find; one share for each thread."""
    for i in prange(out.size):
        out[i] = _multiply_add(steps, factor, addend)


@kernel
def triad(a, b, c, factor):
    """a = b + factor * c, of which memory sees three arrays (J. D. McCalpin, STREAM)."""
    for i in prange(a.size):
        a[i] = b[i] + factor * c[i]


__all__ = ["LANES", "SUMS", "spin", "triad"]
