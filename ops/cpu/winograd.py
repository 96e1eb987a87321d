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

A share of the work takes groups of tiles, which are counted through all images, so that maps of any size fill the vectors. For each
group it makes the transformed inputs V, and for a few blocks of filters at a time their 16 products M with the transformed weights U,
which stay in the second-level cache until A^T turns them into outputs. Inputs are read and outputs written where they lie; tiles that stick
out of the map are computed in full and cut when they are stored. One group alone, as of a single small image, is shared out by
filters, and each share makes its part of U on the way.

Accuracy: transforms add, subtract and halve, and sums over channels are nine times shorter, so errors are about those of direct sums:
below 2e-6 of the largest output in float32 (tests/test_winograd.py). But an output may also carry the rounding of inputs it does not
depend on, those up to two places away that its tile sees; direct sums do not mix them. For the same reason an infinity or NaN
would spread: results that are not all finite are refused, and the caller convolves directly.
"""

from __future__ import annotations

import itertools
import math
from functools import lru_cache
from typing import NamedTuple

import numba
import numpy as np

from tinygrad_cv.kernels.jit import kernel
from tinygrad_cv.kernels.memory import empty
from tinygrad_cv.kernels.shares import plain, run_shares, share_count, span

from ..sliding import padding_pairs
from .gemm_tiles import outer_tile
from .tiles import REGISTER_BYTES, VECTORS, copy_row, routine, stay_apart, zero_row
from .winograd_tiles import PLANES, gather_tiles, spread_columns, spread_row, spread_weights

BLOCK = 6  # filters that a register tile takes; the last block may hold 4
TOGETHER = 4  # blocks whose products are kept until they are transformed
FRESH = 1 << 19  # bytes of transformed weights that are made where they are used
GROUP = 128  # tiles that are worked on together
CACHE = 1 << 21  # bytes of V; each of its 16 parts is used by itself, so that it may exceed the L2 cache somewhat
_SERIAL_BELOW = 200_000  # multiplications: fewer run on the calling thread
_START = 10_000  # what the second kernel of a call costs more, in the units of `gain`


class Job(NamedTuple):
    """The numbers of a call, which kernels get as one array, because every argument costs compile time."""

    images: int
    channels: int
    filters: int
    height: int  # of the input, then of the output
    width: int
    out_height: int
    out_width: int
    before_h: int  # zeros before the input
    before_w: int
    tiles_h: int  # tiles of one map
    tiles_w: int
    group: int  # tiles that are worked on together
    line: int  # distance of rows of V and M
    v_plane: int  # distance of the 16 elements
    m_plane: int
    u_row: int  # distances of rows and elements of the transformed weights
    u_plane: int
    by_filters: int  # parts of the filters
    together: int = 0  # blocks of filters whose products are kept until they are transformed
    filter_step: int = 0  # distances in the weights as they are given
    channel_step: int = 0
    turned: int = 0  # whether each kernel is read backwards
    fresh: int = 0  # whether transformed weights are made where they are used


# ---- pieces of the kernel -------------------------------------------------------------------------------------------------


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
                        spread_row(
                            x, source + h * width + column, -column, width - column, height * width, rows, to, 2 * distance
                        )
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
def spread_filters(weight, low, high, job, u, u_low):
    """u[plane, filter, channel] = G g G^T for the filters of blocks low ... high - 1; u begins with block u_low."""
    stay_apart()
    channels, filters, u_row, u_plane = job[1], job[2], job[15], job[16]
    filter_step, channel_step, turned = job[19], job[20], job[21] != 0
    lanes = REGISTER_BYTES // weight.itemsize
    for f in range(low * BLOCK, min(filters, high * BLOCK)):
        for c in range(0, channels, lanes):
            at, to = f * filter_step + c * channel_step, (f - u_low * BLOCK) * u_row + c
            spread_weights(weight, at, channel_step, min(lanes, channels - c), turned, u, to, u_plane)
    for f in range(filters, high * BLOCK):
        for p in range(PLANES):
            zero_row(u, p * u_plane + (f - u_low * BLOCK) * u_row, channels)


@routine
def multiply(u, u_low, v, m, tiles, low, high, job):
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
                at, to = p * u_plane + (b - u_low) * BLOCK * u_row, p * m_plane + (b - low) * BLOCK * line + t
                if filters - b * BLOCK > 4:
                    outer_tile(6, vectors, 0, u, at, u_row, 1, v, source, line, m, to, line, channels, False)
                else:
                    outer_tile(4, vectors, 0, u, at, u_row, 1, v, source, line, m, to, line, channels, False)


@routine
def store_outputs(out, at, first, stop, filter, y, job):
    """Writes the outputs of one filter, out[i, 2 tile + j], to the tiles first ... stop - 1."""
    stay_apart()
    filters, height, width, tiles_h, tiles_w, line = job[2], job[5], job[6], job[9], job[10], job[12]
    row, w = first // tiles_w, first % tiles_w
    image, h = row // tiles_h, row % tiles_h
    while first < stop:
        count = min(tiles_w - w, stop - first)
        to = ((image * filters + filter) * height + 2 * h) * width + 2 * w
        n = min(2 * count, width - 2 * w)
        copy_row(out, at, y, to, n)
        if 2 * h + 1 < height:
            copy_row(out, at + 2 * line, y, to + width, n)
        first += count
        at += 2 * count
        h, w = h + 1, 0
        if h == tiles_h:
            image, h = image + 1, 0


# ---- the kernels ----------------------------------------------------------------------------------------------------------


@kernel
def winograd_weights(weight, u, job, shares, share):
    """A share of the transformed weights, for all of whose users it is worth to make them first."""
    blocks = (job[2] + BLOCK - 1) // BLOCK
    low, high = span(blocks, shares, share)
    spread_filters(weight, low, high, job, u, 0)


@kernel
def winograd_share(x, weight, u, bias, y, scratch, watch, job, shares, share):
    """A share of y[image, filter] = bias + the convolution: jobs are (group of tiles, part of the filters)."""
    images, filters, tiles_h, tiles_w = job[0], job[2], job[9], job[10]
    group, line, plane, m_plane, u_plane = job[11], job[12], job[13], job[14], job[16]
    by_filters, together, fresh = job[17], job[18], job[22]
    lanes = REGISTER_BYTES // x.itemsize
    tiles = images * tiles_h * tiles_w
    groups = (tiles + group - 1) // group
    blocks = (filters + BLOCK - 1) // BLOCK
    v = scratch[share]
    m = v[PLANES * plane :]
    out = m[PLANES * m_plane :]
    own = out[together * BLOCK * 4 * line :]
    rows = own[fresh * PLANES * u_plane :]
    seen = watch[share]
    present = -1
    for task in range(*span(groups * by_filters, shares, share)):
        g, part = task // by_filters, task % by_filters
        first, stop = g * group, min(tiles, (g + 1) * group)
        if g != present:
            spread_inputs(x, first, stop, job, rows, v)
            present = g
        last = blocks * (part + 1) // by_filters
        for low in range(blocks * part // by_filters, last, together):
            high = min(last, low + together)
            used, used_low = u, 0
            if fresh:
                used, used_low = own, low
                spread_filters(weight, low, high, job, own, low)
            multiply(used, used_low, v, m, stop - first, low, high, job)
            held = min(filters, high * BLOCK) - low * BLOCK
            for f in range(held):
                shift = bias[low * BLOCK + f] if bias.size else x.dtype.type(0)
                for t in range(0, stop - first, lanes):
                    gather_tiles(m, f * line + t, m_plane, shift, out, f * 4 * line + 2 * t, 2 * line, seen)
            for f in range(held):
                store_outputs(out, f * 4 * line, first, stop, low * BLOCK + f, y, job)


# ---- the seam -------------------------------------------------------------------------------------------------------------


def odd(count: int, lanes: int) -> int:
    """At least count, an odd number of vectors: rows at such distances spread over all lines of a cache."""
    return (-(-count // lanes) | 1) * lanes


@lru_cache(maxsize=512)
def group_size(tiles: int, channels: int, filters: int, shares: int, itemsize: int, reading: float) -> int:
    """Tiles of a group: up to GROUP, fewer where V would leave the cache, so that the longest share ends early.

    reading: what it takes to go through the weights (or their gradients) once, in vectors of tiles.
    """
    lanes = REGISTER_BYTES // itemsize
    panel, vectors = VECTORS * lanes, -(-tiles // lanes)
    most = min(GROUP, max(panel, CACHE // (PLANES * channels * itemsize) // panel * panel)) // lanes

    def longest(group: int) -> float:
        """The work of the share with most, in vectors."""
        groups = -(-vectors // group)
        if groups == 1:  # shared out by filters; every share transforms all inputs
            return (vectors + reading) / min(shares, -(-filters // BLOCK)) + 6 / filters * vectors
        bounds = [groups * share // shares for share in range(shares + 1)]
        return max(min(vectors, b * group) - a * group + reading * (b - a) for a, b in itertools.pairwise(bounds))

    return min(range(min(most, vectors), 0, -1), key=longest) * lanes


def _convolve(x, weight, bias, sizes, out_sizes, before, turned):
    """The convolution of x (..., channels, *sizes), with `before` zeros before each axis, or NotImplemented."""
    lead, channels = x.shape[:-3], x.shape[-3]
    filters = weight.shape[1] if turned else weight.shape[0]
    images = math.prod(lead)
    lanes = REGISTER_BYTES // x.itemsize
    tiles_h, tiles_w = (-(-n // 2) for n in out_sizes)
    tiles = images * tiles_h * tiles_w
    shares = share_count(tiles * PLANES * channels * filters, _SERIAL_BELOW)
    group = group_size(tiles, channels, filters, shares, x.itemsize, 0.4)
    groups, blocks = -(-tiles // group), -(-filters // BLOCK)
    by_filters = min(blocks, -(-shares // groups))
    shares = min(shares, groups * by_filters)
    line, u_row = odd(group + lanes, lanes), odd(channels, lanes)
    together, fresh = min(blocks, TOGETHER), groups == 1
    if fresh:
        together = min(together, max(1, FRESH // (PLANES * BLOCK * u_row * x.itemsize)))
    plane = channels * line + lanes
    m_plane = together * BLOCK * line + lanes
    u_plane = (together if fresh else blocks) * BLOCK * u_row + lanes
    filter_step, channel_step = (9, filters * 9) if turned else (channels * 9, 9)
    job = Job(
        images, channels, filters, *sizes, *out_sizes, *before, tiles_h, tiles_w, group, line, plane, m_plane, u_row, u_plane,
        by_filters, together, filter_step, channel_step, turned, fresh,
    )  # fmt: skip
    numbers, flat_weight = np.array(job, np.int64), plain(weight)
    u = empty((0 if fresh else PLANES * u_plane,), x.dtype)
    if not fresh:
        weight_shares = share_count(filters * channels * PLANES, _SERIAL_BELOW)
        run_shares(winograd_weights, weight_shares, flat_weight, u, numbers, weight_shares)
    rows = 8 * ((group // tiles_w + 4) * tiles_w + 2 * lanes)
    own = PLANES * u_plane if fresh else 0
    scratch = empty((shares, PLANES * (plane + m_plane) + together * BLOCK * 4 * line + own + rows), x.dtype)
    watch = np.zeros((shares, lanes), x.dtype)
    y = empty((*lead, filters, *out_sizes), x.dtype)
    flat_bias = np.empty(0, x.dtype) if bias is None else plain(bias)
    run_shares(winograd_share, shares, plain(x), flat_weight, u, flat_bias, y.reshape(-1), scratch, watch, numbers, shares)
    return NotImplemented if np.isnan(watch).any() else y


def unsupported(*arrays) -> bool:
    """Whether one of the arrays (None: absent) is empty, or of a dtype that the convolution kernels do not do."""
    return bool(numba.config.DISABLE_JIT) or any(
        a is not None and (a.dtype.kind != "f" or a.dtype.itemsize < 4 or not a.size) for a in arrays
    )


def forward(input, weight, bias=None, padding=(0, 0)):
    """The convolution of input (..., C, H, W) and weight (F, C, 3, 3) at stride 1, dilation 1, one group.

    NotImplemented for other dtypes than float32 and float64, for kernels that are not 3x3, and where a result is not finite.
    """
    if unsupported(input, weight, bias) or weight.shape[2:] != (3, 3):
        return NotImplemented
    pairs = padding_pairs(padding)
    sizes = input.shape[-2:]
    out = tuple(n + a + b - 2 for n, (a, b) in zip(sizes, pairs, strict=True))
    return _convolve(input, weight, bias, sizes, out, [a for a, _ in pairs], False)


def input_grad(grad_output, weight, input_size, padding=(0, 0)):
    """The adjoint of `forward` in the input, whose spatial sizes are `input_size`; NotImplemented as there."""
    if unsupported(grad_output, weight) or weight.shape[2:] != (3, 3):
        return NotImplemented
    before = [2 - a for a, _ in padding_pairs(padding)]
    return _convolve(grad_output, weight, None, grad_output.shape[-2:], tuple(input_size), before, True)


def worth(images, channels, filters, out_sizes, itemsize=4, weight_grad=False) -> bool:
    """Whether a 3x3 convolution at stride 1 is clearly faster in this module than directly (see `gain`)."""
    return gain(images, channels, filters, out_sizes, itemsize, weight_grad) > 1.1


def gain(images, channels, filters, out_sizes, itemsize=4, weight_grad=False) -> float:
    """The estimated time of a direct convolution by that of this module, from `channels` to `filters`, in (..., *out_sizes).

    For the gradient in the input, `channels` are those of the output's gradient, and `out_sizes` those of the input. weight_grad: for
    the gradient in the weight, which has channels and filters as the forward pass.

    Counted in multiplications of vectors, of which a core does one in a cycle or more; transforms were measured in them.
    """
    lanes = REGISTER_BYTES // itemsize
    height, width = out_sizes
    positions = images * -(-height * width // lanes)  # in vectors
    vectors = -(-images * -(-height // 2) * -(-width // 2) // lanes)  # of tiles
    if weight_grad:
        whole = -(-channels // lanes) * lanes
        direct = 1.15 * positions * filters * 9 * channels
        winograd = vectors * (PLANES * whole * (filters + 8) + 100 * channels + 80 * filters) + 12 * filters * whole
    else:
        direct = 1.1 * positions * filters * 9 * channels
        winograd = vectors * (PLANES * (channels + 3) * filters + 100 * (channels + filters)) + 8 * channels * filters
    return direct / (winograd + _START)
