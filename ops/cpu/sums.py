"""Kernels of sums over axes, with a bounded error that results at any number of threads share bit by bit.

Rows are summed in blocks of 1024 in their own dtype, in vector lanes; columns eight rows at a time. Blocks are added in float64. With
u = 2^-24 for float32 (2^-53 for float64), eight lanes or more, and the sum of |x| over what is added up, the error is at most

    (1024 / 8 + 3) u sum |x|    along rows, a twelfth of that with AVX-512,        7 u sum |x|    down columns,

plus u |sum| for rounding the result, however many elements there are.

Columns are taken 1024 at a time, whose sums stay in the first-level cache: whole rows where they are no longer, so that memory is read in
order. Threads therefore share out blocks of rows, not columns.
"""

from __future__ import annotations

import numpy as np

from tinygrad_cv.kernels.jit import REDUCTION, helper, kernel
from tinygrad_cv.kernels.shares import span

BLOCK = 1024  # elements of a row summed in its own dtype
_COLUMNS = 1024  # most columns taken at a time


@helper(fastmath=REDUCTION)
def row_sum(row):
    """The sum of a row, in vector lanes.

    A loop of its own: LLVM gives a loop that also stores two forms, with sums in two orders, and picks one by the distance of the arrays.
    """
    total = row.dtype.type(0)
    for j in range(row.size):
        total += row[j]
    return total


@kernel(fastmath=REDUCTION)
def row_blocks(x, parts, shares, share):
    """parts[r, b], float64: the sum of block b of row r of x, (R, D)."""
    rows, blocks = parts.shape
    for task in range(*span(rows * blocks, shares, share)):
        r, b = task // blocks, task % blocks
        parts[r, b] = row_sum(x[r, b * BLOCK : min(x.shape[1], (b + 1) * BLOCK)])


@kernel(fastmath=REDUCTION)
def row_sums(x, out, shares, share):
    """out[r], the sum over j of x[r, j]. Rows are shared out."""
    size = x.shape[1]
    for r in range(*span(x.shape[0], shares, share)):
        total = 0.0
        for start in range(0, size, BLOCK):
            total += row_sum(x[r, start : min(size, start + BLOCK)])
        out[r] = total


@helper
def _add_rows(x, start, n, total):
    """total[:n] becomes the sum over rows of x[:, start : start + n]."""
    rows, stop = x.shape[0], start + n
    total[:n] = 0.0
    whole = rows // 8 * 8
    for i in range(0, whole, 8):
        a, b, c, d = x[i, start:stop], x[i + 1, start:stop], x[i + 2, start:stop], x[i + 3, start:stop]
        e, f, g, h = x[i + 4, start:stop], x[i + 5, start:stop], x[i + 6, start:stop], x[i + 7, start:stop]
        for j in range(n):
            total[j] += ((a[j] + b[j]) + (c[j] + d[j])) + ((e[j] + f[j]) + (g[j] + h[j]))
    for i in range(whole, rows):
        row = x[i, start:stop]
        for j in range(n):
            total[j] += row[j]


@kernel
def column_sums(x, out, shares, share):
    """out[o, c], the sum over r of x[o, r, c]. Pieces of rows of out are shared out."""
    columns = x.shape[2]
    pieces = -(-columns // _COLUMNS)
    total = np.empty(_COLUMNS, np.float64)
    for task in range(*span(x.shape[0] * pieces, shares, share)):
        o, start = task // pieces, task % pieces * _COLUMNS
        n = min(_COLUMNS, columns - start)
        _add_rows(x[o], start, n, total)
        for j in range(n):
            out[o, start + j] = total[j]


@kernel
def column_blocks(x, parts, shares, share):
    """parts[o, b, c], float64: the sum over block b of the rows r of x[o, r, c]. Blocks are shared out."""
    rows, columns, blocks = x.shape[1], x.shape[2], parts.shape[1]
    pieces = -(-columns // _COLUMNS)
    total = np.empty(_COLUMNS, np.float64)
    for task in range(*span(x.shape[0] * blocks * pieces, shares, share)):
        o, b, start = task // (blocks * pieces), task // pieces % blocks, task % pieces * _COLUMNS
        n = min(_COLUMNS, columns - start)
        _add_rows(x[o, rows * b // blocks : rows * (b + 1) // blocks], start, n, total)
        for j in range(n):
            parts[o, b, start + j] = total[j]


@kernel
def add_parts(parts, out, shares, share):
    """out[i, k], flat: the sum over j and l of parts[i, j, k, l], float64."""
    outer, rows, kept, blocks = parts.shape
    for task in range(*span(outer * kept, shares, share)):
        i, k = task // kept, task % kept
        total = 0.0
        for j in range(rows):
            for b in range(blocks):
                total += parts[i, j, k, b]
        out[task] = total
