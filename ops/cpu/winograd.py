"""Winograd convolutions F(2x2, 3x3) and F(4x4, 3x3): 3x3 kernels, stride 1, in 4 and 2.25 multiplications for an output in place of 9.

A. Lavin and S. Gray, "Fast Algorithms for Convolutional Neural Networks", 2015 (arXiv:1509.09308). A tile of m x m outputs of one filter
g, from the (m + 2) x (m + 2) inputs d that it sees in one channel, is

    Y = A^T [(G g G^T) * (B^T d B)] A       (* element by element; the matrices: see `winograd_transforms`)

Sums over channels are taken before A^T: for each of the 16 or 36 elements, a matrix product of the transformed inputs (tiles, channels)
and the transformed weights (channels, filters). The gradient in the input is the same computation with g turned by half a turn and
filters and channels swapped.

A share of the work takes groups of rows of tiles, which are counted through all images, so that small maps fill the register tiles. For
each group it makes the transformed inputs V, and for 64 filters at a time their products M with the transformed weights U, which stay
in the second-level cache until A^T turns them into outputs. Tiles that stick out of the map are computed in full and cut when they are
stored. A share makes U for itself, unless it has few tiles. One group alone, as of a single small image, is shared out by filters, and each
share makes its part of U on the way.

Accuracy: see `tg.set_conv_precision`, which also says when which is used. F(2x2) only adds, subtracts and halves, and its sums over
channels are nine times shorter than direct ones, so that its errors are no larger: below 2e-6 of the largest output in float32; those of
F(4x4) stay below 6e-6 (tests/test_winograd.py). But an output may also carry the rounding of inputs it does not depend on, those near
by that its tile sees; direct sums do not mix them. For the same reason an infinity or NaN would spread: results that are not all
finite are refused, and the caller convolves directly.
"""

from __future__ import annotations

import itertools
import math
from functools import lru_cache

import numba
import numpy as np
from numba import literally

from tinygrad_cv.kernels.jit import kernel
from tinygrad_cv.kernels.memory import empty
from tinygrad_cv.kernels.shares import plain, run_shares, share_count, span
from tinygrad_cv.kernels.vector import REGISTER_BYTES, VECTORS
from tinygrad_cv.replay import choose

from ..sliding import padding_pairs
from .gemm_tiles import outer_tile
from .routines import routine, stay_apart
from .winograd_choice import best_tile, worth
from .winograd_pieces import BLOCK, Job, odd, places, spread_tiles, turned_size
from .winograd_tiles import gather_tile, spread_weights, turn_out

TOGETHER = 64  # filters whose products are kept until they are transformed
GROUP = 64  # tiles that are worked on together
ALONE = 256  # tiles that may be worked on together where that is all
OWN = (
    1 << 24
)  # bytes of transformed weights that every share may make for itself: fetching them from another core takes longer,
OWN_TILES = 48  # provided that it multiplies as many tiles
CACHE = 5 << 19  # bytes of their V and M; each of their parts is used by itself, so that they may exceed the L2 cache
_SERIAL_BELOW = 200_000  # multiplications: fewer run on the calling thread
_REGION = 50_000.0  # what another parallel region costs, in multiplications of vectors


# ---- pieces of the kernels ------------------------------------------------------------------------------------------------


@routine
def spread_filters(tile, weight, low, high, job, u, u_low):
    """U = G g G^T for the vectors of filters low ... high - 1, laid out as (plane, panel of VECTORS vectors, channel, filter of the panel).

    u begins with the panel of vector u_low.
    """
    literally(tile)
    stay_apart()
    channels, filters, u_plane = job[1], job[2], job[16]
    filter_step, channel_step, turned = job[19], job[20], job[21] != 0
    lanes = REGISTER_BYTES // weight.itemsize
    for n in range(low, high):
        to = ((n // VECTORS - u_low // VECTORS) * channels * VECTORS + n % VECTORS) * lanes
        count = min(lanes, filters - n * lanes)
        for c in range(channels):
            at = n * lanes * filter_step + c * channel_step
            spread_weights(tile, weight, at, filter_step, count, 4 * channel_step, turned, u, to + c * VECTORS * lanes, u_plane)


@routine
def multiply(planes, u, u_low, v, m, tiles, low, high, job):
    """m[plane, tile, filter] = the sum over channels of v[plane, tile, channel] u[plane, channel, filter], for the vectors of filters
    low ... high - 1."""
    stay_apart()
    channels, v_row, v_plane, m_row, m_plane, u_plane = job[1], job[12], job[13], job[14], job[15], job[16]
    lanes = REGISTER_BYTES // u.itemsize
    for p in range(planes):
        n = low
        while n < high:
            wide = min(VECTORS - n % VECTORS, high - n)
            at = p * u_plane + ((n // VECTORS - u_low // VECTORS) * channels * VECTORS + n % VECTORS) * lanes
            for t in range(0, tiles, BLOCK):
                source, to = p * v_plane + t * v_row, p * m_plane + t * m_row + (n - low) * lanes
                if tiles - t > 4:
                    outer_tile(6, wide, 0, v, source, v_row, 1, u, at, VECTORS * lanes, m, to, m_row, channels, False)
                else:
                    outer_tile(4, wide, 0, v, source, v_row, 1, u, at, VECTORS * lanes, m, to, m_row, channels, False)
            n += wide


@routine
def store_outputs(tile, m, low, high, first, stop, ends, y, watch, job, places, rows):
    """Transforms the products of the vectors of filters low ... high - 1 and writes the rows of tiles first ... stop - 1."""
    literally(tile)
    stay_apart()
    filters, height, width, tiles_h, tiles_w = job[2], job[5], job[6], job[9], job[10]
    m_row, m_plane = job[14], job[15]
    lanes = REGISTER_BYTES // m.itemsize
    pitch, area = tile * tiles_w, height * width
    at = 0
    while first < stop:
        image, top = first // tiles_h, first % tiles_h
        lines = min(tiles_h - top, stop - first)
        begin, end = tile * top * width, min(height, tile * (top + lines)) * width
        for n in range(low, high):
            f = n * lanes
            for line in range(lines):
                for t in range(tiles_w):
                    source, to = (at + line * tiles_w + t) * m_row + (n - low) * lanes, (line * pitch + t) * tile * lanes
                    gather_tile(tile, m, source, m_plane, ends, f, ends.size // 3, rows, to, pitch * lanes, watch)
            for p in range(begin, end, lanes):
                to = (image * filters + f) * area + p
                turn_out(rows, -tile * top * pitch * lanes, places, p, y, to, area, filters - f, end - p)
        first += lines
        at += lines * tiles_w


@routine
def weights_share(tile, weight, u, job, shares, share):
    """A share of the transformed weights, for all of whose users it is worth to make them first."""
    literally(tile)
    lanes = REGISTER_BYTES // weight.itemsize
    low, high = span((job[2] + lanes - 1) // lanes, shares, share)
    spread_filters(tile, weight, low, high, job, u, 0)


@routine
def convolve_share(tile, x, weight, u, ends, y, scratch, watch, job, places, out_places, shares, share):
    """A share of y[image, filter] = max(ends[2], ends[0] * the convolution + ends[1]).

    Jobs are (group of rows of tiles, part of the filters).
    """
    literally(tile)
    images, channels, filters, tiles_h, tiles_w, group = job[0], job[1], job[2], job[9], job[10], job[11]
    v_plane, m_plane, u_plane, by_filters, together, fresh = job[13], job[15], job[16], job[17], job[18], job[22]
    lanes, planes = REGISTER_BYTES // x.itemsize, (tile + 2) ** 2
    lines = images * tiles_h
    vectors = (filters + lanes - 1) // lanes
    v = scratch[share]
    m = v[planes * v_plane :]
    own = m[planes * m_plane :]
    rows = own[min(fresh, 1) * planes * u_plane :]
    used, used_low, present = u, 0, -1
    if fresh == 2:
        used = own
        spread_filters(tile, weight, 0, vectors, job, own, 0)
    for task in range(*span((lines + group - 1) // group * by_filters, shares, share)):
        g, part = task // by_filters, task % by_filters
        first, stop = g * group, min(lines, (g + 1) * group)
        if g != present:
            spread_tiles(tile, 2, x, 0, channels, first, stop, job, places, rows, v, job[12], v_plane)
            present = g
        last = vectors * (part + 1) // by_filters
        for low in range(vectors * part // by_filters, last, together):
            high = min(last, low + together)
            if fresh == 1:
                used, used_low = own, low
                spread_filters(tile, weight, low, high, job, own, low)
            multiply(planes, used, used_low, v, m, (stop - first) * tiles_w, low, high, job)
            store_outputs(tile, m, low, high, first, stop, ends, y, watch[share], job, out_places, rows)


# ---- the kernels, one for each tile, so that only what is used is compiled ------------------------------------------------


@kernel
def winograd_weights_2x2(weight, u, job, shares, share):
    weights_share(2, weight, u, job, shares, share)


@kernel
def winograd_weights_4x4(weight, u, job, shares, share):
    weights_share(4, weight, u, job, shares, share)


@kernel
def winograd_share_2x2(x, weight, u, ends, y, scratch, watch, job, places, out_places, shares, share):
    convolve_share(2, x, weight, u, ends, y, scratch, watch, job, places, out_places, shares, share)


@kernel
def winograd_share_4x4(x, weight, u, ends, y, scratch, watch, job, places, out_places, shares, share):
    convolve_share(4, x, weight, u, ends, y, scratch, watch, job, places, out_places, shares, share)


_KERNELS = {2: (winograd_weights_2x2, winograd_share_2x2), 4: (winograd_weights_4x4, winograd_share_4x4)}


# ---- the seam -------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=512)
def group_size(
    lines: int, tiles_w: int, room: int, weights: int, parts: int, shares: int, reading: float, region: float = 0.0
) -> int:
    """Rows of tiles of a group, so that the longest share ends early.

    It has up to GROUP tiles, fewer where what is kept of them, `room` bytes for each, would leave the cache; but never so few that it
    takes less than half of the transformed weights, of `weights` bytes, which are gone through once for each group. A group that holds
    all tiles may have up to ALONE.
    parts: into how many parts the filters can be cut; reading: what it takes to go through the weights (or their gradients) once, and
    region: to make them beforehand, both in tiles.
    """
    most = min(lines, max(1, max(min(GROUP, CACHE // room), weights // (2 * room)) // tiles_w))
    tiles = lines * tiles_w
    alone = [lines] if tiles <= min(ALONE, CACHE // room) else []
    again = 3 * room / weights  # to transform the inputs, in multiplications of them

    def longest(group: int) -> float:
        """The work of the share with most, in tiles."""
        groups = -(-lines // group)
        if groups == 1:  # shared out by filters; every share transforms all inputs
            return (tiles + reading) / min(shares, parts) + again * tiles
        bounds = [groups * share // shares for share in range(shares + 1)]
        work = ((min(lines, b * group) - a * group) * tiles_w + reading * (b - a) for a, b in itertools.pairwise(bounds))
        return region + max(work)

    return min([*alone, *range(most, 0, -1)], key=longest)


def _convolve(x, weight, bias, scale, relu, sizes, out_sizes, before, turned, tile):
    """The convolution of x (..., channels, *sizes), with `before` zeros before each axis, or NotImplemented; the rest as for `forward`."""
    lead, channels = x.shape[:-3], x.shape[-3]
    filters = weight.shape[1] if turned else weight.shape[0]
    images, planes = math.prod(lead), (tile + 2) ** 2
    lanes = REGISTER_BYTES // x.itemsize
    tiles_h, tiles_w = (-(-n // tile) for n in out_sizes)
    lines, vectors = images * tiles_h, -(-filters // lanes)
    shares = share_count(lines * tiles_w * planes * channels * filters, _SERIAL_BELOW)
    room, weights = (planes * n * x.itemsize for n in (channels + filters, channels * filters))
    region = _REGION / (planes * channels * vectors)
    group = group_size(lines, tiles_w, room, weights, vectors, shares, 3.0, region)
    groups = -(-lines // group)
    by_filters = min(vectors, -(-shares // groups))
    shares = min(shares, groups * by_filters)
    fresh = 1 if groups == 1 else 2 if weights <= OWN and lines * tiles_w >= OWN_TILES * shares and by_filters == 1 else 0
    together = min(TOGETHER // lanes, -(-vectors // by_filters))
    v_row, m_row = odd(channels, lanes), odd(together * lanes, lanes)
    tiles = -(-group * tiles_w // BLOCK) * BLOCK
    v_plane, m_plane = tiles * v_row + lanes, tiles * m_row + lanes
    panels = together // VECTORS + 2 if fresh == 1 else -(-vectors // VECTORS)
    u_plane = panels * VECTORS * lanes * channels + lanes
    filter_step, channel_step = (9, filters * 9) if turned else (channels * 9, 9)
    job = Job(
        images, channels, filters, *sizes, *out_sizes, *before, tiles_h, tiles_w, group, v_row, v_plane, m_row, m_plane, u_plane,
        by_filters, together, filter_step, channel_step, turned, fresh,
    )  # fmt: skip
    numbers, flat_weight = np.array(job, np.int64), plain(weight)
    u = empty((0 if fresh else planes * u_plane,), x.dtype)
    weights_kernel, kernel = _KERNELS[tile]
    if not fresh:
        weight_shares = min(vectors, share_count(filters * channels * planes, _SERIAL_BELOW))
        run_shares(weights_kernel, weight_shares, flat_weight, u, numbers, weight_shares)
    own, deep = planes * u_plane if fresh else 0, min(group, tiles_h)
    rows = max(
        turned_size(tile, 2, deep, tiles_w, sizes[1], lanes), turned_size(tile, 0, deep, tiles_w, out_sizes[1], lanes)
    )  # fmt: skip
    scratch, watch = empty((shares, planes * (v_plane + m_plane) + own + rows), x.dtype), np.zeros((shares, lanes), x.dtype)
    y = empty((*lead, filters, *out_sizes), x.dtype)
    ends = np.empty((3, vectors * lanes), x.dtype)
    for row, value in zip(
        ends, (1 if scale is None else scale, 0 if bias is None else bias, 0 if relu else -np.inf), strict=True
    ):
        row[:filters], row[filters:] = value, 0
    run_shares(
        kernel, shares, plain(x), flat_weight, u, ends.reshape(-1), y.reshape(-1), scratch, watch, numbers,
        places(*sizes, tile * tiles_w + 2, lanes), places(*out_sizes, tile * tiles_w, lanes), shares,
    )  # fmt: skip
    return NotImplemented if choose(has_nan, watch) else y


def unsupported(*arrays) -> bool:
    """Whether one of the arrays (None: absent) is empty, or of a dtype that the convolution kernels do not do."""
    return bool(numba.config.DISABLE_JIT) or any(
        a is not None and (a.dtype.kind != "f" or a.dtype.itemsize < 4 or not a.size) for a in arrays
    )


def has_nan(array):
    """Whether an element is NaN."""
    return np.isnan(array).any()


def all_finite(array):
    """Whether no element is NaN or infinite."""
    return np.isfinite(array).all()


def forward(input, weight, bias=None, padding=(0, 0), tile=None, scale=None, relu=False):
    """The convolution of input (..., C, H, W) and weight (F, C, 3, 3) at stride 1, dilation 1, one group.

    tile: outputs of a tile along an axis, 2 or 4; by default the faster of those that `tg.set_conv_precision` allows, else 2.
    scale (F) and relu: an epilogue, max(0, scale * convolution + bias).

    NotImplemented for other dtypes than float32 and float64, for kernels that are not 3x3, and where a result is not finite.
    """
    pairs = padding_pairs(padding)
    if unsupported(input, weight, bias, scale) or weight.shape[2:] != (3, 3):
        return NotImplemented
    sizes = input.shape[-2:]
    out = tuple(n + a + b - 2 for n, (a, b) in zip(sizes, pairs, strict=True))
    if tile is None:
        tile = best_tile(math.prod(input.shape[:-3]), weight.shape[1], weight.shape[0], out, input.itemsize) or 2
    return _convolve(input, weight, bias, scale, relu, sizes, out, [a for a, _ in pairs], False, tile)


def input_grad(grad_output, weight, input_size, padding=(0, 0), tile=None):
    """The adjoint of `forward` in the input, whose spatial sizes are `input_size`; tile as there.

    NotImplemented as there, and for paddings above 2, with which some outputs see no input.
    """
    pairs = padding_pairs(padding)
    if unsupported(grad_output, weight) or weight.shape[2:] != (3, 3) or max(map(max, pairs)) > 2:
        return NotImplemented
    out = tuple(input_size)
    if tile is None:
        tile = best_tile(math.prod(grad_output.shape[:-3]), weight.shape[0], weight.shape[1], out, weight.itemsize) or 2
    return _convolve(grad_output, weight, None, None, False, grad_output.shape[-2:], out, [2 - a for a, _ in pairs], True, tile)


__all__ = ["forward", "group_size", "input_grad", "unsupported", "worth"]
