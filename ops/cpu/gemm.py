"""The one seam through which every matrix product of the package goes.

Products of two matrices of moderate size (the layers of small networks) run in our own register tiles, on our own threads; tiny
and large ones, and stacks of matrices, go to NumPy's BLAS. Keeping the frequent ones on one thread pool matters beyond their own time:
after a product on several threads BLAS workers spin for a while, on the cores that the next kernel needs.
"""

from __future__ import annotations

import numpy as np

from tinygrad_cv import kernels
from tinygrad_cv.kernels.memory import empty

_SMALLEST = 1 << 18  # multiplications: below, BLAS takes one thread and a few microseconds
_CACHE_BYTES = 1 << 20  # the second operand should stay in the second-level cache of one core


def gemm(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a @ b as `numpy.matmul`, always as an array."""
    if a.ndim == 2 and b.ndim == 2 and a.dtype == b.dtype and a.dtype.kind == "f" and a.itemsize != 2:
        work = a.shape[0] * b.size
        if work >= _SMALLEST and b.nbytes <= _CACHE_BYTES and kernels.enabled() and kernels.numba_available():
            out = _tiled(a, b)
            if out is not None:
                return out
    return np.asarray(np.matmul(a, b))


def _tiled(a: np.ndarray, b: np.ndarray) -> np.ndarray | None:
    """The product by register tiles, or None for a layout that they do not read in place."""
    from tinygrad_cv.kernels.shares import plain, run_shares

    from .gemm_tiles import inner_product, outer_product

    rows, count = a.shape
    columns = b.shape[1]
    a_plain, b_plain = a.flags.c_contiguous, b.flags.c_contiguous
    out = empty((rows, columns), a.dtype)
    shares = kernels.get_num_threads()
    if b_plain and a_plain:
        run_shares(outer_product, shares, plain(a), plain(b), out.reshape(-1), count, 1, rows, columns, count, shares)
    elif b_plain and a.flags.f_contiguous:
        run_shares(outer_product, shares, plain(a.T), plain(b), out.reshape(-1), 1, rows, rows, columns, count, shares)
    elif a_plain and b.flags.f_contiguous:
        run_shares(inner_product, shares, plain(a), plain(b.T), out.reshape(-1), rows, columns, count, shares)
    else:
        return None
    return out
