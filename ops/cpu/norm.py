"""Kernels of layer and group normalisation, forward and backward, and what those of batch normalisation share with them.

A statistic is made in two passes: a rough mean, then sums of differences from it, which corrects the mean and gives a variance that
does not suffer where the mean is large. Along a row sums are made in the array's dtype, in vector lanes; across rows in float64.
What one thread needs (a row, a group) is read three times, from the second-level cache after the first.

Kernels do one share of the rows or groups (see `kernels.shares`). Functions with an operator's name take its reference's
arguments, and return NotImplemented for what they do not do.
"""

from __future__ import annotations

import math

import numpy as np

from tinygrad_cv.kernels.jit import REDUCTION, helper, kernel
from tinygrad_cv.kernels.memory import empty
from tinygrad_cv.kernels.shares import plain, run_shares, share_count, span

from .norm_columns import moments
from .sums import column_sums, row_sum

PARALLEL_ELEMENTS = 16384  # below: the serial twin
_SAMPLED = 256  # elements whose mean is the first guess
_BLOCKS, _BLOCK_ROWS = 32, 32  # sums over rows: at most so many blocks, of so many rows at least; by the shape alone


@helper
def difference(a, b):
    return a - b  # here, where sums must not be reordered


@helper(fastmath=REDUCTION)
def deviation(row, centre):
    """The sum of row - centre."""
    total = row.dtype.type(0)
    for j in range(row.size):
        total += difference(row[j], centre)
    return total


@helper(fastmath=REDUCTION)
def deviations(row, centre):
    """The sums of row - centre and of its square."""
    total = row.dtype.type(0)
    squares = row.dtype.type(0)
    for j in range(row.size):
        d = difference(row[j], centre)
        total += d
        squares += d * d
    return total, squares


@helper
def _block_moments(rows, centre, count):
    """How far the mean of all rows' elements lies from `centre`, and their variance."""
    total = 0.0
    squares = 0.0
    for k in range(rows.shape[0]):
        part, square = deviations(rows[k], centre)
        total += part
        squares += square
    return moments(total, squares, count)


@helper
def _statistics(rows):
    """(centre, offset, variance) of all elements of rows, (K, P), whose mean is centre + offset.

    One pass where the centre, the mean of the first elements of every row, lies within a standard deviation of the mean, else two.
    """
    kind = rows.dtype.type
    members, size = rows.shape
    sampled = min(size, max(_SAMPLED // members, 16))
    total = 0.0
    for k in range(members):
        total += row_sum(rows[k, :sampled])
    centre = kind(total / (members * sampled))
    count = members * size
    offset, variance = _block_moments(rows, centre, count)
    if offset * offset > variance:
        centre = kind(centre + offset)
        offset, variance = _block_moments(rows, centre, count)
    return centre, offset, variance


@kernel(fastmath=REDUCTION)
def rows_forward(x, weight, bias, eps, out, mean, variance, shares, share):
    """Normalises each row of x, (R, D), with weight and bias (D). Rows are shared out."""
    size = x.shape[1]
    kind = x.dtype.type
    for r in range(*span(x.shape[0], shares, share)):
        row, result = x[r], out[r]
        centre = kind(row[0] + np.float64(deviation(row, row[0])) / size)
        part, square = deviations(row, centre)
        offset, spread = moments(np.float64(part), np.float64(square), size)
        inverse = 1.0 / np.sqrt(spread + eps)
        mean[r] = kind(centre + offset)
        variance[r] = kind(spread)
        scale, shift = kind(inverse), kind(offset * inverse)
        for j in range(size):
            result[j] = (difference(row[j], centre) * scale - shift) * weight[j] + bias[j]


@helper(fastmath=REDUCTION)
def _weighted_sums(row, upstream, weight, centre):
    """The sums of h = upstream * weight and of h * (row - centre)."""
    total = row.dtype.type(0)
    products = row.dtype.type(0)
    for j in range(row.size):
        h = upstream[j] * weight[j]
        total += h
        products += h * difference(row[j], centre)
    return total, products


@helper
def _add_four(g, x, r, centre, scale, by_weight, by_bias):
    """Adds the share of rows r ... r + 3 to the gradients of weight and bias."""
    a, b, c, d = g[r], g[r + 1], g[r + 2], g[r + 3]
    p, q, s, t = x[r], x[r + 1], x[r + 2], x[r + 3]
    k, m, n, o = centre[r], centre[r + 1], centre[r + 2], centre[r + 3]
    u, v, w, z = scale[0], scale[1], scale[2], scale[3]
    for j in range(by_bias.size):
        by_weight[j] += (a[j] * ((p[j] - k) * u) + b[j] * ((q[j] - m) * v)) + (
            c[j] * ((s[j] - n) * w) + d[j] * ((t[j] - o) * z)
        )
        by_bias[j] += (a[j] + b[j]) + (c[j] + d[j])


@kernel(fastmath=REDUCTION)
def rows_backward(g, x, weight, mean, variance, eps, grad, weight_parts, bias_parts, shares, share):
    """Gradients of `rows_forward`. Blocks of rows are shared out; the parts, (blocks, D) float64, are added by the caller.

    Four rows at a time, whose elements the sums down the columns find in the cache.
    """
    rows, size = x.shape
    blocks = weight_parts.shape[0]
    kind = x.dtype.type
    by_weight, by_bias = np.empty(size, np.float64), np.empty(size, np.float64)
    scales = np.empty(4, x.dtype)
    share_of_row = 1.0 / size
    for b in range(*span(blocks, shares, share)):
        by_weight[:] = 0.0
        by_bias[:] = 0.0
        start, stop = rows * b // blocks, rows * (b + 1) // blocks
        for r in range(start, stop):
            row, upstream, result = x[r], g[r], grad[r]
            centre = mean[r]
            inverse = 1.0 / np.sqrt(variance[r] + eps)
            scale = kind(inverse)
            part, product = _weighted_sums(row, upstream, weight, centre)
            level = kind(part * (inverse * share_of_row))
            slope = kind(product * (inverse * inverse * inverse * share_of_row))
            for j in range(size):
                result[j] = upstream[j] * weight[j] * scale - (difference(row[j], centre) * slope + level)
            scales[(r - start) & 3] = scale
            if (r - start) & 3 == 3:
                _add_four(g, x, r - 3, mean, scales, by_weight, by_bias)
        for r in range(stop - ((stop - start) & 3), stop):
            row, upstream = x[r], g[r]
            centre, scale = mean[r], scales[(r - start) & 3]
            for j in range(size):
                by_weight[j] += upstream[j] * (difference(row[j], centre) * scale)
                by_bias[j] += upstream[j]
        for j in range(size):
            weight_parts[b, j] = by_weight[j]
            bias_parts[b, j] = by_bias[j]


@kernel(fastmath=REDUCTION)
def groups_forward(x, weight, bias, eps, out, mean, variance, shares, share):
    """Normalises each x[r], (K, P), of x (R, K, P); weight and bias, (R' * K), repeat. The groups are shared out."""
    members, size = x.shape[1], x.shape[2]
    kind = x.dtype.type
    kinds = weight.size // members
    for r in range(*span(x.shape[0], shares, share)):
        centre, offset, spread = _statistics(x[r])
        inverse = 1.0 / np.sqrt(spread + eps)
        mean[r] = kind(centre + offset)
        variance[r] = kind(spread)
        base = (r % kinds) * members
        for k in range(members):
            row, result = x[r, k], out[r, k]
            scale64 = weight[base + k] * inverse
            scale, shift = kind(scale64), kind(bias[base + k] - offset * scale64)
            for j in range(size):
                result[j] = difference(row[j], centre) * scale + shift


@kernel(fastmath=REDUCTION)
def groups_backward(g, x, weight, mean, variance, eps, grad, weight_parts, bias_parts, shares, share):
    """Gradients of `groups_forward`; the parts, (R, K) float64, are added over images by the caller."""
    members, size = x.shape[1], x.shape[2]
    kind = x.dtype.type
    count = members * size
    kinds = weight.size // members
    for r in range(*span(x.shape[0], shares, share)):
        centre = mean[r]
        inverse = 1.0 / np.sqrt(variance[r] + eps)
        base = (r % kinds) * members
        total = 0.0
        products = 0.0
        for k in range(members):
            row, upstream = x[r, k], g[r, k]
            part = kind(0)
            product = kind(0)
            for j in range(size):
                part += upstream[j]
                product += upstream[j] * difference(row[j], centre)
            weight_parts[r, k] = product * inverse
            bias_parts[r, k] = part
            total += np.float64(part) * weight[base + k]
            products += np.float64(product) * weight[base + k]
        level = kind(total * inverse / count)
        slope = kind(products * inverse * inverse * inverse / count)
        for k in range(members):
            row, upstream, result = x[r, k], g[r, k], grad[r, k]
            scale = kind(inverse * weight[base + k])
            for j in range(size):
                result[j] = upstream[j] * scale - level - difference(row[j], centre) * slope


def fits(input: np.ndarray, *others: tuple[np.ndarray | None, int]) -> bool:
    """Whether the kernels do this dtype, and every other array has it and the size given: kernels do not check bounds."""
    dtype = input.dtype
    if dtype not in (np.float32, np.float64) or not input.size:
        return False
    return all(other is None or (other.dtype == dtype and other.size == size) for other, size in others)


def parameter(given: np.ndarray | None, size: int, default: float, dtype) -> np.ndarray:
    return np.full(size, default, dtype) if given is None else plain(given)


def run_body(body, *arguments) -> None:
    shares = share_count(arguments[0].size, PARALLEL_ELEMENTS)
    run_shares(body, shares, *arguments, shares)


def _forward(run, input, weight, bias, eps, shape, size, kept):
    """Calls a forward kernel on `input` seen as `shape`; weight and bias have `size` elements, the statistics the shape `kept`."""
    if not fits(input, (weight, size), (bias, size)):
        return NotImplemented
    x = plain(input, shape)
    out, mean, variance = (empty(s, x.dtype) for s in (input.shape, kept, kept))
    parameters = parameter(weight, size, 1, x.dtype), parameter(bias, size, 0, x.dtype)
    run_body(run, x, *parameters, float(eps), out.reshape(shape), mean.reshape(-1), variance.reshape(-1))
    return out, mean, variance


def layer_norm_with_statistics(input, weight=None, bias=None, axes=1, eps=1e-5):
    """(out, mean, variance) over the last `axes` axes; float32 or float64."""
    lead = input.shape[: input.ndim - axes]
    size = math.prod(input.shape[input.ndim - axes :])
    return _forward(rows_forward, input, weight, bias, eps, (math.prod(lead), size), size, lead)


def layer_norm_backward(grad_output, input, weight, mean, variance, axes, eps):
    """(grad_input, grad_weight, grad_bias) of layer normalisation."""
    normalised = input.shape[input.ndim - axes :]
    size, rows = math.prod(normalised), math.prod(input.shape[: input.ndim - axes])
    if not fits(input, (grad_output, input.size), (weight, size), (mean, rows), (variance, rows)):
        return NotImplemented
    x = plain(input, (rows, size))
    grad = empty(input.shape, x.dtype)
    parts = empty((2, max(1, min(_BLOCKS, rows // _BLOCK_ROWS)), size), np.float64)
    run_body(
        rows_backward, plain(grad_output, x.shape), x, parameter(weight, size, 1, x.dtype), plain(mean),
        plain(variance), float(eps), grad.reshape(x.shape), *parts,
    )  # fmt: skip
    grad_weight, grad_bias = (empty(normalised, x.dtype) for _ in range(2))
    for part, out in zip(parts, (grad_weight, grad_bias), strict=True):
        run_shares(column_sums, 1, part.reshape(1, -1, size), out.reshape(1, size), 1)
    return grad, grad_weight, grad_bias


def group_norm_with_statistics(input, weight=None, bias=None, groups=1, eps=1e-5):
    """(out, mean, variance) of (N, C, ...) over each image's groups of channels; float32 or float64."""
    if not input.size:
        return NotImplemented
    images, channels = input.shape[:2]
    shape = (images * groups, channels // groups, math.prod(input.shape[2:]))
    return _forward(groups_forward, input, weight, bias, eps, shape, channels, (images, groups))


def group_norm_backward(grad_output, input, weight, mean, variance, groups, eps):
    """(grad_input, grad_weight, grad_bias) of group normalisation."""
    images, channels = input.shape[:2]
    kept = images * groups
    if not fits(input, (grad_output, input.size), (weight, channels), (mean, kept), (variance, kept)):
        return NotImplemented
    x = plain(input, (images * groups, channels // groups, math.prod(input.shape[2:])))
    grad = empty(input.shape, x.dtype)
    weight_parts, bias_parts = np.empty((2, *x.shape[:2]))
    run_body(
        groups_backward, plain(grad_output, x.shape), x, parameter(weight, channels, 1, x.dtype), plain(mean),
        plain(variance), float(eps), grad.reshape(x.shape), weight_parts, bias_parts,
    )  # fmt: skip
    return grad, *(parts.reshape(images, channels).sum(0).astype(x.dtype) for parts in (weight_parts, bias_parts))
