"""gather, index_select, scatter_add, index_add and the lookup in a table of larger float arrays. NumPy does the rest.

Imports no Numba itself: small arrays are no reason to load it. Functions with an operator's name take its reference's arguments, and
return NotImplemented for what they do not do.
"""

from __future__ import annotations

import math

import numpy as np

from tinygrad_cv import kernels
from tinygrad_cv.kernels.memory import empty
from tinygrad_cv.kernels.threads import get_num_threads

SMALLEST = 4096  # elements moved from which on a kernel beats NumPy
_PARALLEL_ELEMENTS = 16384


def _seen(array: np.ndarray, dim: int) -> np.ndarray:
    """The array, contiguous, as (lead, size, inner) with axis `dim` in the middle."""
    shape = array.shape
    return np.ascontiguousarray(array).reshape(math.prod(shape[:dim]), shape[dim], math.prod(shape[dim + 1 :]))


def _fits(input: np.ndarray, moved: int) -> bool:
    floating = input.dtype in (np.float32, np.float64)
    return floating and input.ndim > 0 and input.size > 0 and moved >= SMALLEST and kernels.numba_available()


def _covers(index: np.ndarray, input: np.ndarray, dim: int) -> bool:
    """Whether `index` is as large as `input` on all axes but `dim`."""
    return index.ndim == input.ndim and all(
        n == m for k, (n, m) in enumerate(zip(index.shape, input.shape, strict=True)) if k != dim
    )


def _positions(index: np.ndarray) -> np.ndarray:
    """Checked positions as the kernels want them, unsigned."""
    return np.ascontiguousarray(index, np.int64).view(np.uint64)


def _copied(input: np.ndarray) -> np.ndarray:
    out = empty(input.shape, input.dtype)
    np.copyto(out, input)
    return out


def _run(run, size: int, *arguments) -> None:
    (run.serial if size < _PARALLEL_ELEMENTS else run)(*arguments)


def gather(input: np.ndarray, dim: int, index: np.ndarray, *, sparse_grad: bool = False):
    """The operator `gather`, for positions over all of the other axes."""
    if not _fits(input, index.size) or not _covers(index, input, dim):
        return NotImplemented
    from . import places

    out = empty(index.shape, input.dtype)
    _run(places.grid_selected, out.size, _seen(input, dim), _seen(_positions(index), dim), _seen(out, dim))
    return out


def index_select(input: np.ndarray, dim: int, index: np.ndarray):
    """The operator `index_select`."""
    moved = index.size * (input.size // input.shape[dim]) if input.ndim and input.size else 0
    if not _fits(input, moved):
        return NotImplemented
    if dim < input.ndim - 1 and (
        moved < _PARALLEL_ELEMENTS or get_num_threads() == 1
    ):  # NumPy copies rows as fast as one thread can
        return NotImplemented
    from . import places

    positions = _positions(index).reshape(-1)
    out = empty((*input.shape[:dim], positions.size, *input.shape[dim + 1 :]), input.dtype)
    _run(places.lines_selected, out.size, _seen(input, dim), positions, _seen(out, dim))
    return out


def embedding_lookup(input: np.ndarray, weight: np.ndarray, padding_idx=None, scale_grad_by_freq: bool = False):
    """The operator `embedding_lookup`."""
    rows = index_select(weight, 0, input)
    return rows if rows is NotImplemented else rows.reshape(*input.shape, weight.shape[1])


def index_add(input: np.ndarray, dim: int, index: np.ndarray, source: np.ndarray, *, alpha: float = 1):
    """The operator `index_add`."""
    if not _fits(input, source.size) or source.ndim != input.ndim:
        return NotImplemented
    from . import places

    positions, out = _positions(index).reshape(-1), _copied(input)
    _run(places.lines_added, source.size, _seen(source, dim), positions, input.dtype.type(alpha), _seen(out, dim))
    return out


def scatter_add(input: np.ndarray, dim: int, index: np.ndarray, src: np.ndarray):
    """The operator `scatter_add`, for positions over all of the other axes."""
    if not _fits(input, index.size) or not _covers(index, input, dim):
        return NotImplemented
    from . import places

    given, out = src[tuple([slice(0, n) for n in index.shape])], _copied(input)
    _run(places.grid_added, index.size, _seen(given, dim), _seen(_positions(index), dim), _seen(out, dim))
    return out
