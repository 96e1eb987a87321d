"""The one seam through which every matrix product of the package goes.

Products of two matrices run in our own register tiles, on our own threads: where the operands lie if the second fits into a core's
cache, or after copying blocks into order. Tiny ones, products with a vector and stacks of matrices go to NumPy's BLAS. Keeping the
frequent ones on one thread pool matters beyond their own time: after a product on several threads BLAS workers spin for a while, on the
cores that the next kernel needs.
"""

from __future__ import annotations

import numpy as np

from tinygrad_cv import kernels
from tinygrad_cv.kernels.memory import empty

_SMALLEST = 1 << 18  # multiplications: below, BLAS takes one thread and a few microseconds
_NARROWEST = 8  # rows and columns: below, a product is bound by memory, and BLAS as good
_CACHE_BYTES = 1 << 20  # the second-level cache of one core


def gemm(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a @ b as `numpy.matmul`, always as an array."""
    if a.ndim == 2 and b.ndim == 2 and a.dtype == b.dtype and a.dtype.kind == "f" and a.itemsize != 2:
        rows, columns = a.shape[0], b.shape[1]
        if rows * b.size >= _SMALLEST and min(rows, columns) >= _NARROWEST and kernels.enabled() and kernels.numba_available():
            out = empty((rows, columns), a.dtype)
            _tiled(a, b, out, kernels.get_num_threads())
            return out
    return np.asarray(np.matmul(a, b))


def _tiled(a: np.ndarray, b: np.ndarray, out: np.ndarray, shares: int) -> None:
    from tinygrad_cv.kernels.shares import plain, run_shares

    from .gemm_tiles import inner_product, outer_product

    (rows, count), columns = a.shape, b.shape[1]
    a_plain = a.flags.c_contiguous
    if b.nbytes > _CACHE_BYTES or not (a_plain or a.flags.f_contiguous):
        _blocked(a, b, out, shares)
    elif b.flags.c_contiguous:
        a_row, a_step = (count, 1) if a_plain else (1, rows)
        run_shares(
            outer_product,
            shares,
            plain(a if a_plain else a.T),
            plain(b),
            out.reshape(-1),
            a_row,
            a_step,
            rows,
            columns,
            count,
            shares,
        )
    elif a_plain and b.flags.f_contiguous:
        run_shares(inner_product, shares, plain(a), plain(b.T), out.reshape(-1), rows, columns, count, shares)
    else:
        _blocked(a, b, out, shares)


def _blocked(a: np.ndarray, b: np.ndarray, out: np.ndarray, shares: int) -> None:
    from tinygrad_cv.kernels.shares import run_shares

    from .gemm_blocks import blocked_product, buffer_size

    (rows, count), columns = a.shape, b.shape[1]
    flat_a, a_row, a_step = _line(a)
    flat_b, b_step, b_column = _line(b)
    divisors = [n for n in range(1, shares + 1) if shares % n == 0]
    by_rows = min(divisors, key=lambda n: columns * n + rows * shares // n)  # what is copied more than once
    copies = [empty((shares, size), out.dtype) for size in buffer_size(out.dtype)]
    job = a_row, a_step, b_step, b_column, rows, columns, count, by_rows, shares
    run_shares(blocked_product, shares, flat_a, flat_b, out.reshape(-1), *copies, *job)


def _line(matrix: np.ndarray) -> tuple[np.ndarray, int, int]:
    """The memory that a matrix spans as one axis, from its first element on, and the distances of its rows and columns there."""
    row, column = (s // matrix.itemsize for s in matrix.strides)
    if (
        row < 0
        or column < 0
        or matrix.strides[0] % matrix.itemsize
        or matrix.strides[1] % matrix.itemsize
        or not matrix.flags.writeable
    ):
        matrix = np.array(matrix, order="C")
        row, column = matrix.shape[1], 1
    if matrix.flags.c_contiguous:
        return matrix.reshape(-1), row, column
    extent = (matrix.shape[0] - 1) * row + (matrix.shape[1] - 1) * column + 1
    return np.lib.stride_tricks.as_strided(matrix, (extent,), (matrix.itemsize,)), row, column
