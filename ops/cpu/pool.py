"""Pooling kernels: max and mean over windows, their way back, and the special case of 2 x 2 windows that do not overlap.

Planes (image times channel) are shared out over the threads; a plane's windows are the product of one list per axis, so each
kernel serves 1 to 3 axes, padding, dilation, ceil_mode and adaptive windows alike.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from tinygrad_cv.kernels.jit import helper, kernel, prange
from tinygrad_cv.kernels.memory import empty
from tinygrad_cv.kernels.shares import plain, run_shares, share_count, span

from ..average_pooling import adaptive_averaging_windows, averaging_windows
from ..pooling import adaptive_windows, sliding_windows
from .reduction import mean

_SERIAL_BELOW = 30_000  # elements read: fewer are done on the calling thread


@helper
def larger(value, best):
    """Whether `value` replaces `best`: it is larger, or NaN. Without a branch, so that loops over it vectorise."""
    return (value > best) | (value != value)


@helper
def max_rows_2x2(top, bottom, out, which, n):
    """Maxima of two rows over 2 x 2 windows; `which` gets 0 ... 3 in the order of reading."""
    for j in range(n):
        first, second, third, fourth = top[2 * j], top[2 * j + 1], bottom[2 * j], bottom[2 * j + 1]
        right = larger(second, first)
        upper = second if right else first
        right_below = larger(fourth, third)
        lower = fourth if right_below else third
        below = larger(lower, upper)
        out[j] = lower if below else upper
        which[j] = 2 + right_below if below else 0 + right


@kernel
def max_2x2(x, values, indices, shares, share):
    """Maxima of a share of the planes of x, (planes, H, W), over 2 x 2 windows at stride 2; `indices` are positions in H * W."""
    width, n = x.shape[2], values.shape[2]
    which = np.empty(n, np.int32)
    for p in range(*span(x.shape[0], shares, share)):
        for i in range(values.shape[1]):
            max_rows_2x2(x[p, 2 * i], x[p, 2 * i + 1], values[p, i], which, n)
            where = indices[p, i]
            for j in range(n):
                where[j] = 2 * (i * width + j) + (which[j] & 1) + (which[j] >> 1) * width


@helper
def max_into(best, at, row, base, n):
    """best = max(best, row), element by element, with the flat positions `at` of what was taken."""
    for w in range(n):
        found = larger(row[w], best[w])
        best[w] = row[w] if found else best[w]
        at[w] = base + w if found else at[w]


@kernel
def max_windows(x, wd, wh, ww, values, indices):
    """Maxima of x, (planes, D, H, W), over windows wd x wh x ww, rows of (start, stop, step): down the columns, then along."""
    height, width = x.shape[2], x.shape[3]
    for p in prange(x.shape[0]):
        column, at = np.empty(width, x.dtype), np.empty(width, np.int64)
        for i in range(wd.shape[0]):
            for j in range(wh.shape[0]):
                base = (wd[i, 0] * height + wh[j, 0]) * width
                for w in range(width):
                    column[w] = x[p, wd[i, 0], wh[j, 0], w]
                    at[w] = base + w
                for d in range(wd[i, 0], wd[i, 1], wd[i, 2]):
                    for h in range(wh[j, 0], wh[j, 1], wh[j, 2]):
                        max_into(column, at, x[p, d, h], (d * height + h) * width, width)
                for k in range(ww.shape[0]):
                    best, place = column[ww[k, 0]], at[ww[k, 0]]
                    for w in range(ww[k, 0] + ww[k, 2], ww[k, 1], ww[k, 2]):
                        value = column[w]
                        missing = value != value  # of equals the first, of NaNs the last, in reading order; without a branch
                        first = (value == best) & (at[w] < place)
                        found = (value > best) | first | (missing & ((best == best) | (at[w] > place)))
                        best, place = value if found else best, at[w] if found else place
                    values[p, i, j, k] = best
                    indices[p, i, j, k] = place


@kernel
def scatter_planes(g, indices, out, outside):
    """out = 0; out[p, indices[p, o]] += g[p, o] for every plane p. outside[p]: whether an index was none of the plane's."""
    for p in prange(g.shape[0]):
        plane = out[p]
        outside[p] = False
        for i in range(plane.size):
            plane[i] = 0
        for o in range(g.shape[1]):
            i = indices[p, o]
            if 0 <= i < plane.size:
                plane[i] += g[p, o]
            else:
                outside[p] = True


@kernel
def gather_planes(x, indices, out, outside):
    """out[p, o] = x[p, indices[p, o]] for every plane p. outside[p]: whether an index was none of the plane's."""
    for p in prange(indices.shape[0]):
        outside[p] = False
        for o in range(indices.shape[1]):
            i = indices[p, o]
            if 0 <= i < x.shape[1]:
                out[p, o] = x[p, i]
            else:
                outside[p] = True


@helper
def add_into(total, row, n):
    """total += row."""
    for w in range(n):
        total[w] += row[w]


@kernel
def mean_windows(x, wd, wh, ww, ld, lh, lw, out):
    """Sums of x, (planes, D, H, W), over windows of consecutive elements, divided by the product of the lengths ld, lh, lw."""
    width = x.shape[3]
    for p in prange(x.shape[0]):
        column = np.empty(width, x.dtype)
        for i in range(wd.shape[0]):
            for j in range(wh.shape[0]):
                for w in range(width):
                    column[w] = 0
                for d in range(wd[i, 0], wd[i, 1]):
                    for h in range(wh[j, 0], wh[j, 1]):
                        add_into(column, x[p, d, h], width)
                scale = ld[i] * lh[j]
                for k in range(ww.shape[0]):
                    total = x.dtype.type(0)
                    for w in range(ww[k, 0], ww[k, 1]):
                        total += column[w]
                    out[p, i, j, k] = total / (scale * lw[k])


@kernel
def share_windows(g, wd, wh, ww, ld, lh, lw, out):
    """The adjoint of mean_windows: out = 0, then every window's share is added to each of its elements."""
    width = out.shape[3]
    for p in prange(g.shape[0]):
        column = np.empty(width, out.dtype)
        plane = out[p].reshape(-1)
        for i in range(plane.size):
            plane[i] = 0
        for i in range(wd.shape[0]):
            for j in range(wh.shape[0]):
                for w in range(width):
                    column[w] = 0
                scale = ld[i] * lh[j]
                for k in range(ww.shape[0]):
                    share = g[p, i, j, k] / (scale * lw[k])
                    for w in range(ww[k, 0], ww[k, 1]):
                        column[w] += share
                for d in range(wd[i, 0], wd[i, 1]):
                    for h in range(wh[j, 0], wh[j, 1]):
                        add_into(out[p, d, h], column, width)


# ---- from the operators' arguments to the kernels -------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def _tables(windows) -> tuple[np.ndarray, ...]:
    """One int64 array of (start, stop, step) for each of three axes."""
    padded = (((0, 1, 1),),) * (3 - len(windows)) + tuple(windows)
    return tuple(np.array(axis, np.int64).reshape(-1, 3) for axis in padded)


@lru_cache(maxsize=1024)
def _lengths(lengths, dtype) -> tuple[np.ndarray, ...]:
    padded = ((1,),) * (3 - len(lengths)) + tuple(lengths)
    return tuple(np.array(axis, dtype) for axis in padded)


def _supported(array: np.ndarray) -> bool:
    return array.dtype.kind == "f" and array.dtype.itemsize >= 4 and array.size > 0


def _planes(array: np.ndarray, rank: int) -> np.ndarray:
    """(N, C, spatial) or (C, spatial) as contiguous (planes, D, H, W)."""
    ones = (1,) * (3 - rank)
    return np.ascontiguousarray(array).reshape(math.prod(array.shape[:-rank]), *ones, *array.shape[-rank:])


def _run(function, size: int):
    return function.serial if size < _SERIAL_BELOW else function


def _largest(input: np.ndarray, windows) -> tuple[np.ndarray, np.ndarray]:
    rank = len(windows)
    tables = _tables(windows)
    values = empty((*input.shape[:-rank], *map(len, windows)), input.dtype)
    indices = empty(values.shape, np.int64)
    if values.size:
        _run(max_windows, input.size)(_planes(input, rank), *tables, _planes(values, rank), _planes(indices, rank))
    return values, indices


def max_pool(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False):
    """Values and indices of `max_poolNd`; NotImplemented for integers, float16 and empty arrays."""
    if not _supported(input):
        return NotImplemented
    rank = len(kernel_size)
    sizes = input.shape[-rank:]
    if (
        kernel_size == stride == (2, 2)
        and padding == (0, 0)
        and dilation == (1, 1)
        and not (ceil_mode and (sizes[0] | sizes[1]) & 1)
    ):
        values = empty((*input.shape[:-2], sizes[0] // 2, sizes[1] // 2), input.dtype)
        indices = empty(values.shape, np.int64)
        shares, planes = share_count(input.size, _SERIAL_BELOW), (-1, *values.shape[-2:])
        run_shares(max_2x2, shares, plain(input, (-1, *sizes)), values.reshape(planes), indices.reshape(planes), shares)
        return values, indices
    return _largest(input, sliding_windows(sizes, kernel_size, stride, padding, dilation, ceil_mode))


def adaptive_max_pool(input, output_size):
    """Values and indices of `adaptive_max_poolNd`."""
    if not _supported(input):
        return NotImplemented
    return _largest(input, adaptive_windows(input.shape[-len(output_size) :], output_size))


def scatter(grad_output, indices, input_size):
    """`max_pool_input_grad`."""
    if not _supported(grad_output):
        return NotImplemented
    rank = len(input_size)
    planes = math.prod(grad_output.shape[:-rank])
    out = empty((*grad_output.shape[:-rank], *input_size), grad_output.dtype)
    flat = np.ascontiguousarray(grad_output).reshape(planes, -1)
    outside = empty((planes,), np.bool_)
    places = np.ascontiguousarray(indices).reshape(planes, -1)
    _run(scatter_planes, out.size)(flat, places, out.reshape(planes, -1), outside)
    _refuse_outside("max_pool_input_grad", outside, input_size)
    return out


def gather(input, indices, rank):
    """`max_pool_gather`."""
    if not _supported(input) or not indices.size:
        return NotImplemented
    planes = math.prod(input.shape[:-rank])
    out = empty(indices.shape, input.dtype)
    flat = np.ascontiguousarray(input).reshape(planes, -1)
    outside = empty((planes,), np.bool_)
    places = np.ascontiguousarray(indices).reshape(planes, -1)
    _run(gather_planes, out.size)(flat, places, out.reshape(planes, -1), outside)
    _refuse_outside("max_pool_gather", outside, input.shape[-rank:])
    return out


def _refuse_outside(name: str, outside: np.ndarray, sizes) -> None:
    if outside.any():
        raise IndexError(f"{name}: an index is outside of the {math.prod(sizes)} elements of a plane of size {tuple(sizes)}")


def _mean(input: np.ndarray, windows, lengths) -> np.ndarray:
    rank = len(windows)
    out = empty((*input.shape[:-rank], *map(len, windows)), input.dtype)
    if out.size:
        tables = (*_tables(windows), *_lengths(lengths, input.dtype))
        _run(mean_windows, input.size)(_planes(input, rank), *tables, _planes(out, rank))
    return out


def _share(grad_output: np.ndarray, input_size, windows, lengths) -> np.ndarray:
    rank = len(windows)
    out = empty((*grad_output.shape[:-rank], *input_size), grad_output.dtype)
    tables = (*_tables(windows), *_lengths(lengths, out.dtype))
    _run(share_windows, out.size)(_planes(grad_output, rank), *tables, _planes(out, rank))
    return out


def avg_pool(input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None):
    """`avg_pool2d` and `avg_pool3d`; NotImplemented for float16 and empty arrays."""
    if not _supported(input):
        return NotImplemented
    sizes = input.shape[-len(kernel_size) :]
    return _mean(input, *averaging_windows(sizes, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override))


def avg_pool1d(input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True):
    """`avg_pool1d`."""
    return avg_pool(input, kernel_size, stride, padding, ceil_mode, count_include_pad)


def avg_pool_input_grad(grad_output, input_size, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override):
    """The adjoint of `avg_pool`."""
    if not _supported(grad_output):
        return NotImplemented
    windows = averaging_windows(input_size, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
    return _share(grad_output, input_size, *windows)


def adaptive_avg_pool(input, output_size):
    """`adaptive_avg_poolNd`."""
    if not _supported(input):
        return NotImplemented
    if math.prod(output_size) == 1:
        whole = mean(input, tuple(range(input.ndim - len(output_size), input.ndim)), True)
        if whole is not NotImplemented:
            return whole
    return _mean(input, *adaptive_averaging_windows(input.shape[-len(output_size) :], output_size))


def adaptive_avg_pool_input_grad(grad_output, input_size):
    """The adjoint of `adaptive_avg_pool`."""
    if not _supported(grad_output):
        return NotImplemented
    windows = adaptive_averaging_windows(input_size, grad_output.shape[-len(input_size) :])
    return _share(grad_output, input_size, *windows)
