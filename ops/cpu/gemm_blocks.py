"""Large matrix products, and those whose operands lie across memory: blocks are copied into order first, then multiplied by
`outer_tile`. The scheme is that of Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", 2008.

A share of the result is cut into blocks of BLOCK_COLUMNS columns; for each, BLOCK_DEPTH of the summed axis at a time are taken:

    of B  (BLOCK_DEPTH, BLOCK_COLUMNS)  copied into panels as wide as a tile, which is how tiles read it: one after the other
    of A  (BLOCK_ROWS, BLOCK_DEPTH)     copied with a row length that does not map all rows to the same lines of the cache

Both copies stay in the second-level cache while every element of A's is used BLOCK_COLUMNS times and of B's BLOCK_ROWS times. Copying
costs one move for each BLOCK_COLUMNS or `rows` multiplications. A transposed operand is turned in registers on the way.
"""

from __future__ import annotations

import numpy as np

from tinygrad_cv.kernels.jit import helper, kernel
from tinygrad_cv.kernels.shares import span

from .gemm_tiles import outer_rows
from .tiles import REGISTER_BYTES, ROWS, VECTORS, copy_row, transpose_block

BLOCK_ROWS = 16 * ROWS[-1]
BLOCK_DEPTH = 512
BLOCK_PANELS = 8


def buffer_size(dtype: np.dtype) -> tuple[int, int]:
    """Elements of the copies of A and of B that one share needs."""
    lanes = REGISTER_BYTES // dtype.itemsize
    pad = 2 * lanes
    return (BLOCK_ROWS + pad) * (BLOCK_DEPTH + pad), BLOCK_PANELS * VECTORS * lanes * BLOCK_DEPTH + VECTORS * lanes


@helper
def _copy_turned(source, at, row, count, target, to, target_row, columns, lanes):
    """target[to + k * target_row + j] = source[at + j * row + k] for k < count, j < columns."""
    for j in range(0, columns - columns % lanes, lanes):
        for k in range(0, count - count % lanes, lanes):
            transpose_block(source, at + j * row + k, row, target, to + k * target_row + j, target_row)
        for k in range(count - count % lanes, count):
            for i in range(j, j + lanes):
                target[to + k * target_row + i] = source[at + i * row + k]
    for j in range(columns - columns % lanes, columns):
        for k in range(count):
            target[to + k * target_row + j] = source[at + j * row + k]


@helper
def _pack_columns(b, at, step, column, depth, width, packed, panel, lanes):
    """Panels of B: packed[p, k, j] = b[at + k * step + (p * panel + j) * column]."""
    for p in range((width + panel - 1) // panel):
        to, n = p * panel * depth, min(panel, width - p * panel)
        if column == 1:
            for k in range(depth):
                copy_row(b, at + k * step + p * panel, packed, to + k * panel, n)
        elif step == 1:
            _copy_turned(b, at + p * panel * column, column, depth, packed, to, panel, n, lanes)
        else:
            for k in range(depth):
                for j in range(n):
                    packed[to + k * panel + j] = b[at + k * step + (p * panel + j) * column]


@kernel
def blocked_product(a, b, c, copies_a, copies_b, a_row, a_step, b_step, b_column, rows, columns, count, by_rows, shares, share):
    """A share of c (rows, columns) = A @ B, A[i, k] = a[i * a_row + k * a_step], B[k, j] = b[k * b_step + j * b_column]; all flat.

    copies_a, copies_b: (shares, ...) as `buffer_size` says. by_rows: into how many parts the rows are cut, a divisor of shares.
    """
    lanes = REGISTER_BYTES // a.itemsize
    panel = VECTORS * lanes
    block_columns = BLOCK_PANELS * panel
    first_block, stop_block = span((rows + ROWS[-1] - 1) // ROWS[-1], by_rows, share % by_rows)
    first_panel, stop_panel = span((columns + panel - 1) // panel, shares // by_rows, share // by_rows)
    first, stop = first_block * ROWS[-1], min(rows, stop_block * ROWS[-1])
    left, right = first_panel * panel, min(columns, stop_panel * panel)
    packed_a, packed_b = copies_a[share], copies_b[share]
    for column in range(left, right, block_columns):
        width = min(block_columns, right - column)
        for k in range(0, count, BLOCK_DEPTH):
            depth = min(BLOCK_DEPTH, count - k)
            _pack_columns(b, k * b_step + column * b_column, b_step, b_column, depth, width, packed_b, panel, lanes)
            for row in range(first, stop, BLOCK_ROWS):
                height = min(BLOCK_ROWS, stop - row)
                at = row * a_row + k * a_step
                if a_row == 1:
                    pack_row, pack_step = 1, BLOCK_ROWS + 2 * lanes
                    for j in range(depth):
                        copy_row(a, at + j * a_step, packed_a, j * pack_step, height)
                else:
                    pack_row, pack_step = BLOCK_DEPTH + 2 * lanes, 1
                    for i in range(height):
                        if a_step == 1:
                            copy_row(a, at + i * a_row, packed_a, i * pack_row, depth)
                        else:
                            for j in range(depth):
                                packed_a[i * pack_row + j] = a[at + i * a_row + j * a_step]
                for p in range((width + panel - 1) // panel):
                    n, source, to = min(panel, width - p * panel), p * panel * depth, row * columns + column + p * panel
                    whole = n // lanes * lanes
                    if whole > 0:
                        outer_rows(
                            packed_a, pack_row, pack_step, packed_b, source, panel, c, to, columns, height, n // lanes, 0, depth, k > 0
                        )  # fmt: skip
                    if n > whole:
                        source, to = source + whole, to + whole
                        outer_rows(
                            packed_a, pack_row, pack_step, packed_b, source, panel, c, to, columns, height, 0, n - whole, depth, k > 0
                        )  # fmt: skip
