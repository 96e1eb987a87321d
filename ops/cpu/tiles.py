"""Register tiles of the convolutions, and copies of rows and blocks, in vector code (see `tinygrad_cv.kernels.vector`).

`rows` must be a literal in the call of a tile, one of ROWS; the element type is that of the arrays (float32 or float64), which must
be contiguous.
Tiles read whole vectors: callers leave LANES_SLACK readable elements after what they ask for.
"""

from __future__ import annotations

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from tinygrad_cv.kernels.vector import LANES_SLACK, REGISTER_BYTES, VECTORS, Writer  # noqa: F401  (users of tiles need them)

ROWS = (1, 4, 6)
TAPS = 4  # kernel taps that a `dot_tile` serves at once


def _row_code(context, builder, signature, args, adding: bool):
    """Code of copy_row and add_row: whole vectors, then one masked."""
    source, _, target = signature.args[:3]
    source_value, source_at, target_value, target_at, count = args
    writer = Writer(context, builder, source.dtype)
    begin = writer.at(writer.data(source, source_value), source_at)
    end = writer.at(writer.data(target, target_value), target_at)
    lanes = ir.Constant(ir.IntType(64), writer.lanes)
    vectors = builder.sdiv(count, lanes)
    with cgutils.for_range(builder, vectors) as loop:
        p = builder.mul(loop.index, lanes)
        value, place = writer.load(writer.at(begin, p)), writer.at(end, p)
        writer.store(builder.fadd(writer.load(place), value) if adding else value, place)
    done = builder.mul(vectors, lanes)
    left = builder.sub(count, done)
    with builder.if_then(builder.icmp_signed(">", left, ir.Constant(ir.IntType(64), 0))):
        value, place = writer.load_first(writer.at(begin, done), left), writer.at(end, done)
        writer.store_first(builder.fadd(writer.load_first(place, left), value) if adding else value, place, left)
    return context.get_dummy_value()


@intrinsic
def copy_row(typing_context, source, source_at, target, target_at, count):
    """target[target_at + i] = source[source_at + i] for i < count; for the short rows of images."""
    return types.void(source, types.intp, target, types.intp, types.intp), lambda *code: _row_code(*code, adding=False)


@intrinsic
def copy_rows(typing_context, source, source_at, source_row, target, target_at, target_row, rows, count):
    """target[target_at + r * target_row + i] = source[source_at + r * source_row + i] for r < rows, i < count."""

    def codegen(context, builder, signature, args):
        _, source_at, source_row, _, target_at, target_row, rows, count = args
        writer = Writer(context, builder, source.dtype)
        begin, end = writer.at(writer.data(source, args[0]), source_at), writer.at(writer.data(target, args[3]), target_at)
        lanes, none = (ir.Constant(ir.IntType(64), n) for n in (writer.lanes, 0))
        vectors = builder.sdiv(count, lanes)
        done = builder.mul(vectors, lanes)
        left = builder.sub(count, done)
        with cgutils.for_range(builder, rows) as row:
            read = writer.at(begin, builder.mul(row.index, source_row))
            write = writer.at(end, builder.mul(row.index, target_row))
            with cgutils.for_range(builder, vectors) as loop:
                p = builder.mul(loop.index, lanes)
                writer.store(writer.load(writer.at(read, p)), writer.at(write, p))
            with builder.if_then(builder.icmp_signed(">", left, none)):
                writer.store_first(writer.load_first(writer.at(read, done), left), writer.at(write, done), left)
        return context.get_dummy_value()

    whole = types.intp
    return types.void(source, whole, whole, target, whole, whole, whole, whole), codegen


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


@intrinsic
def add_row(typing_context, source, source_at, target, target_at, count):
    """target[target_at + i] += source[source_at + i] for i < count."""
    return types.void(source, types.intp, target, types.intp, types.intp), lambda *code: _row_code(*code, adding=True)


@intrinsic
def transpose_block(typing_context, source, source_at, source_row, target, target_at, target_row):
    """target[target_at + j * target_row + i] = source[source_at + i * source_row + j] for i, j < lanes."""

    def codegen(context, builder, signature, args):
        writer = Writer(context, builder, source.dtype)
        begin, end = writer.at(writer.data(source, args[0]), args[1]), writer.at(writer.data(target, args[3]), args[4])
        counts = [ir.Constant(ir.IntType(64), i) for i in range(writer.lanes)]
        rows = [writer.load(writer.at(begin, builder.mul(args[2], i))) for i in counts]
        for i, column in zip(counts, writer.transpose(rows), strict=True):
            writer.store(column, writer.at(end, builder.mul(args[5], i)))
        return context.get_dummy_value()

    return types.void(source, types.intp, types.intp, target, types.intp, types.intp), codegen


@intrinsic(prefer_literal=True)
def tap_tile(
    typing_context, rows, vectors, grid, start, offsets, first, count, weights, weights_at, initial, sums, sums_at, stride
):
    """sums[sums_at + r * stride + p] = initial[r] + sum over k < count of weights[weights_at + k * rows + r] * grid[start
    + offsets[first + k] + p]

    for r < rows and p < vectors * lanes. vectors: 1 to VECTORS.
    """
    if not isinstance(rows, types.IntegerLiteral):
        return None
    height = rows.literal_value
    whole = types.intp
    signature = types.void(rows, whole, grid, whole, offsets, whole, whole, weights, whole, initial, sums, whole, whole)

    def codegen(context, builder, signature, args):
        (
            _,
            vectors,
            grid_value,
            start,
            offsets_value,
            first,
            count,
            weights_value,
            weights_at,
            initial_value,
            sums_value,
            sums_at,
            stride,
        ) = args
        writer = Writer(context, builder, grid.dtype)
        x = writer.at(writer.data(grid, grid_value), start)
        o = writer.at(writer.data(offsets, offsets_value), first)
        w = writer.at(writer.data(weights, weights_value), weights_at)
        begin = writer.data(initial, initial_value)
        out = writer.at(writer.data(sums, sums_value), sums_at)
        lines = [writer.at(out, builder.mul(stride, ir.Constant(ir.IntType(64), r))) for r in range(height)]

        def body(width: int) -> None:
            held = [[cgutils.alloca_once(builder, writer.vector) for _ in range(width)] for _ in range(height)]
            for r in range(height):
                value = writer.splat(writer.at(begin, r))
                for v in range(width):
                    builder.store(value, held[r][v])
            with cgutils.for_range(builder, count) as loop:
                k = loop.index
                source = writer.at(x, builder.load(writer.at(o, k)))
                seen = [writer.load(writer.at(source, v * writer.lanes)) for v in range(width)]
                tap = writer.at(w, builder.mul(k, ir.Constant(ir.IntType(64), height)))
                for r in range(height):
                    weight = writer.splat(writer.at(tap, r))
                    for v in range(width):
                        writer.fma(weight, seen[v], held[r][v])
            for r in range(height):
                for v in range(width):
                    writer.store(builder.load(held[r][v]), writer.at(lines[r], v * writer.lanes))

        done = builder.append_basic_block("tile.done")
        switch = builder.switch(vectors, done)
        for width in range(1, VECTORS + 1):
            block = builder.append_basic_block(f"tile.{width}")
            switch.add_case(ir.Constant(ir.IntType(64), width), block)
            builder.position_at_end(block)
            body(width)
            builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic(prefer_literal=True)
def dot_tile(
    typing_context, rows, images, vectors, lines, lines_at, line_stride, line_image, grid, grid_at, grid_image, offsets, first, out, out_at,
    out_stride,
):  # fmt: skip
    """out[out_at + r * out_stride + t] += sum over images i and p < vectors * lanes of

    lines[lines_at + i * line_image + r * line_stride + p] * grid[grid_at + i * grid_image + offsets[first + t] + p], for r
    < rows and t < TAPS.
    """
    if not isinstance(rows, types.IntegerLiteral):
        return None
    height = rows.literal_value
    whole = types.intp
    signature = types.void(
        rows, whole, whole, lines, whole, whole, whole, grid, whole, whole, offsets, whole, out, whole, whole
    )  # fmt: skip

    def codegen(context, builder, signature, args):
        _, images, vectors, lines_value, lines_at, line_stride, line_image = args[:7]
        grid_value, grid_at, grid_image, offsets_value, first, out_value, out_at, out_stride = args[7:]
        writer = Writer(context, builder, grid.dtype)
        base = writer.at(writer.data(lines, lines_value), lines_at)
        x = writer.at(writer.data(grid, grid_value), grid_at)
        o = writer.at(writer.data(offsets, offsets_value), first)
        target = writer.at(writer.data(out, out_value), out_at)
        row_starts = [builder.mul(line_stride, ir.Constant(ir.IntType(64), r)) for r in range(height)]
        tap_starts = [builder.load(writer.at(o, t)) for t in range(TAPS)]
        held = [[cgutils.alloca_once(builder, writer.vector) for _ in range(TAPS)] for _ in range(height)]
        for row in held:
            for variable in row:
                builder.store(writer.zero, variable)
        with cgutils.for_range(builder, images) as image:
            g_image = writer.at(base, builder.mul(image.index, line_image))
            x_image = writer.at(x, builder.mul(image.index, grid_image))
            g_rows = [writer.at(g_image, s) for s in row_starts]
            x_taps = [writer.at(x_image, s) for s in tap_starts]
            with cgutils.for_range(builder, vectors) as loop:
                p = builder.mul(loop.index, ir.Constant(ir.IntType(64), writer.lanes))
                seen = [writer.load(writer.at(tap, p)) for tap in x_taps]
                for r in range(height):
                    g = writer.load(writer.at(g_rows[r], p))
                    for t in range(TAPS):
                        writer.fma(g, seen[t], held[r][t])
        for r in range(height):
            line = writer.at(target, builder.mul(out_stride, ir.Constant(ir.IntType(64), r)))
            for t in range(TAPS):
                place = writer.at(line, t)
                builder.store(builder.fadd(builder.load(place), writer.total(builder.load(held[r][t]))), place)
        return context.get_dummy_value()

    return signature, codegen


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
