"""Sums over leading and trailing axes of large float arrays: bias gradients, losses, global means. NumPy does the rest.

The error is bounded along any axes and strides: see `sums` and `ops.bounded_sums`.

Imports no Numba itself: small sums are no reason to load it. Functions with an operator's name take its reference's arguments, and
return NotImplemented for what they do not do.
"""

from __future__ import annotations

import math

import numpy as np

from tinygrad_cv import kernels

from ..bounded_sums import bounded_sum, terms_in_turn
from ..reduction import stretched_axes

SMALLEST = 32768  # elements from which on a kernel beats NumPy
_PARALLEL_ELEMENTS = 65536
_MANY_ROWS = 64
_FEW_TERMS = 64


def _folds(shape: tuple[int, ...], dim) -> tuple[int, int, int] | None:
    """(outer, kept, inner) if `dim` is some leading and trailing axes, or all; None otherwise."""
    axes = range(len(shape)) if dim is None else dim
    kept = [i for i in range(len(shape)) if i not in axes]
    if not kept:
        return 1, 1, math.prod(shape)
    first, last = kept[0], kept[-1]
    if len(kept) != last - first + 1:
        return None
    return math.prod(shape[:first]), math.prod(shape[first : last + 1]), math.prod(shape[last + 1 :])


def _sum(input: np.ndarray, dim) -> np.ndarray | None:
    """The sum as a flat array of the kept elements, or None where NumPy is to make it."""
    if input.size < SMALLEST or input.dtype.kind != "f" or input.itemsize < 4 or not input.flags.c_contiguous:
        return None
    folds = _folds(input.shape, dim)
    if folds is None or not kernels.numba_available():
        return None
    from tinygrad_cv.kernels.shares import plain, run_shares, share_count

    from . import sums

    outer, kept, inner = folds
    shares = share_count(input.size, _PARALLEL_ELEMENTS)
    out = np.empty(kept, input.dtype)
    if inner == 1:
        if outer == 1 or kept < 8:
            return None
        run_shares(sums.columns, shares, plain(input, (outer, kept)), out, shares)
    elif outer == 1 and kept >= _MANY_ROWS:
        run_shares(sums.row_sums, shares, plain(input, (kept, inner)), out, shares)
    else:
        parts = np.empty((outer * kept, -(-inner // sums.BLOCK)))
        run_shares(sums.row_blocks, shares, plain(input, (-1, inner)), parts, shares)
        out[:] = parts.reshape(outer, kept, -1).sum(axis=(0, 2))
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
