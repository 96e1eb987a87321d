"""Kernels that read and write by table: resizing along an axis, sampling at the taps of a grid, gradients of embeddings.

What a thread writes belongs to it alone: a row, a plane, a tap, or a range of table rows; so sums over equal indices need no atomic
operations and come out the same at any number of threads.

Functions with an operator's name take its reference's arguments, and return NotImplemented for what they do not do.
"""

from __future__ import annotations

import math

import numpy as np

from tinygrad_cv.kernels.jit import kernel, prange
from tinygrad_cv.kernels.memory import empty
from tinygrad_cv.kernels.shares import share_count

from ..embedding import row_factors
from ..interpolation import taps, transposed_taps

_PARALLEL_ELEMENTS = 16384  # multiplications: below, the serial twin


@kernel
def taps_along_last(x, index, weights, out):
    """out[r, o] = sum_k weights[o, k] * x[r, index[o, k]]. Rows are shared out."""
    kind = x.dtype.type
    for r in prange(x.shape[0]):
        row, result = x[r], out[r]
        for o in range(index.shape[0]):
            total = kind(0)
            for k in range(index.shape[1]):
                total += weights[o, k] * row[index[o, k]]
            result[o] = total


@kernel
def taps_along_middle(x, index, weights, out):
    """out[r, o, :] = sum_k weights[o, k] * x[r, index[o, k], :]. The pairs (r, o) are shared out."""
    size, width, inner = out.shape[1], index.shape[1], x.shape[2]
    for t in prange(out.shape[0] * size):
        r, o = t // size, t % size
        result = out[r, o]
        row, weight = x[r, index[o, 0]], weights[o, 0]
        for j in range(inner):
            result[j] = weight * row[j]
        for k in range(1, width):
            row, weight = x[r, index[o, k]], weights[o, k]
            for j in range(inner):
                result[j] += weight * row[j]


@kernel
def planes_at_taps(x, index, weights, out):
    """out[n, c, p] = sum_k weights[n, k, p] * x[n, c, index[n, k, p]], nothing where the index is negative. Planes are shared out."""
    channels, points = x.shape[1], out.shape[2]
    kind = x.dtype.type
    for t in prange(x.shape[0] * channels):
        n, c = t // channels, t % channels
        row, result = x[n, c], out[n, c]
        for p in range(points):
            result[p] = kind(0)
        for k in range(index.shape[1]):
            places, shares = index[n, k], weights[n, k]
            for p in range(points):
                if places[p] >= 0:
                    result[p] += shares[p] * row[places[p]]


@kernel
def planes_from_taps(g, index, weights, out):
    """out[n, c, index[n, k, p]] += weights[n, k, p] * g[n, c, p]. Planes are shared out."""
    channels, points = g.shape[1], g.shape[2]
    kind = g.dtype.type
    for t in prange(g.shape[0] * channels):
        n, c = t // channels, t % channels
        upstream, result = g[n, c], out[n, c]
        for i in range(result.size):
            result[i] = kind(0)
        for k in range(index.shape[1]):
            places, shares = index[n, k], weights[n, k]
            for p in range(points):
                if places[p] >= 0:
                    result[places[p]] += shares[p] * upstream[p]


@kernel
def products_at_taps(g, x, index, out):
    """out[n, k, p] = sum_c g[n, c, p] * x[n, c, index[n, k, p]]. The pairs (n, k) are shared out."""
    taps, channels, points = index.shape[1], g.shape[1], g.shape[2]
    kind = g.dtype.type
    for t in prange(g.shape[0] * taps):
        n, k = t // taps, t % taps
        places, result = index[n, k], out[n, k]
        for p in range(points):
            result[p] = kind(0)
        for c in range(channels):
            row, upstream = x[n, c], g[n, c]
            for p in range(points):
                if places[p] >= 0:
                    result[p] += upstream[p] * row[places[p]]


@kernel
def rows_added(rows, index, factors, blocks, out):
    """out[index[i]] += factors[i] * rows[i], from zero (all factors 1 if there are none). A block of out's rows a thread.

    Every thread looks at all of the index, and adds to a row in its order: the number of blocks changes no bit.
    """
    width = rows.shape[1]
    kind = rows.dtype.type
    for b in prange(blocks):
        start, stop = out.shape[0] * b // blocks, out.shape[0] * (b + 1) // blocks
        for r in range(start, stop):
            result = out[r]
            for j in range(width):
                result[j] = kind(0)
        for i in range(index.size):
            if start <= index[i] < stop:
                row, result = rows[i], out[index[i]]
                if factors.size:
                    factor = factors[i]
                    for j in range(width):
                        result[j] += factor * row[j]
                else:
                    for j in range(width):
                        result[j] += row[j]


def _fits(*arrays: np.ndarray) -> bool:
    dtype = arrays[0].dtype
    return dtype in (np.float32, np.float64) and all(a.dtype == dtype and a.size for a in arrays)


def _run(run, size: int, *arguments) -> None:
    (run.serial if size < _PARALLEL_ELEMENTS else run)(*arguments)


def _along(x: np.ndarray, dim: int, index: np.ndarray, weights: np.ndarray):
    if not _fits(x):
        return NotImplemented
    lead, inner = math.prod(x.shape[:dim]), math.prod(x.shape[dim + 1 :])
    out = empty((*x.shape[:dim], len(index), *x.shape[dim + 1 :]), x.dtype)
    shape = (lead,) if inner == 1 else (lead, inner)
    source, target = (np.ascontiguousarray(a).reshape(lead, a.shape[dim], *shape[1:]) for a in (x, out))
    run = taps_along_last if inner == 1 else taps_along_middle
    _run(run, out.size * index.shape[1], source, index, weights.astype(x.dtype), target)
    return out


def interpolate_axis(input, dim, size, kind, align_corners, scale):
    """One axis resized; float32 or float64."""
    return _along(input, dim, *taps(input.shape[dim], size, kind, align_corners, scale))


def interpolate_axis_backward(grad_output, dim, length, kind, align_corners, scale):
    """The adjoint of `interpolate_axis`, which reads the transposed table."""
    return _along(grad_output, dim, *transposed_taps(length, grad_output.shape[dim], kind, align_corners, scale))


def _checked(index: np.ndarray, length: int) -> np.ndarray | None:
    """The index, contiguous int64; None if an element lies beyond `length`, which kernels would not notice."""
    return np.ascontiguousarray(index, np.int64) if index.size and index.max() < length else None


def sample_taps(input, index, weights):
    """Sums of taps, (N, C, P)."""
    places = _checked(index, input.shape[2])
    if places is None or not _fits(input, weights) or weights.shape != index.shape or len(input) != len(index):
        return NotImplemented
    out = empty((*input.shape[:2], index.shape[2]), input.dtype)
    _run(planes_at_taps, out.size * index.shape[1], np.ascontiguousarray(input), places, np.ascontiguousarray(weights), out)
    return out


def scatter_taps(grad_output, index, weights, length):
    """The adjoint of `sample_taps` for its input, (N, C, length)."""
    places = _checked(index, length)
    fits = places is not None and _fits(grad_output, weights) and weights.shape == index.shape
    if not fits or grad_output.shape[::2] != index.shape[::2]:
        return NotImplemented
    out = empty((*grad_output.shape[:2], length), grad_output.dtype)
    size = grad_output.size * index.shape[1]
    _run(planes_from_taps, size, np.ascontiguousarray(grad_output), places, np.ascontiguousarray(weights), out)
    return out


def tap_products(grad_output, input, index):
    """The adjoint of `sample_taps` for its weights, (N, K, P)."""
    places = _checked(index, input.shape[2])
    fits = places is not None and _fits(grad_output, input) and grad_output.shape[:2] == input.shape[:2]
    if not fits or grad_output.shape[::2] != index.shape[::2]:
        return NotImplemented
    out = empty(index.shape, input.dtype)
    size = grad_output.size * index.shape[1]
    _run(products_at_taps, size, np.ascontiguousarray(grad_output), np.ascontiguousarray(input), places, out)
    return out


def embedding_backward(grad_output, input, num_embeddings, padding_idx, scale_grad_by_freq):
    """Rows of grad_output (..., D) added up at their indices, (num_embeddings, D)."""
    fits = _fits(grad_output) and input.size and grad_output.shape[:-1] == input.shape
    if not fits or input.min() < 0 or input.max() >= num_embeddings:
        return NotImplemented
    places = np.ascontiguousarray(input, np.int64).reshape(-1)
    factors = row_factors(places, padding_idx, scale_grad_by_freq, grad_output.dtype)
    factors = np.empty(0, grad_output.dtype) if factors is None else factors
    rows = np.ascontiguousarray(grad_output).reshape(places.size, -1)
    out = empty((num_embeddings, rows.shape[1]), rows.dtype)
    size = out.size + rows.size
    _run(rows_added, size, rows, places, factors, share_count(size, _PARALLEL_ELEMENTS), out)
    return out
