"""The one seam through which every matrix product of the package goes.

float32 and float64 products run in our own micro-kernels, on our own threads (see `gemm_blocks`), whatever the layouts of their operands
are. NumPy's BLAS keeps what it does best or alone: the inner product of two vectors, a vector times a large matrix (STREAMED),
other dtypes, and all of them where Numba is missing.

Keeping products on one thread pool matters beyond their own time: after a product on several threads BLAS workers spin for a while, on
the cores that the next kernel needs.

    gemm(a, b)                                           a @ b, of vectors, matrices and stacks of them
    rows_product(a, b)                                   a @ b for a matrix b, all rows of `a` together
    product(a, b, bias=bias, activation="relu")          a @ b and what follows it, in the store of the product
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygrad_cv.kernels import enabled, numba_available
from tinygrad_cv.kernels.memory import empty

FLOAT32 = np.dtype(np.float32)
PARALLEL_FROM = 1 << 19  # multiplications, about 10 us of one core: below, a parallel region costs as much as it saves
STREAMED = 1 << 19  # bytes of a matrix that meets one vector: more than this streams from memory, a fifth faster in BLAS
STORING = 16  # multiplications that writing an element counts as
_POOLED = 1 << 14  # elements: larger results come from the memory pool
_LOWEST = {None: -math.inf, "relu": 0.0}
_entries: dict[Any, Any] = {}
_small: Any = None  # products of small float32 matrices by the shortest way: `Entry.small`, the address it wants, `Entry.alone`
_address = 0
_alone: Any = None


def gemm(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a @ b as `numpy.matmul`, always as an array."""
    if a.ndim == 2 and b.ndim == 2:
        if a.dtype is FLOAT32 and b.dtype is FLOAT32 and _small is not None:
            rows, count = a.shape
            columns = b.shape[1]
            if rows * columns * (count + STORING) < PARALLEL_FROM and enabled():
                out = np.empty((rows, columns), FLOAT32)
                try:
                    _small(out, a, b, _address)
                except TypeError:  # an array that is not aligned
                    return product(a, b)
                return out
            if (rows == 1 and b.nbytes > STREAMED and b.flags.forc) or (columns == 1 and a.nbytes > STREAMED and a.flags.forc):
                return np.asarray(np.matmul(a, b))
        return product(a, b)
    if a.ndim == 1:
        return np.asarray(np.matmul(a, b)) if b.ndim == 1 else product(a[None], b)[..., 0, :]
    if b.ndim == 1:
        return rows_product(a, b[:, None])[..., 0]
    return product(a, b)


def rows_product(a: np.ndarray, b: np.ndarray, bias: np.ndarray | None = None, activation: str | None = None) -> np.ndarray:
    """activation(a @ b + bias) for a (..., k), b (k, m) and bias (m), as one product of all rows of `a`."""
    if a.ndim != 2:
        rows = a.reshape(math.prod(a.shape[:-1]), a.shape[-1])
        return rows_product(rows, b, bias, activation).reshape(*a.shape[:-1], b.shape[1])
    if bias is None or _small is None or a.dtype is not FLOAT32 or b.dtype is not FLOAT32 or not enabled():
        return product(a, b, None, 1.0, 1.0, bias, activation)
    rows, count = a.shape
    columns = bias.shape[0]
    if columns == 1 or not bias.flags.c_contiguous or rows * columns * (count + STORING) >= PARALLEL_FROM:
        return product(a, b, None, 1.0, 1.0, bias, activation)
    out = np.empty((rows, columns), FLOAT32)
    try:
        _alone(out, a, b, bias[None], 1, 1.0, 1.0, _LOWEST[activation], 1, 0, 1, 1, 0)
    except TypeError:  # an array that is not aligned
        return product(a, b, None, 1.0, 1.0, bias, activation)
    return out


def product(
    a: np.ndarray,
    b: np.ndarray,
    out: np.ndarray | None = None,
    alpha: float = 1.0,
    beta: float = 1.0,
    bias: np.ndarray | None = None,
    activation: str | None = None,
    residual: np.ndarray | None = None,
) -> np.ndarray:
    """out = activation(alpha * (a @ b) + beta * residual + bias), in one pass over `out`.

    a (..., n, k), b (..., k, m): leading axes broadcast; all of one dtype, at any strides. bias, residual: broadcast to (..., n, m); either
    alone costs nothing beside the product, `residual` may be `out` itself (C += A B). activation: None or "relu", NaN staying NaN.
    out: row-major, apart from a and b; made where None. Integers and other dtypes go to NumPy.
    """
    kind = a.dtype
    entry = (_entries.get(kind) or _entry(kind)) if enabled() else None
    if entry is None or b.dtype != kind:
        return _by_numpy(a, b, out, alpha, beta, bias, activation, residual)
    a, b = _aligned(a), _aligned(b)
    rows, columns, plain = a.shape[-2], b.shape[-1], a.ndim == b.ndim == 2
    lead = a.shape[:-2] if plain or a.shape[:-2] == b.shape[:-2] else np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    if out is None:
        size = rows * columns
        out = np.empty((*lead, rows, columns), kind) if size < _POOLED and plain else empty((*lead, rows, columns), kind)
    addend, adding = out, 0
    if bias is not None or residual is not None or alpha != 1:
        addend, adding, beta = _addend(out, beta, bias, residual)
    if not plain:
        _batch(entry, out, a, b, addend, adding, alpha, beta, _LOWEST[activation])
    elif rows * columns * (a.shape[1] + STORING) < PARALLEL_FROM:
        entry.alone(out, a, b, addend, adding, alpha, beta, _LOWEST[activation], 1, 0, 1, 1, 0)
    else:
        entry.run(out, a, b, addend, adding, alpha, beta, _LOWEST[activation], 1)
    return out


def _aligned(array: np.ndarray) -> np.ndarray:
    """The array, copied where its elements do not lie at multiples of their size, as kernels want them to."""
    return array if array.flags.aligned else array.copy()


def _addend(out: np.ndarray, beta: float, bias, residual) -> tuple[np.ndarray, int, float]:
    """What the kernel adds to the product: an array like `out` or one row of it, whether to, and times what."""
    if bias is None or residual is None:
        one = bias if residual is None else residual
        if one is not None:
            factor = 1.0 if residual is None else float(beta)
            if factor == 0:
                one = None
            elif one.shape == out.shape and (one is out or (one.flags.c_contiguous and one.flags.aligned)):
                return one, 1, factor
            elif (
                out.ndim == 2
                and one.ndim == 1
                and one.shape[0] == out.shape[1] > 1
                and one.flags.c_contiguous
                and one.flags.aligned
            ):
                return one[None], 1, factor
    if bias is None and (residual is None or beta == 0):
        out[...] = 0
    elif residual is None or beta == 0:
        out[...] = bias
    else:
        np.multiply(residual, out.dtype.type(beta), out=out)
        if bias is not None:
            out += bias
    return out, 1, 1.0


def _batch(entry, out, a, b, addend, adding, alpha, beta, lowest) -> None:
    """Products of stacks of matrices: two leading axes at a time, which the kernel walks itself."""
    lead = out.shape[:-2]
    a, b = (x if x.shape[:-2] == lead else np.broadcast_to(x, (*lead, *x.shape[-2:])) for x in (a, b))
    if len(lead) == 1:
        out, a, b, addend = out[None], a[None], b[None], addend[None]
    if len(lead) > 2:
        for index in np.ndindex(lead[:-2]):
            entry.run(out[index], a[index], b[index], addend[index], adding, alpha, beta, lowest, lead[-2] * lead[-1])
    else:
        entry.run(out, a, b, addend, adding, alpha, beta, lowest, math.prod(lead))


def _by_numpy(a, b, out, alpha, beta, bias, activation, residual) -> np.ndarray:
    result = np.asarray(np.matmul(a, b))
    if alpha != 1:
        result = result * result.dtype.type(alpha)
    if residual is not None and beta != 0:
        result = result + (residual if beta == 1 else residual * result.dtype.type(beta))
    if bias is not None:
        result = result + bias
    if activation == "relu":
        result = np.where(result < 0, result.dtype.type(0), result)
    if out is None:
        return np.asarray(result)
    out[...] = result
    return out


def _entry(kind: np.dtype) -> Any:
    """The compiled products of a dtype, or None where NumPy serves."""
    global _small, _address, _alone
    if kind.char not in "fd" or not kind.isnative or not numba_available():
        return None
    from numba import config

    if config.DISABLE_JIT:
        return None
    from .gemm_entry import Entry

    _entries[kind] = found = Entry(kind)
    if kind == FLOAT32:
        _small, _address, _alone = found.small, found.address, found.alone
    return found
