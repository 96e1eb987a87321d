"""Sums of large float arrays over leading and trailing axes or those in the middle: bias gradients, losses, means. NumPy does the rest.

The error is bounded along any axes and strides: see `sums` and `ops.bounded_sums`.

Imports no Numba itself: small sums are no reason to load it. Functions with an operator's name take its reference's arguments, and
return NotImplemented for what they do not do.
"""

from __future__ import annotations

import numpy as np

from tinygrad_cv import kernels
from tinygrad_cv._state import state

from ..bounded_sums import bounded_sum, terms_in_turn
from ..reduction import stretched_axes

SMALLEST = 32768  # elements from which on a kernel beats NumPy
_SMALLEST_IN_PLANS = 512  # the same for compiled plans, which make the kernel calls alone, without this Python
_PARALLEL_ELEMENTS = 65536
_MANY_ROWS = 64
_FEW_TERMS = 64
_BLOCKS, _BLOCK_ROWS = 16, 128  # sums down columns: at most so many blocks of rows, of at least so many rows


def _folds(shape: tuple[int, ...], dim) -> tuple[int, int, int, int] | None:
    """The shape as (folded, kept, folded, kept) axes, with sizes of 1 where there are none; None where they alternate more often."""
    axes = range(len(shape)) if dim is None else dim
    sizes, at = [1, 1, 1, 1], 0
    for i, n in enumerate(shape):
        if n == 1:
            continue
        if (i in axes) != (at % 2 == 0):
            at += 1
        if at > 3:
            return None
        sizes[at] *= n
    return sizes[0], sizes[1], sizes[2], sizes[3]


def _blocks(rows: int, outer: int) -> int:
    """Into how many blocks of rows to cut each of `outer` sums down columns: by the shape alone, so that threads change nothing."""
    return max(1, min(_BLOCKS // outer, rows // _BLOCK_ROWS))


def _sum(input: np.ndarray, dim) -> np.ndarray | None:
    """The sum as a flat array of the kept elements, or None where NumPy is to make it."""
    if (
        input.size < (SMALLEST if state.launches is None else _SMALLEST_IN_PLANS)
        or input.dtype.kind != "f"
        or input.itemsize < 4
        or not input.flags.c_contiguous
    ):
        return None
    folds = _folds(input.shape, dim)
    if folds is None or not kernels.numba_available():
        return None
    from tinygrad_cv.kernels.shares import plain, run_shares, share_count

    from . import sums

    first, kept, inner, last = folds
    shares = share_count(input.size, _PARALLEL_ELEMENTS)
    if last > 1 and (first > 1 or last < 8):
        return None
    if last > 1 or (inner == 1 and kept > 1):  # down columns
        outer, rows, columns = (kept, inner, last) if last > 1 else (1, first, kept)
        if rows == 1 or columns < 8:
            return None
        x = plain(input, (outer, rows, columns))
        blocks = _blocks(rows, outer) if input.size >= _PARALLEL_ELEMENTS else 1
        out = np.empty((outer, columns), input.dtype)
        if blocks > 1:
            parts = np.empty((outer, blocks, columns))
            run_shares(sums.column_blocks, shares, x, parts, shares)
            run_shares(sums.add_parts, 1, parts.reshape(outer, blocks, columns, 1), out.reshape(-1), 1)
            return out.reshape(-1)
        run_shares(sums.column_sums, shares, x, out, shares)
        return out.reshape(-1)
    out = np.empty(kept, input.dtype)
    if first == 1 and kept >= _MANY_ROWS:
        run_shares(sums.row_sums, shares, plain(input, (kept, inner)), out, shares)
    else:
        size = inner if kept > 1 else first * inner
        parts = np.empty((input.size // size, -(-size // sums.BLOCK)))
        run_shares(sums.row_blocks, shares, plain(input, (-1, size)), parts, shares)
        run_shares(sums.add_parts, 1, parts.reshape(1, -1, kept, parts.shape[1]), out, 1)
    return out


def sum(input: np.ndarray, dim=None, keepdim: bool = False, *, dtype=None):
    """The operator `sum`."""
    if dtype is not None and dtype != input.dtype:
        return NotImplemented
    axes = range(input.ndim) if dim is None else dim
    total = _sum(input, dim)
    if total is None:
        if input.dtype != np.float32 or terms_in_turn(input, axes) <= _FEW_TERMS:
            return NotImplemented
        return bounded_sum(input, dim, keepdim)
    shape = tuple([1 if i in axes else n for i, n in enumerate(input.shape) if keepdim or i not in axes])
    return total if total.shape == shape else total.reshape(shape)


def mean(input: np.ndarray, dim=None, keepdim: bool = False, *, dtype=None):
    """The operator `mean`."""
    total = sum(input, dim, keepdim, dtype=dtype)
    return total if total is NotImplemented else total / total.dtype.type(input.size // total.size)


def sum_to_size(input: np.ndarray, *size):
    """The operator `sum_to_size`."""
    (shape,) = size
    axes = stretched_axes(input.shape, shape)
    total = _sum(input, axes) if axes else None
    if total is None:
        return NotImplemented
    return total if total.shape == shape else total.reshape(shape)
