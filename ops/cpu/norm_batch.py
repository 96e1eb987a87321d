"""Kernels of batch normalisation, forward and backward, with the ReLU and the addition of a shortcut that often come after it.

Statistics are made as in `norm`. What one thread needs, a channel, is read three times, from the second-level cache after the first.
max(limit, out + other) is what the last pass stores: other is absent, or as large as out; limit is 0 for a ReLU, else -inf.

Backward, the gradient of the ReLU is taken on the way: where its result `after` is not above 0, the upstream gradient counts as 0. A row
of it is masked right before it is summed, so that the sums are made of the same numbers in the same order as without.
"""

from __future__ import annotations

import math

import numpy as np
from numba.core import config

from tinygrad_cv.kernels.jit import helper, kernel
from tinygrad_cv.kernels.memory import empty
from tinygrad_cv.kernels.shares import plain, share_count, span

from .norm import PARALLEL_ELEMENTS, fits, parameter, run_body
from .norm_columns import columns_backward, columns_forward, moments
from .norm_rows import gradient_row, mask_row, product_row, store_row, sum_row

_BLOCKS = 32  # blocks of images whose sums are added at the end: fixed, so that results do not depend on threads
_SAMPLES = 8, 32  # images and elements of each, whose mean is the first guess


@helper
def _centres(x, centre):
    """For every channel of x, (N, C, P), about its mean: that of some elements of some images."""
    images, channels, size = x.shape
    most, sampled = min(images, _SAMPLES[0]), min(size, _SAMPLES[1])
    for c in range(channels):
        first = x[0, c, 0]
        total = 0.0
        for k in range(most):
            part, _ = sum_row(x, (images * k // most * channels + c) * size, sampled, first)
            total += part
        centre[c] = x.dtype.type(first + total / (most * sampled))


@helper
def _block_moments(x, c, centre, b, blocks):
    """The sums of x - centre and of its square over channel c in block b of the images."""
    images, channels, size = x.shape
    total = 0.0
    squares = 0.0
    for i in range(images * b // blocks, images * (b + 1) // blocks):
        part, square = sum_row(x, (i * channels + c) * size, size, centre)
        total += part
        squares += square
    return total, squares


@kernel
def channel_sums(x, centre, totals, squares, shares, share):
    """centre: about the mean of each channel of x, (N, C, P). totals, squares, (blocks, C): the sums of x - centre and of its square.

    Blocks of images, and channels in them, are shared out.
    """
    images, channels, size = x.shape
    blocks = totals.shape[0]
    middle = np.empty(channels, x.dtype)
    _centres(x, middle)
    if share == 0:
        centre[:] = middle
    first, last = span(blocks * channels, shares, share)
    for b in range(first // channels, (last + channels - 1) // channels):
        low, high = max(first - b * channels, 0), min(last - b * channels, channels)
        totals[b, low:high] = 0.0
        squares[b, low:high] = 0.0
        for i in range(images * b // blocks, images * (b + 1) // blocks):
            for c in range(low, high):
                part, square = sum_row(x, (i * channels + c) * size, size, middle[c])
                totals[b, c] += part
                squares[b, c] += square


@kernel
def channels_forward(x, weight, bias, eps, other, adds, limit, centre, totals, squares, out, mean, variance, shares, share):
    """Normalises x, (N, C, P), with the sums of `channel_sums`; adds: `other` is added. Images and channels are shared out.

    Where the centre lies more than a standard deviation from the mean, its sums are made again, from the mean. Rows that were read
    last come first: they are in the cache.
    """
    images, channels, size = x.shape
    blocks = totals.shape[0]
    kind = x.dtype.type
    count = images * size
    middle, scale, shift = np.empty(channels, x.dtype), np.empty(channels, x.dtype), np.empty(channels, x.dtype)
    for c in range(channels):
        total = 0.0
        square = 0.0
        for b in range(blocks):
            total += totals[b, c]
            square += squares[b, c]
        middle[c] = centre[c]
        offset, spread = moments(total, square, count)
        if offset * offset > spread:
            middle[c] = kind(centre[c] + offset)
            total = 0.0
            square = 0.0
            for b in range(blocks):
                part, part_square = _block_moments(x, c, middle[c], b, blocks)
                total += part
                square += part_square
            offset, spread = moments(total, square, count)
        scale64 = weight[c] / np.sqrt(spread + eps)
        scale[c], shift[c] = kind(scale64), kind(bias[c] - offset * scale64)
        if share == 0:
            mean[c] = kind(middle[c] + offset)
            variance[c] = kind(spread)
    first, last = span(images * channels, shares, share)
    for r in range(last - 1, first - 1, -1):
        c = r % channels
        store_row(out, x, r * size, size, middle[c], scale[c], shift[c], other, adds, kind(limit))


@kernel
def channel_products(g, other, adds, after, masks, masked, keep, x, mean, totals, products, shares, share):
    """totals, products, (blocks, C): the sums of the upstream gradient and of it times x - mean. Shared out as in `channel_sums`.

    masks: the upstream gradient is g (adds: + other) where after > 0; keep: it is written to `masked`, else `masked` has a row for
    each share.
    """
    images, channels, size = x.shape
    blocks = totals.shape[0]
    upstreams = masked if masks else g
    first, last = span(blocks * channels, shares, share)
    for b in range(first // channels, (last + channels - 1) // channels):
        low, high = max(first - b * channels, 0), min(last - b * channels, channels)
        totals[b, low:high] = 0.0
        products[b, low:high] = 0.0
        for i in range(images * b // blocks, images * (b + 1) // blocks):
            for c in range(low, high):
                at = (i * channels + c) * size
                place = at
                if masks:
                    if not keep:
                        place = share * masked.shape[1] * masked.shape[2]
                    mask_row(masked, place, g, other, adds, after, at, size)
                part, product = product_row(upstreams, place, x, at, size, mean[c])
                totals[b, c] += part
                products[b, c] += product


@kernel
def channels_backward(
    g, other, adds, after, masks, masked, keep, x, weight, mean, variance, eps, totals, products, grad, grad_weight, grad_bias,
    shares, share,
):  # fmt: skip
    """Gradients of `channels_forward` from the sums of `channel_products`. Images and channels are shared out."""
    images, channels, size = x.shape
    blocks = totals.shape[0]
    kind = x.dtype.type
    count = images * size
    upstreams = masked if masks else g
    level, scale, slope = np.empty(channels, x.dtype), np.empty(channels, x.dtype), np.empty(channels, x.dtype)
    for c in range(channels):
        total = 0.0
        product = 0.0
        for b in range(blocks):
            total += totals[b, c]
            product += products[b, c]
        inverse = 1.0 / np.sqrt(variance[c] + eps)
        if share == 0:
            grad_weight[c] = kind(product * inverse)
            grad_bias[c] = kind(total)
        scale[c] = kind(weight[c] * inverse)
        slope[c] = kind(product * inverse * inverse / count)
        level[c] = kind(total / count)
    first, last = span(images * channels, shares, share)
    for r in range(last - 1, first - 1, -1):
        c = r % channels
        place = r * size
        if masks and not keep:
            place = share * masked.shape[1] * masked.shape[2]
            mask_row(masked, place, g, other, adds, after, r * size, size)
        gradient_row(grad, x, r * size, upstreams, place, size, mean[c], level[c], slope[c], scale[c])


def _by_channel(shape: tuple[int, ...]) -> tuple[int, ...]:
    """(N, C, P), or (N, C) where P is 1 and channels lie side by side."""
    size = math.prod(shape[2:])
    return (*shape[:2], size) if size > 1 else shape[:2]


def _forward(input, weight, bias, eps, other=None, limit=-math.inf):
    """(max(limit, out + other), mean, variance) of batch normalisation."""
    channels = input.shape[1]
    if config.DISABLE_JIT or not fits(input, (weight, channels), (bias, channels), (other, input.size)):
        return NotImplemented
    shape = _by_channel(input.shape)
    x = plain(input, shape)
    out, mean, variance = (empty(s, x.dtype) for s in (input.shape, (channels,), (channels,)))
    parameters = parameter(weight, channels, 1, x.dtype), parameter(bias, channels, 0, x.dtype)
    ends = x if other is None else plain(other, shape), other is not None, limit
    results = out.reshape(shape), mean, variance
    if len(shape) == 2:
        run_body(columns_forward, x, *parameters, float(eps), *ends, *results)
    else:
        sums = empty((channels,), x.dtype), *(empty((min(_BLOCKS, len(x)), channels), np.float64) for _ in range(2))
        run_body(channel_sums, x, *sums)
        run_body(channels_forward, x, *parameters, float(eps), *ends, *sums, *results)
    return out, mean, variance


def batch_norm_with_statistics(input, weight=None, bias=None, eps=1e-5):
    """(out, mean, variance) of (N, C, ...), over all axes but C; float32 or float64."""
    return _forward(input, weight, bias, eps)


def batch_norm_relu(input, weight=None, bias=None, eps=1e-5):
    """`batch_norm_with_statistics` with relu(out)."""
    return _forward(input, weight, bias, eps, limit=0.0)


def batch_norm_add(input, weight=None, bias=None, eps=1e-5, *, others):
    """`batch_norm_with_statistics` with out + other, of one shape."""
    return _forward(input, weight, bias, eps, *others)


def batch_norm_add_relu(input, weight=None, bias=None, eps=1e-5, *, others):
    """`batch_norm_with_statistics` with relu(out + other), of one shape."""
    return _forward(input, weight, bias, eps, *others, limit=0.0)


def _backward(grad_output, input, weight, mean, variance, eps, other=None, after=None, keep=False):
    """The gradients of batch normalisation; after: of relu(...), whose result it is, other: added to grad_output."""
    channels, size = input.shape[1], input.size
    if config.DISABLE_JIT or not fits(
        input, (grad_output, size), (weight, channels), (mean, channels), (variance, channels), (other, size), (after, size)
    ):  # fmt: skip
        return NotImplemented
    shape = _by_channel(input.shape)
    x, g = plain(input, shape), plain(grad_output, shape)
    grad, grad_weight, grad_bias = (empty(s, x.dtype) for s in (input.shape, (channels,), (channels,)))
    masked = g
    if after is not None:  # as much as the input, or a row for each share, which are far apart
        room = share_count(size, PARALLEL_ELEMENTS), 2, max(shape[-1], 4096)
        masked = empty(shape if keep or len(shape) == 2 else room, x.dtype)
    upstream = (
        g, g if other is None else plain(other, shape), other is not None, g if after is None else plain(after, shape),
        after is not None, masked, keep,
    )  # fmt: skip
    statistics = parameter(weight, channels, 1, x.dtype), plain(mean), plain(variance), float(eps)
    results = grad.reshape(shape), grad_weight, grad_bias
    if len(shape) == 2:
        run_body(columns_backward, *upstream, x, *statistics, *results)
    else:
        sums = [empty((min(_BLOCKS, len(x)), channels), np.float64) for _ in range(2)]
        run_body(channel_products, *upstream, x, statistics[1], *sums)
        run_body(channels_backward, *upstream, x, *statistics, *sums, *results)
    return (grad, grad_weight, grad_bias, masked.reshape(input.shape)) if keep else (grad, grad_weight, grad_bias)


def batch_norm_backward(grad_output, input, weight, mean, variance, eps):
    """(grad_input, grad_weight, grad_bias) of batch normalisation."""
    return _backward(grad_output, input, weight, mean, variance, eps)


def relu_batch_norm_backward(grad_output, input, weight, mean, variance, eps, *, others, keep):
    """`batch_norm_backward` of grad_output where the ReLU's result is positive, else 0; keep: which is returned too."""
    (after,) = others
    return _backward(grad_output, input, weight, mean, variance, eps, None, after, keep)


def add_relu_batch_norm_backward(grad_output, input, weight, mean, variance, eps, *, others, keep):
    """`relu_batch_norm_backward` of a sum of two gradients."""
    return _backward(grad_output, input, weight, mean, variance, eps, *others, keep)
