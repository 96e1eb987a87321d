"""Winograd convolution F(2x2, 3x3): 3x3 kernels, stride 1, in 16 multiplications for four outputs in place of 36.

A. Lavin and S. Gray, "Fast Algorithms for Convolutional Neural Networks", 2015 (arXiv:1509.09308). A tile of 2x2 outputs of one filter g,
from the 4x4 inputs d that it sees in one channel, is

    Y = A^T [(G g G^T) * (B^T d B)] A       (* element by element)

           1  0 -1  0             1    0    0            1  1  1  0
    B^T =  0  1  1  0      G =   1/2  1/2  1/2     A^T = 0  1 -1 -1
           0 -1  1  0            1/2 -1/2  1/2
           0  1  0 -1             0    0    1

Sums over channels are taken before A^T: for each of the 16 elements, a matrix product of the transformed weights (filters, channels) and
the transformed inputs (channels, tiles). The gradient in the input is the same computation with g turned by half a turn and filters
and channels swapped.

A share of the work takes groups of tiles, which are counted through all images, so that maps of any size fill the vectors. Transformed
inputs V and products M of one group stay in the second-level cache; outputs go straight to their place. Tiles that stick out
of the map are computed in full and cut when they are stored.

Accuracy: transforms only add (and halve weights), so errors are about those of direct sums; relative to the largest output the tests
allow 2e-6 in float32. Not so for what is not finite: one infinity or NaN makes NaN of the tiles that see it. Results that are not all
finite are therefore refused, and the caller convolves directly.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from tinygrad_cv.kernels.jit import kernel
from tinygrad_cv.kernels.memory import empty
from tinygrad_cv.kernels.shares import plain, run_shares, share_count, span

from ..sliding import padding_pairs
from .gemm_tiles import outer_tile
from .tiles import REGISTER_BYTES, VECTORS, copy_row, stay_apart, zero_row
from .winograd_tiles import PLANES, gather_tiles, spread_columns, spread_row, spread_weights

BLOCK = 6  # filters that a register tile takes; the last block may hold 4
TOGETHER = 4  # blocks whose products are kept until they are transformed
CACHE = 1 << 19  # bytes of V, half an L2 cache
_SERIAL_BELOW = 200_000  # multiplications: fewer run on the calling thread


def routine(function):
    """A function that kernels call and that stays a function of its own (see `stay_apart`)."""
    return numba.njit(error_model="numpy")(function)


# ---- pieces of the kernel. `job` holds its numbers: see `_job` ------------------------------------------------------------


@routine
def spread_inputs(x, first, stop, job, rows, v):
    """v[plane, channel, tile] = B^T d B for the tiles first ... stop - 1, counted through all images."""
    stay_apart()
    channels, height, width, before_h, before_w = job[1], job[3], job[4], job[7], job[8]
    tiles_h, tiles_w, line, plane = job[9], job[10], job[12], job[13]
    lanes = REGISTER_BYTES // x.itemsize
    tiles = tiles_h * tiles_w
    at = 0
    while first < stop:
        image, t = first // tiles, first % tiles
        count = min(tiles - t, stop - first)
        top = t // tiles_w
        pairs = (t + count - 1) // tiles_w - top + 2
        distance = pairs * tiles_w + 2 * lanes
        zero_row(rows, 0, 8 * distance)
        for c in range(channels):
            source = (image * channels + c) * height * width
            for start in range((tiles_w - 1) // lanes * lanes, -1, -lanes):  # what sticks out of a row is overwritten
                column = 2 * start - before_w
                for r in range(2 * pairs):
                    h = 2 * top + r - before_h
                    to = r % 2 * distance + r // 2 * tiles_w + start
                    if 0 <= h < height:
                        spread_row(x, source + h * width + column, -column, width - column, rows, to, 2 * distance)
                    else:
                        for j in range(4):
                            zero_row(rows, to + 2 * j * distance, lanes)
            for k in range(0, count, lanes):
                spread_columns(rows, t - top * tiles_w + k, tiles_w, distance, v, c * line + at + k, plane)
        first += count
        at += count
    if at % lanes:  # the last vector is multiplied whole
        for p in range(PLANES):
            for c in range(channels):
                zero_row(v, p * plane + c * line + at, lanes - at % lanes)


@routine
def multiply(u, v, m, tiles, low, high, job):
    """m[plane, filter, tile] = u[plane, filter, channel] v[plane, channel, tile] for the filters of blocks low ... high - 1."""
    stay_apart()
    channels, filters, line, plane = job[1], job[2], job[12], job[13]
    u_row, u_plane, m_plane = job[15], job[16], job[14]
    lanes = REGISTER_BYTES // u.itemsize
    for p in range(PLANES):
        for t in range(0, tiles, VECTORS * lanes):
            vectors = min(VECTORS, (tiles - t + lanes - 1) // lanes)
            source = p * plane + t
            for b in range(low, high):
                at, to = p * u_plane + b * BLOCK * u_row, p * m_plane + (b - low) * BLOCK * line + t
                if filters - b * BLOCK > 4:
                    outer_tile(6, vectors, 0, u, at, u_row, 1, v, source, line, m, to, line, channels, False)
                else:
                    outer_tile(4, vectors, 0, u, at, u_row, 1, v, source, line, m, to, line, channels, False)


@routine
def store_outputs(out, at, first, stop, filter, y, job):
    """Writes the outputs of one filter, out[i, 2 tile + j], to the tiles first ... stop - 1."""
    stay_apart()
    filters, height, width, tiles_h, tiles_w, line = job[2], job[5], job[6], job[9], job[10], job[12]
    tiles = tiles_h * tiles_w
    while first < stop:
        image, t = first // tiles, first % tiles
        h, w = 2 * (t // tiles_w), t % tiles_w
        count = min(tiles_w - w, stop - first)
        to = ((image * filters + filter) * height + h) * width + 2 * w
        n = min(2 * count, width - 2 * w)
        copy_row(out, at, y, to, n)
        if h + 1 < height:
            copy_row(out, at + 2 * line, y, to + width, n)
        first += count
        at += 2 * count


# ---- the kernels ----------------------------------------------------------------------------------------------------------


@kernel
def winograd_weights(weight, u, filters, channels, filter_step, channel_step, turned, u_row, u_plane, shares, share):
    """u[plane, filter, channel] = G g G^T, g at weight[filter * filter_step + channel * channel_step]."""
    lanes = REGISTER_BYTES // weight.itemsize
    blocks = (filters + BLOCK - 1) // BLOCK
    low, high = span(blocks, shares, share)
    for f in range(low * BLOCK, high * BLOCK):
        if f < filters:
            for c in range(0, channels, lanes):
                at, to = f * filter_step + c * channel_step, f * u_row + c
                spread_weights(weight, at, channel_step, min(lanes, channels - c), turned, u, to, u_plane)
        else:
            for p in range(PLANES):
                zero_row(u, p * u_plane + f * u_row, channels)


@kernel
def winograd_share(x, u, bias, y, scratch, watch, job, shares, share):
    """A share of y[image, filter] = bias + the convolution: jobs are (group of tiles, part of the filters)."""
    images, filters, tiles_h, tiles_w = job[0], job[2], job[9], job[10]
    group, line, plane, m_plane, by_filters = job[11], job[12], job[13], job[14], job[17]
    lanes = REGISTER_BYTES // x.itemsize
    tiles = images * tiles_h * tiles_w
    groups = (tiles + group - 1) // group
    blocks = (filters + BLOCK - 1) // BLOCK
    v = scratch[share]
    m = v[PLANES * plane :]
    out = m[PLANES * m_plane :]
    rows = out[TOGETHER * BLOCK * 4 * line :]
    seen = watch[share]
    present = -1
    for task in range(*span(groups * by_filters, shares, share)):
        g, part = task // by_filters, task % by_filters
        first, stop = g * group, min(tiles, (g + 1) * group)
        if g != present:
            spread_inputs(x, first, stop, job, rows, v)
            present = g
        last = blocks * (part + 1) // by_filters
        for low in range(blocks * part // by_filters, last, TOGETHER):
            high = min(last, low + TOGETHER)
            multiply(u, v, m, stop - first, low, high, job)
            held = min(filters, high * BLOCK) - low * BLOCK
            for f in range(held):
                shift = bias[low * BLOCK + f] if bias.size else x.dtype.type(0)
                for t in range(0, stop - first, lanes):
                    gather_tiles(m, f * line + t, m_plane, shift, out, f * 4 * line + 2 * t, 2 * line, seen)
            for f in range(held):
                store_outputs(out, f * 4 * line, first, stop, low * BLOCK + f, y, job)


# ---- the seam -------------------------------------------------------------------------------------------------------------


def _odd(count: int, lanes: int) -> int:
    """At least count, an odd number of vectors: rows at such distances spread over all lines of a cache."""
    return (-(-count // lanes) | 1) * lanes


def _group(tiles: int, channels: int, shares: int, lanes: int, itemsize: int) -> int:
    """Tiles of a group: as many as the cache holds, in whole register tiles where there are enough, the same for every share."""
    panel = VECTORS * lanes
    most = max(panel // 2, CACHE // (PLANES * channels * itemsize) // panel * panel)
    groups = -(-tiles // min(most, 2 * panel))
    groups = -(-groups // shares) * shares if groups > 1 else 1
    return -(-tiles // groups // lanes) * lanes


def _convolve(x, weight, bias, sizes, out_sizes, before, turned):
    """The convolution of x (..., channels, *sizes), with `before` zeros before each axis, or NotImplemented."""
    lead, channels = x.shape[:-3], x.shape[-3]
    filters = weight.shape[1] if turned else weight.shape[0]
    images = math.prod(lead)
    lanes = REGISTER_BYTES // x.itemsize
    tiles_h, tiles_w = (-(-n // 2) for n in out_sizes)
    tiles = images * tiles_h * tiles_w
    shares = share_count(tiles * PLANES * channels * filters, _SERIAL_BELOW)
    group = _group(tiles, channels, shares, lanes, x.itemsize)
    groups, blocks = -(-tiles // group), -(-filters // BLOCK)
    by_filters = min(blocks, -(-shares // groups))
    shares = min(shares, groups * by_filters)
    line = _odd(group + lanes, lanes)
    plane = channels * line + lanes
    m_plane = min(blocks, TOGETHER) * BLOCK * line + lanes
    u_row = _odd(channels, lanes)
    u_plane = blocks * BLOCK * u_row + lanes
    u = empty((PLANES * u_plane,), x.dtype)
    filter_step, channel_step = (9, filters * 9) if turned else (channels * 9, 9)
    weight_shares = share_count(filters * channels * PLANES, _SERIAL_BELOW)
    run_shares(
        winograd_weights, weight_shares, plain(weight), u, filters, channels, filter_step, channel_step, turned,
        u_row, u_plane, weight_shares,
    )  # fmt: skip
    rows = 8 * ((group // tiles_w + 4) * tiles_w + 2 * lanes)
    scratch = empty((shares, PLANES * (plane + m_plane) + TOGETHER * BLOCK * 4 * line + rows), x.dtype)
    watch = np.zeros((shares, lanes), x.dtype)
    numbers = (
        images, channels, filters, *sizes, *out_sizes, *before, tiles_h, tiles_w, group, line, plane, m_plane,
        u_row, u_plane, by_filters,
    )  # fmt: skip
    y = empty((*lead, filters, *out_sizes), x.dtype)
    flat_bias = np.empty(0, x.dtype) if bias is None else plain(bias)
    run_shares(
        winograd_share, shares, plain(x), u, flat_bias, y.reshape(-1), scratch, watch, np.array(numbers, np.int64), shares
    )  # fmt: skip
    return NotImplemented if np.isnan(watch).any() else y


def _unsupported(*arrays) -> bool:
    return bool(numba.config.DISABLE_JIT) or any(
        a is not None and (a.dtype.kind != "f" or a.dtype.itemsize < 4 or not a.size) for a in arrays
    )


def forward(input, weight, bias=None, padding=(0, 0)):
    """The convolution of input (..., C, H, W) and weight (F, C, 3, 3) at stride 1, dilation 1, one group.

    NotImplemented for other dtypes than float32 and float64, for kernels that are not 3x3, and where a result is not finite.
    """
    if _unsupported(input, weight, bias) or weight.shape[2:] != (3, 3):
        return NotImplemented
    pairs = padding_pairs(padding)
    sizes = input.shape[-2:]
    out = tuple(n + a + b - 2 for n, (a, b) in zip(sizes, pairs, strict=True))
    return _convolve(input, weight, bias, sizes, out, [a for a, _ in pairs], False)


def input_grad(grad_output, weight, input_size, padding=(0, 0)):
    """The adjoint of `forward` in the input, whose spatial sizes are `input_size`; NotImplemented as there."""
    if _unsupported(grad_output, weight) or weight.shape[2:] != (3, 3):
        return NotImplemented
    before = [2 - a for a, _ in padding_pairs(padding)]
    return _convolve(grad_output, weight, None, grad_output.shape[-2:], tuple(input_size), before, True)
