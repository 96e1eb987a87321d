"""Kernels of sums over axes. Rows are summed in blocks of fixed length, in vector lanes, and blocks in float64, so that the error
does not grow with the size and results do not depend on the number of threads."""

from __future__ import annotations

import numpy as np

from tinygrad_cv.kernels.jit import REDUCTION, helper, kernel
from tinygrad_cv.kernels.shares import span

BLOCK = 4096  # elements of a row summed in its own dtype
_COLUMNS = 64  # columns one share takes at a time


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


@kernel
def columns(x, out, shares, share):
    """out[c], the sum over r of x[r, c], made in float64."""
    rows, count = x.shape
    for b in range(*span((count + _COLUMNS - 1) // _COLUMNS, shares, share)):
        start, stop = b * _COLUMNS, min(count, (b + 1) * _COLUMNS)
        total = np.zeros(stop - start, np.float64)
        for r in range(rows):
            row = x[r, start:stop]
            for j in range(row.size):
                total[j] += row[j]
        for j in range(stop - start):
            out[start + j] = total[j]
