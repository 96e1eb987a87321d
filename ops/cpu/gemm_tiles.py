"""The tile of the Winograd convolutions: a product of a few rows, whose number is known when it is compiled.

Their operands are packed already, so a bare tile serves them better than the loops of `gemm_micro`.
"""

from __future__ import annotations

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from tinygrad_cv.kernels.vector import VECTORS, Writer, constant, switch


@intrinsic(prefer_literal=True)
def outer_tile(typing_context, rows, vectors, tail, a, a_at, a_row, a_step, b, b_at, b_step, c, c_at, c_row, count, adding):
    """c[c_at + r * c_row + p] = sum over k < count of a[a_at + r * a_row + k * a_step] * b[b_at + k * b_step + p]

    for r < rows and p < vectors * lanes (vectors: 1 to VECTORS), or, with vectors = 0, p < tail. adding: += in place of =.
    """
    if not isinstance(rows, types.IntegerLiteral):
        return None
    height = rows.literal_value
    whole = types.intp
    signature = types.void(rows, whole, whole, a, whole, whole, whole, b, whole, whole, c, whole, whole, whole, types.boolean)

    def codegen(context, builder, signature, args):
        _, vectors, tail, a_value, a_at, a_row, a_step, b_value, b_at, b_step, c_value, c_at, c_row, count, adding = args
        writer = Writer(context, builder, a.dtype)
        a_rows = [writer.at(writer.data(a, a_value), a_at, builder.mul(a_row, constant(r))) for r in range(height)]
        c_rows = [writer.at(writer.data(c, c_value), c_at, builder.mul(c_row, constant(r))) for r in range(height)]
        b_begin = writer.at(writer.data(b, b_value), b_at)

        def body(vectors: int) -> None:
            width, masked = max(vectors, 1), vectors == 0
            held = [[cgutils.alloca_once_value(builder, writer.zero) for _ in range(width)] for _ in range(height)]
            for row in held:
                for variable in row:
                    builder.store(writer.zero, variable)
            with cgutils.for_range(builder, count) as loop:
                line = writer.at(b_begin, builder.mul(loop.index, b_step))
                places = [writer.at(line, v * writer.lanes) for v in range(width)]
                seen = [writer.load_first(p, tail) if masked else writer.load(p) for p in places]
                across = builder.mul(loop.index, a_step)
                for r in range(height):
                    scalar = writer.splat(writer.at(a_rows[r], across))
                    for v in range(width):
                        writer.fma(scalar, seen[v], held[r][v])
            results = [writer.at(line, v * writer.lanes) for line in c_rows for v in range(width)]
            sums = [variable for row in held for variable in row]
            with builder.if_then(adding):
                for place, variable in zip(results, sums, strict=True):
                    known = writer.load_first(place, tail) if masked else writer.load(place)
                    builder.store(builder.fadd(known, builder.load(variable)), variable)
            for place, variable in zip(results, sums, strict=True):
                value = builder.load(variable)
                writer.store_first(value, place, tail) if masked else writer.store(value, place)

        switch(builder, vectors, range(VECTORS + 1), body)
        return context.get_dummy_value()

    return signature, codegen
