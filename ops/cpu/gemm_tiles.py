"""Matrix products of moderate size: register tiles that read both operands where they are, without packing.

Two tiles cover the layouts of training. `outer_tile` sums a column of scalars of A times a row of vectors of B, for B with
contiguous rows (x @ W and g^T @ x). `inner_tile` sums vectors of A times vectors of B along the summed axis, for A and B^T with
contiguous rows (x @ W^T). A tile is rows x VECTORS (or rows x 4 columns) of sums that stay in registers for the whole sum; B
streams from the second-level cache; products that do not fit there are for `gemm_blocks`.

Bounds: the last, incomplete vector of a row is read and written under a mask; nothing outside the operands is touched. Work is
shared out by panels of columns, or by rows where there are fewer panels than threads; each element of C is written by one thread
and summed in one order, whatever the number of threads.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from tinygrad_cv.kernels.jit import helper, kernel
from tinygrad_cv.kernels.shares import span

from .tiles import REGISTER_BYTES, VECTORS, Writer

_COLUMNS = 4  # that an inner tile serves at once


def _constant(value: int):
    return ir.Constant(ir.IntType(64), value)


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
        a_rows = [writer.at(writer.data(a, a_value), a_at, builder.mul(a_row, _constant(r))) for r in range(height)]
        c_rows = [writer.at(writer.data(c, c_value), c_at, builder.mul(c_row, _constant(r))) for r in range(height)]
        b_begin = writer.at(writer.data(b, b_value), b_at)

        def body(width: int, masked: bool) -> None:
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

        done = builder.append_basic_block("tile.done")
        switch = builder.switch(vectors, done)
        for width in range(VECTORS + 1):
            block = builder.append_basic_block(f"tile.{width}")
            switch.add_case(_constant(width), block)
            builder.position_at_end(block)
            body(max(width, 1), masked=width == 0)
            builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic(prefer_literal=True)
def inner_tile(typing_context, rows, columns, a, a_at, a_row, b, b_at, b_row, c, c_at, c_row, count):
    """c[c_at + r * c_row + t] = sum over k < count of a[a_at + r * a_row + k] * b[b_at + t * b_row + k] for r < rows, t < columns."""
    if not isinstance(rows, types.IntegerLiteral) or not isinstance(columns, types.IntegerLiteral):
        return None
    height, width = rows.literal_value, columns.literal_value
    whole = types.intp
    signature = types.void(rows, columns, a, whole, whole, b, whole, whole, c, whole, whole, whole)

    def codegen(context, builder, signature, args):
        _, _, a_value, a_at, a_row, b_value, b_at, b_row, c_value, c_at, c_row, count = args
        writer = Writer(context, builder, a.dtype)
        a_rows = [writer.at(writer.data(a, a_value), a_at, builder.mul(a_row, _constant(r))) for r in range(height)]
        b_rows = [writer.at(writer.data(b, b_value), b_at, builder.mul(b_row, _constant(t))) for t in range(width)]
        c_rows = [writer.at(writer.data(c, c_value), c_at, builder.mul(c_row, _constant(r))) for r in range(height)]
        held = [[cgutils.alloca_once(builder, writer.vector) for _ in range(width)] for _ in range(height)]
        for row in held:
            for variable in row:
                builder.store(writer.zero, variable)
        lanes = _constant(writer.lanes)
        vectors = builder.sdiv(count, lanes)

        def step(k, load) -> None:
            seen = [load(writer.at(line, k)) for line in b_rows]
            for r in range(height):
                value = load(writer.at(a_rows[r], k))
                for t in range(width):
                    writer.fma(value, seen[t], held[r][t])

        with cgutils.for_range(builder, vectors) as loop:
            step(builder.mul(loop.index, lanes), writer.load)
        whole_part = builder.mul(vectors, lanes)
        left = builder.sub(count, whole_part)
        with builder.if_then(builder.icmp_signed(">", left, _constant(0))):
            step(whole_part, lambda place: writer.load_first(place, left))
        for r in range(height):
            for t in range(width):
                builder.store(writer.total(builder.load(held[r][t])), writer.at(c_rows[r], t))
        return context.get_dummy_value()

    return signature, codegen


@helper
def outer_rows(a, a_row, a_step, b, b_at, b_step, c, c_at, c_row, rows, vectors, tail, count, adding):
    """One panel of columns, all rows."""
    i = 0
    while i + 6 <= rows:
        outer_tile(6, vectors, tail, a, i * a_row, a_row, a_step, b, b_at, b_step, c, c_at + i * c_row, c_row, count, adding)
        i += 6
    while i + 3 <= rows:
        outer_tile(3, vectors, tail, a, i * a_row, a_row, a_step, b, b_at, b_step, c, c_at + i * c_row, c_row, count, adding)
        i += 3
    while i < rows:
        outer_tile(1, vectors, tail, a, i * a_row, a_row, a_step, b, b_at, b_step, c, c_at + i * c_row, c_row, count, adding)
        i += 1


@kernel
def outer_product(a, b, c, a_row, a_step, rows, columns, count, shares, share):
    """A share of c (rows, columns) = A @ B with B (count, columns) row-major, A[i, k] = a[i * a_row + k * a_step]; all flat."""
    lanes = REGISTER_BYTES // a.itemsize
    panel = VECTORS * lanes
    panels = (columns + panel - 1) // panel
    first, stop, first_panel, stop_panel = 0, rows, 0, panels
    if panels >= shares:
        first_panel, stop_panel = span(panels, shares, share)
    else:
        first, stop = span(rows, shares, share)
    mine, at = a[first * a_row :], first * columns
    for p in range(first_panel, stop_panel):
        column = p * panel
        width = min(panel, columns - column)
        vectors = width // lanes
        if vectors > 0:
            outer_rows(mine, a_row, a_step, b, column, columns, c, at + column, columns, stop - first, vectors, 0, count, False)
        tail = width - vectors * lanes
        if tail > 0:
            column += vectors * lanes
            outer_rows(mine, a_row, a_step, b, column, columns, c, at + column, columns, stop - first, 0, tail, count, False)


@helper
def _inner_columns(a, b, c, columns, first, stop, i, height, count):
    """`height` (6 or 1) rows from i on, columns first to stop."""
    j = first
    if height == 6:
        while j + 4 <= stop:
            inner_tile(6, 4, a, i * count, count, b, j * count, count, c, i * columns + j, columns, count)
            j += 4
        while j < stop:
            inner_tile(6, 1, a, i * count, count, b, j * count, count, c, i * columns + j, columns, count)
            j += 1
    else:
        while j + 4 <= stop:
            inner_tile(1, 4, a, i * count, count, b, j * count, count, c, i * columns + j, columns, count)
            j += 4
        while j < stop:
            inner_tile(1, 1, a, i * count, count, b, j * count, count, c, i * columns + j, columns, count)
            j += 1


@kernel
def inner_product(a, b, c, rows, columns, count, shares, share):
    """A share of c (rows, columns) = A @ B^T with A (rows, count) and B (columns, count), all row-major and flat."""
    first_row, stop_row, first, stop = 0, rows, 0, columns
    if columns >= 4 * shares:
        first, stop = columns * share // shares // 4 * 4, columns * (share + 1) // shares // 4 * 4
        if share == shares - 1:
            stop = columns
    else:
        first_row, stop_row = span(rows, shares, share)
    i = first_row
    while i + 6 <= stop_row:
        _inner_columns(a, b, c, columns, first, stop, i, 6, count)
        i += 6
    while i < stop_row:
        _inner_columns(a, b, c, columns, first, stop, i, 1, count)
        i += 1
