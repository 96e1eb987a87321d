"""The register tile of the convolutions, as LLVM vector code.

One tile serves all passes. It sums scalars of one operand times vectors of the other, which it finds by a table:

    c[r, p] = sum over i < images, k < count of a[i * a_image + r * a_row + k] * x[i * x_image + offsets[k] + p]

forward: a are the weights of a filter where they lie, k its taps, p positions of the output; gradient in the input: the same with filters
and channels swapped; gradient in the weight: a is the gradient of the output where it lies, k positions, p taps.

`conv_panel` is compiled once, as a kernel of its own that takes addresses, and the convolution kernels call it where it lies: seconds
of compile time that each of them would pay again. Addresses are integers: those who pass them keep the arrays alive.
"""

from __future__ import annotations

from functools import cache

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from tinygrad_cv.kernels.jit import kernel
from tinygrad_cv.kernels.vector import REGISTER_BYTES, VECTORS, Writer, bytes_of, constant, switch

ADDING, RELU = 1, 2  # flags of `conv_panel`


@intrinsic(prefer_literal=True)
def _panel_tile(
    typing_context,
    rows,
    kind,
    vectors,
    tail,
    x,
    offsets,
    count,
    images,
    x_image,
    a,
    a_row,
    a_image,
    c,
    c_row,
    bias,
    scale,
    flags,
):
    """The module's sum for r < rows and p < vectors * lanes (vectors: 2 or 4), or, with vectors = 0, for p < tail <= lanes."""
    if not isinstance(rows, types.IntegerLiteral):
        return None
    height, whole = rows.literal_value, types.int64

    def codegen(context, builder, signature, args):
        _, _, vectors, tail, x, offsets, count, images, x_image, a, a_row, a_image, c, c_row, bias, scale, flags = args
        writer = Writer(context, builder, kind)
        x, a, c, bias, scale = (builder.inttoptr(v, writer.element.as_pointer()) for v in (x, a, c, bias, scale))
        offsets = builder.inttoptr(offsets, ir.IntType(64).as_pointer())

        def flag(which):
            return builder.icmp_signed("!=", builder.and_(flags, constant(which)), constant(0))

        def given(pointer):
            return builder.icmp_signed("!=", builder.ptrtoint(pointer, ir.IntType(64)), constant(0))

        def body(vectors: int) -> None:
            width, masked = max(vectors, 1), vectors == 0
            held = [[cgutils.alloca_once(builder, writer.vector) for _ in range(width)] for _ in range(height)]
            sums = [variable for row in held for variable in row]
            for variable in sums:
                builder.store(writer.zero, variable)
            with cgutils.for_range(builder, images) as image:
                x_begin = writer.at(x, builder.mul(image.index, x_image))
                a_begin = writer.at(a, builder.mul(image.index, a_image))
                a_rows = [writer.at(a_begin, builder.mul(a_row, constant(r))) for r in range(height)]
                with cgutils.for_range(builder, count) as loop:
                    line = writer.at(x_begin, builder.load(writer.at(offsets, loop.index)))
                    places = [writer.at(line, v * writer.lanes) for v in range(width)]
                    seen = [writer.load_first(p, tail) if masked else writer.load(p) for p in places]
                    for r in range(height):
                        scalar = writer.splat(writer.at(a_rows[r], loop.index))
                        for v in range(width):
                            writer.fma(scalar, seen[v], held[r][v])
            results = [
                writer.at(c, builder.mul(c_row, constant(r)), v * writer.lanes) for r in range(height) for v in range(width)
            ]
            load = (lambda p: writer.load_first(p, tail)) if masked else writer.load
            with builder.if_then(flag(ADDING)):
                for place, variable in zip(results, sums, strict=True):
                    builder.store(builder.fadd(load(place), builder.load(variable)), variable)
            with builder.if_then(given(bias)):
                with builder.if_then(given(scale)):
                    for r in range(height):
                        factor = writer.splat(writer.at(scale, r))
                        for variable in held[r]:
                            builder.store(builder.fmul(factor, builder.load(variable)), variable)
                for r in range(height):
                    shift = writer.splat(writer.at(bias, r))
                    for variable in held[r]:
                        builder.store(builder.fadd(shift, builder.load(variable)), variable)
            with builder.if_then(flag(RELU)):
                for variable in sums:
                    value = builder.load(variable)
                    negative = builder.fcmp_ordered("<", value, writer.zero)
                    builder.store(builder.select(negative, writer.zero, value), variable)
            for place, variable in zip(results, sums, strict=True):
                value = builder.load(variable)
                writer.store_first(value, place, tail) if masked else writer.store(value, place)

        switch(builder, vectors, range(0, VECTORS + 1, 2), body)
        return context.get_dummy_value()

    return types.void(rows, kind, *(whole,) * 15), codegen


@kernel
def conv_panel(kind, x, offsets, count, images, x_image, width, a, a_row, a_image, rows, c, c_row, bias, scale, flags):
    """The module's sum for r < rows and p < width, times scale[r] (0: absent) plus bias[r] (0: absent), and no less than zero if
    flags hold RELU; added to what c holds if they hold ADDING. All but `kind`, a number of the element type, are integers."""
    size = bytes_of(kind)
    lanes = REGISTER_BYTES // size
    p = 0
    while p < width:
        vectors = min(VECTORS, (width - p) // lanes)
        vectors = 4 if vectors == 4 else vectors // 2 * 2
        tail, from_x, to = min(lanes, width - p), x + p * size, c + p * size
        r = 0
        while r < rows:
            left = rows - r
            from_a, at = a + r * a_row * size, to + r * c_row * size
            shift = bias + r * size if bias else 0
            factor = scale + r * size if scale else 0
            if left >= 6 and left != 8:
                _panel_tile(
                    6, kind, vectors, tail, from_x, offsets, count, images, x_image, from_a, a_row, a_image, at, c_row, shift, factor, flags
                )  # fmt: skip
                r += 6
            elif left >= 4:
                _panel_tile(
                    4, kind, vectors, tail, from_x, offsets, count, images, x_image, from_a, a_row, a_image, at, c_row, shift, factor, flags
                )  # fmt: skip
                r += 4
            elif left >= 2:
                _panel_tile(
                    2, kind, vectors, tail, from_x, offsets, count, images, x_image, from_a, a_row, a_image, at, c_row, shift, factor, flags
                )  # fmt: skip
                r += 2
            else:
                _panel_tile(
                    1, kind, vectors, tail, from_x, offsets, count, images, x_image, from_a, a_row, a_image, at, c_row, shift, factor, flags
                )  # fmt: skip
                r += 1
        p += max(1, vectors) * lanes


@cache
def panel_address(dtype: np.dtype) -> int:
    """Where the compiled `conv_panel` for a dtype starts."""
    return conv_panel.address((numba.from_dtype(dtype), *(types.int64,) * 15), ())
