"""The loops round the micro-kernels: how a matrix product is cut so that each part meets its operands in the right cache.

The scheme is that of Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", 2008. C is cut into shares, one for each
thread; a share into blocks of columns; for each, BLOCK_DEPTH of the summed axis at a time are taken:

    of B  (BLOCK_DEPTH, BLOCK_COLUMNS)   in panels as wide as a tile, one after the other, which is how micro_panel reads them
    of A  (BLOCK_ROWS, BLOCK_DEPTH)      with a row length that does not map all rows to the same lines of the cache

Both stay in the second-level cache while each element of A's block is used BLOCK_COLUMNS times and of B's BLOCK_ROWS times. What lies
well is read where it is; what does not is packed: copied into that order on its way through the cache, turned in registers if need be.

Every sum runs along the summed axis in order, BLOCK_DEPTH elements at a time, whatever the layout, the share and the tile: the number of
threads changes no bit. Only products of up to FEW_ROWS rows (or with one column), whose operands both lie along the summed axis, sum
in vectors.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numba import types
from numba.extending import intrinsic

from tinygrad_cv.kernels.jit import kernel
from tinygrad_cv.kernels.shares import call_share, span
from tinygrad_cv.kernels.vector import MASKED_LOADS, REGISTER_BYTES, ROWS, VECTORS, address, bytes_of

from .gemm_micro import dot_panel, micro_panel, pack

BLOCK_ROWS = 16 * ROWS
BLOCK_DEPTH = 512
BLOCK_PANELS = 8
FEW_ROWS = 4  # up to so many rows of A, B is read along the summed axis if it lies so; turning it would cost more
SHALLOW = 8  # up to so long a summed axis, blocks of A are of few rows
MANY_ROWS = 64  # from so many rows of A on, copying B pays where it lies badly
PAGE = 4096  # bytes; rows at such distances fall on the same lines of the first-level cache
SPREAD = 1 << 16  # bytes over which the columns of A may lie and still be read in place


@intrinsic
def keep(typing_context, array):
    """Keeps an array alive up to here: Numba does not know that addresses stand for it."""
    return types.void(array), lambda context, builder, signature, args: context.get_dummy_value()


@lru_cache(maxsize=1024)
def split_rows(rows: int, columns: int, count: int, shares: int, size: int) -> int:
    """Into how many parts to cut the rows, a divisor of `shares`, so that the longest share is short and little is packed twice.

    Where columns are cut, what one core fetches ahead along a row of C belongs to another, which costs some hundred cycles a row.
    """
    lanes = REGISTER_BYTES // size
    if columns == 1:
        rows, columns = columns, rows

    def cost(by_rows: int) -> int:
        high = -(-rows // by_rows)
        vectors = -(-columns // lanes)
        wide = -(-vectors // (shares // by_rows)) * lanes
        return high * wide * (count + 16) + 8 * count * (high + wide) + (4096 * high if by_rows < shares else 0)

    return min((n for n in range(1, shares + 1) if shares % n == 0), key=cost)


@kernel
def product_share(c, a, b, d, adding, alpha, beta, lowest, by_rows, inner, parts, shares, share):
    """A share of c = max(lowest, alpha * a @ b + beta * d), d being read if `adding`.

    c and d: rows of elements side by side; one row of d serves all rows of c. by_rows: into how many parts the rows are cut. inner,
    parts: for `batch_share`.
    """
    one = c.dtype.type(1)
    scale, more, floor, open_ended = c.dtype.type(alpha), c.dtype.type(beta), c.dtype.type(lowest), c.dtype.type(-np.inf)
    size = bytes_of(one)
    rows, columns, count = c.shape[0], c.shape[1], a.shape[1]
    a_at, b_at, c_at, d_at = address(a, 0), address(b, 0), address(c, 0), address(d, 0)
    (a_row, a_step), (b_step, b_column), c_row = a.strides, b.strides, c.strides[0]
    d_row = d.strides[0] if d.shape[0] > 1 else 0
    if columns == 1:  # the transposed product has its one column as a row
        rows, columns = columns, rows
        a_at, b_at = b_at, a_at
        a_row, a_step, b_step, b_column = b_column, b_step, a_step, a_row
    lanes = REGISTER_BYTES // size
    panel = VECTORS * lanes
    first, stop, left, right = 0, rows, 0, columns
    if shares > 1:
        i, j, across = share % by_rows, share // by_rows, shares // by_rows
        first, stop = rows * i // by_rows, rows * (i + 1) // by_rows
        left = (columns + lanes - 1) // lanes * j // across * lanes
        right = min(columns, (columns + lanes - 1) // lanes * (j + 1) // across * lanes)
    high, wide = stop - first, right - left
    if high <= 0 or wide <= 0:
        return
    if rows <= FEW_ROWS and a_step == size and b_step == size and b_column != size:
        b_at += left * b_column
        to, also = c_at + first * c_row + left * size, d_at + first * d_row + left * size
        dot_panel(
            wide, high, count, a_at + first * a_row, a_row, b_at, b_column, to, c_row, also, d_row, adding, scale, more, floor
        )
        return
    blocks = max(1, (count + BLOCK_DEPTH - 1) // BLOCK_DEPTH)
    deepest = (count + blocks - 1) // blocks
    pack_b = b_column != size or (high >= MANY_ROWS and (b_step % PAGE == 0 or count > BLOCK_DEPTH or high > 2 * BLOCK_ROWS))
    if not MASKED_LOADS and wide % lanes != 0:
        pack_b = True
    if a_step == size:
        pack_a = wide > panel and a_row % (PAGE // 4) == 0
    else:
        pack_a = wide > panel and (a_row != size or abs(count * a_step) > SPREAD)
    block_rows = BLOCK_ROWS if count > SHALLOW else 2 * ROWS  # shallow: C is what moves, and rows of C go out almost in order
    kept = min(BLOCK_PANELS, (wide + panel - 1) // panel) if high > block_rows else 1
    packed_a = packed_b = 0
    if pack_a or pack_b:
        room_a = (BLOCK_ROWS + 2 * lanes) * (deepest + 2 * lanes) if pack_a else 0
        room = np.empty(room_a + (kept * deepest + lanes) * panel, c.dtype)
        packed_a = address(room, 0)
        packed_b = packed_a + room_a * size
    for column in range(left, right, BLOCK_PANELS * panel):
        width = min(BLOCK_PANELS * panel, right - column)
        for q in range(blocks):
            k = count * q // blocks
            depth = count * (q + 1) // blocks - k
            bound = floor if q == blocks - 1 else open_ended
            for row in range(first, stop, block_rows):
                height = min(block_rows, stop - row)
                from_a, from_row, from_step = a_at + row * a_row + k * a_step, a_row, a_step
                if pack_a:
                    if a_row == size:
                        from_row, from_step = size, (BLOCK_ROWS + 2 * lanes) * size
                        pack(from_a, a_step, a_row, packed_a, from_step, depth, height, one)
                    else:
                        from_row, from_step = (deepest + 2 * lanes) * size, size
                        pack(from_a, a_row, a_step, packed_a, from_row, height, depth, one)
                    from_a = packed_a
                for p in range((width + panel - 1) // panel):
                    j = column + p * panel
                    n = min(panel, right - j)
                    from_b, line = b_at + k * b_step + j * b_column, b_step
                    if pack_b:
                        line = (panel if kept > 1 else (n + lanes - 1) // lanes * lanes) * size
                        at = packed_b + (p * deepest * line if kept > 1 else 0)
                        if row == first or kept == 1:
                            pack(from_b, b_step, b_column, at, line, depth, n, one)
                        from_b = at
                    to = c_at + row * c_row + j * size
                    also, also_row, factor, add = d_at + row * d_row + j * size, d_row, more, adding
                    if q > 0:
                        also, also_row, factor, add = to, c_row, one, 1
                    micro_panel(
                        n, height, depth, from_a, from_row, from_step, from_b, line, to, c_row, also, also_row, add, scale, factor, bound,
                    )  # fmt: skip
    if pack_a or pack_b:
        keep(room)


@kernel
def small_product(c, a, b, address):
    """c = a @ b by `product_share`, compiled at `address`: a call with few arguments costs half."""
    call_share(
        address, np.int64(0), (c, a, b, c, np.int64(0), 1.0, 1.0, -np.inf, np.int64(1), np.int64(0), np.int64(1), np.int64(1))
    )


@kernel
def batch_share(c, a, b, d, adding, alpha, beta, lowest, by_rows, inner, parts, shares, share):
    """A share of the products of two axes of matrices: `product_share`, compiled at the address `inner`, for `parts` shares of each."""
    across = c.shape[1]
    for task in range(*span(c.shape[0] * across * parts, shares, share)):
        i, j = task // parts // across, task // parts % across
        one = (c[i, j], a[i, j], b[i, j], d[i, j], adding, alpha, beta, lowest, by_rows, inner, parts, parts)
        call_share(inner, task % parts, one)
