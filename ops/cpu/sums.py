"""Kernels of sums over axes, with a bounded error that results at any number of threads share bit by bit.

Rows are summed in blocks of 1024 in their own dtype, in vector lanes; columns eight rows at a time. Blocks are added in float64. With
u = 2^-24 for float32 (2^-53 for float64), eight lanes or more, and the sum of |x| over what is added up, the error is at most

    (1024 / 8 + 3) u sum |x|    along rows, a twelfth of that with AVX-512,        7 u sum |x|    down columns,

plus u |sum| for rounding the result, however many elements there are.
"""

from __future__ import annotations

import numpy as np

from tinygrad_cv.kernels.jit import REDUCTION, helper, kernel
from tinygrad_cv.kernels.shares import span

BLOCK = 1024  # elements of a row summed in its own dtype
_COLUMNS = 512  # most columns taken at a time: their sums lie in the first-level cache


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


@kernel
def columns(x, out, shares, share):
    """out[c], the sum over r of x[r, c]. Columns are shared out."""
    rows = x.shape[0]
    first, last = span(x.shape[1], shares, share)
    total = np.empty(_COLUMNS, np.float64)
    for start in range(first, last, _COLUMNS):
        stop = min(last, start + _COLUMNS)
        total[:] = 0.0
        whole = rows // 8 * 8
        for i in range(0, whole, 8):
            a, b, c, d = x[i, start:stop], x[i + 1, start:stop], x[i + 2, start:stop], x[i + 3, start:stop]
            e, f, g, h = x[i + 4, start:stop], x[i + 5, start:stop], x[i + 6, start:stop], x[i + 7, start:stop]
            for j in range(stop - start):
                total[j] += ((a[j] + b[j]) + (c[j] + d[j])) + ((e[j] + f[j]) + (g[j] + h[j]))
        for i in range(whole, rows):
            row = x[i, start:stop]
            for j in range(row.size):
                total[j] += row[j]
        for j in range(stop - start):
            out[start + j] = total[j]
