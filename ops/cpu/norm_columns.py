"""Kernels of batch normalisation of (N, C): statistics down the columns. See `norm` for how they are made.

A share owns a range of columns and reads them row by row, in pieces of rows as long as can be: narrow columns would touch a page of memory
for every few elements. It takes several rows at a time, whose elements of a column are added in the dtype of the array, and what comes
of it in float64.

Differences are taken from the mean of every sixteenth row. By chance that is about the mean; however the rows may lie, it differs from
it by at most 4 standard deviations. Where it differs by more than one, the sums are made again from the mean.
"""

from __future__ import annotations

import numpy as np

from tinygrad_cv.kernels.intrinsics import select
from tinygrad_cv.kernels.jit import helper, kernel
from tinygrad_cv.kernels.shares import span

_COLUMNS = 1024  # most columns taken at a time: their sums lie in the first-level cache
_SAMPLED = 16  # one row in so many


@helper
def moments(total, squares, count):
    """The mean and the variance, never below 0, of `count` values with these sums."""
    mean = total / count
    variance = squares / count - mean * mean
    return mean, variance if variance > 0.0 else 0.0


@helper
def _sums(x, start, n, centre, total, squares):
    """total and squares become the sums over rows of x[:, start : start + n] - centre and of its square."""
    kind = x.dtype.type
    total[:n] = 0.0
    squares[:n] = 0.0
    stop = start + n
    whole = x.shape[0] // 8 * 8
    for i in range(0, whole, 8):
        a, b, c, d = x[i, start:stop], x[i + 1, start:stop], x[i + 2, start:stop], x[i + 3, start:stop]
        e, f, g, h = x[i + 4, start:stop], x[i + 5, start:stop], x[i + 6, start:stop], x[i + 7, start:stop]
        for j in range(n):
            m = centre[j]
            p, q, r, s = a[j] - m, b[j] - m, c[j] - m, d[j] - m
            t, u, v, w = e[j] - m, f[j] - m, g[j] - m, h[j] - m
            total[j] += ((p + q) + (r + s)) + ((t + u) + (v + w))
            squares[j] += ((p * p + q * q) + (r * r + s * s)) + ((t * t + u * u) + (v * v + w * w))
    for i in range(whole, x.shape[0]):
        row = x[i, start:stop]
        for j in range(n):
            p = kind(row[j] - centre[j])
            total[j] += p
            squares[j] += p * p


@helper
def _products(y, x, start, n, centre, total, products):
    """total and products become the sums over rows of y[:, start : start + n] and of it times x - centre."""
    kind = x.dtype.type
    total[:n] = 0.0
    products[:n] = 0.0
    stop = start + n
    whole = x.shape[0] // 4 * 4
    for i in range(0, whole, 4):
        a, b, c, d = x[i, start:stop], x[i + 1, start:stop], x[i + 2, start:stop], x[i + 3, start:stop]
        e, f, g, h = y[i, start:stop], y[i + 1, start:stop], y[i + 2, start:stop], y[i + 3, start:stop]
        for j in range(n):
            m = centre[j]
            total[j] += (e[j] + f[j]) + (g[j] + h[j])
            products[j] += (e[j] * (a[j] - m) + f[j] * (b[j] - m)) + (g[j] * (c[j] - m) + h[j] * (d[j] - m))
    for i in range(whole, x.shape[0]):
        row, upstream = x[i, start:stop], y[i, start:stop]
        for j in range(n):
            total[j] += upstream[j]
            products[j] += kind(upstream[j] * (row[j] - centre[j]))


@helper
def where_positive(after, value):
    """value where after is positive or NaN, else 0."""
    return select(after <= type(after)(0), type(after)(0), value)


@kernel
def columns_forward(x, weight, bias, eps, other, adds, limit, out, mean, variance, shares, share):
    """Normalises the columns of x, (N, C); the other arguments are those of `norm_batch`. Columns are shared out."""
    rows, columns = x.shape
    kind = x.dtype.type
    limit = kind(limit)
    total, squares = np.empty(_COLUMNS, np.float64), np.empty(_COLUMNS, np.float64)
    centre, scale, shift = np.empty(_COLUMNS, x.dtype), np.empty(_COLUMNS, x.dtype), np.empty(_COLUMNS, x.dtype)
    first, last = span(columns, shares, share)
    for start in range(first, last, _COLUMNS):
        n = min(_COLUMNS, last - start)
        total[:n] = 0.0
        for i in range(0, rows, _SAMPLED):
            row = x[i, start : start + n]
            for j in range(n):
                total[j] += row[j]
        for j in range(n):
            centre[j] = kind(total[j] / ((rows + _SAMPLED - 1) // _SAMPLED))
        _sums(x, start, n, centre, total, squares)
        far = False
        for j in range(n):
            offset, spread = moments(total[j], squares[j], rows)
            if offset * offset > spread:
                centre[j] = kind(centre[j] + offset)
                far = True
        if far:
            _sums(x, start, n, centre, total, squares)
        for j in range(n):
            offset, spread = moments(total[j], squares[j], rows)
            scale64 = weight[start + j] / np.sqrt(spread + eps)
            mean[start + j] = kind(centre[j] + offset)
            variance[start + j] = kind(spread)
            scale[j] = kind(scale64)
            shift[j] = kind(bias[start + j] - offset * scale64)
        for i in range(rows):
            row, result = x[i, start : start + n], out[i, start : start + n]
            for j in range(n):
                result[j] = (row[j] - centre[j]) * scale[j] + shift[j]
            if adds:
                more = other[i, start : start + n]
                for j in range(n):
                    result[j] += more[j]
            for j in range(n):
                result[j] = select(result[j] <= limit, limit, result[j])


@kernel
def columns_backward(
    g, other, adds, after, masks, masked, keep, x, weight, mean, variance, eps, grad, grad_weight, grad_bias, shares, share
):  # fmt: skip
    """Gradients of `columns_forward`; masks: of g (adds: + other) where after > 0, written to `masked`. Columns are shared out."""
    rows, columns = x.shape
    kind = x.dtype.type
    total, products = np.empty(_COLUMNS, np.float64), np.empty(_COLUMNS, np.float64)
    level, scale, slope = np.empty(_COLUMNS, x.dtype), np.empty(_COLUMNS, x.dtype), np.empty(_COLUMNS, x.dtype)
    first, last = span(columns, shares, share)
    for start in range(first, last, _COLUMNS):
        n = min(_COLUMNS, last - start)
        stop = start + n
        centre = mean[start:stop]
        if masks:
            for i in range(rows):
                upstream, given, result = masked[i, start:stop], g[i, start:stop], after[i, start:stop]
                if adds:
                    more = other[i, start:stop]
                    for j in range(n):
                        upstream[j] = where_positive(result[j], given[j] + more[j])
                else:
                    for j in range(n):
                        upstream[j] = where_positive(result[j], given[j])
        upstreams = masked if masks else g
        _products(upstreams, x, start, n, centre, total, products)
        for j in range(n):
            inverse = 1.0 / np.sqrt(variance[start + j] + eps)
            grad_weight[start + j] = kind(products[j] * inverse)
            grad_bias[start + j] = kind(total[j])
            scale[j] = kind(weight[start + j] * inverse)
            slope[j] = kind(products[j] * inverse * inverse / rows)
            level[j] = kind(total[j] / rows)
        for i in range(rows):
            row, upstream, result = x[i, start:stop], upstreams[i, start:stop], grad[i, start:stop]
            for j in range(n):
                result[j] = scale[j] * (upstream[j] - level[j] - (row[j] - centre[j]) * slope[j])
