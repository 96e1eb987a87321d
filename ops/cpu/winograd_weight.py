"""The gradient in the weight of a Winograd convolution (see `winograd`), the adjoint of its forward pass:

    grad g = G^T [ sum over tiles (A grad Y A^T) * (B^T d B) ] G       (* element by element)

For each element this is a matrix product (filters, tiles) x (tiles, channels).

Sums are cut into parts that depend on the shape alone, and added in one order at the end: any number of threads gives the same bits.
"""

from __future__ import annotations

import math

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
from .winograd import group_size, has_nan, unsupported
from .winograd_choice import best_tile
from .winograd_pieces import BLOCK, Job, odd, places, spread_tiles, turned_size
from .winograd_tiles import gather_weights

CHUNK = 8  # blocks of filters whose sums lie together, with one panel of channels: what the second-level cache holds
_PARTS = 8  # into which sums are cut at most
_PART_TILES = 64  # tiles of one part at least
_PART_BYTES = 1 << 23  # of all parts together
_SERIAL_BELOW = 200_000  # multiplications: fewer run on the calling thread


@routine
def correlate(planes, w, v, tiles, low, blocks, channel, job, sums, sums_at, adding):
    """sums[plane, filter, channel] = or += the sum over tiles of w[plane, tile, filter] v[plane, tile, channel], for some blocks of filters
    from `low` on and the panel of channels from `channel` on."""
    stay_apart()
    channels, v_row, v_plane, w_row, w_plane, sums_plane = job[1], job[12], job[13], job[14], job[15], job[16]
    lanes = REGISTER_BYTES // w.itemsize
    row = VECTORS * lanes
    wide = min(VECTORS, (channels - channel + lanes - 1) // lanes)
    for p in range(planes):
        for b in range(blocks):
            at, to = p * w_plane + (low + b) * BLOCK, sums_at + p * sums_plane + b * BLOCK * row
            outer_tile(6, wide, 0, w, at, 1, w_row, v, p * v_plane + channel, v_row, sums, to, row, tiles, adding)


@routine
def store_weights(tile, sums, sums_at, parts, part, low, high, channel, job, out, watch):
    """out[filter, channel] = G^T u G, u the sum of all parts, for the filters low ... high - 1 and a panel of channels."""
    literally(tile)
    stay_apart()
    channels, sums_plane = job[1], job[16]
    lanes = REGISTER_BYTES // sums.itemsize
    row = VECTORS * lanes
    for f in range(low, high):
        for c in range(channel, min(channels, channel + row), lanes):
            at, to = sums_at + (f - low) * row + c - channel, (f * channels + c) * 9
            gather_weights(tile, sums, at, sums_plane, parts, part, out, to, min(lanes, channels - c), watch)


@routine
def correlate_share(tile, grad, x, sums, out, scratch, watch, job, places, out_places, parts, shares, share):
    """A share of sums[part, chunk of filters, panel of channels, plane, filter, channel], and of `out` if there is but one part.

    Jobs are (part of the groups of rows of tiles, part of the filters).
    """
    literally(tile)
    images, channels, filters, tiles_h, tiles_w, group = job[0], job[1], job[2], job[9], job[10], job[11]
    v_row, v_plane, w_row, w_plane, by_filters, chunks = job[12], job[13], job[14], job[15], job[17], job[18]
    planes, lines, panel = (tile + 2) ** 2, images * tiles_h, VECTORS * REGISTER_BYTES // x.itemsize
    groups, blocks, panels = (lines + group - 1) // group, (filters + BLOCK - 1) // BLOCK, (channels + panel - 1) // panel
    size = planes * job[16]
    v = scratch[share]
    w = v[planes * v_plane :]
    rows = w[planes * w_plane :]
    for task in range(*span(parts * by_filters, shares, share)):
        part, piece = task // by_filters, task % by_filters
        low_chunk, high_chunk = span(chunks, by_filters, piece)
        low, high = blocks * low_chunk // chunks, blocks * high_chunk // chunks
        begin, end = span(groups, parts, part)
        for g in range(begin, end):
            first, stop = g * group, min(lines, (g + 1) * group)
            spread_tiles(tile, 2, x, 0, channels, first, stop, job, places, rows, v, v_row, v_plane)
            last = min(filters, high * BLOCK)
            spread_tiles(tile, 0, grad, low * BLOCK, last, first, stop, job, out_places, rows, w, w_row, w_plane)
            for i in range(low_chunk, high_chunk):
                from_block, to_block = span(blocks, chunks, i)
                for c in range(panels):
                    at = share * size if groups == 1 else ((part * chunks + i) * panels + c) * size
                    count = to_block - from_block
                    correlate(
                        planes, w, v, (stop - first) * tiles_w, from_block - low, count, c * panel, job, sums, at, g > begin
                    )
                    if parts == 1 and g == end - 1:
                        to = min(filters, to_block * BLOCK)
                        store_weights(tile, sums, at, 1, 0, from_block * BLOCK, to, c * panel, job, out, watch[share])


@routine
def result_share(tile, sums, out, watch, job, parts, shares, share):
    """A share of `out`, from the sums of several parts."""
    literally(tile)
    channels, filters, chunks, size = job[1], job[2], job[18], (tile + 2) ** 2 * job[16]
    panel, blocks = VECTORS * REGISTER_BYTES // sums.itemsize, (filters + BLOCK - 1) // BLOCK
    panels = (channels + panel - 1) // panel
    for n in range(*span(chunks * panels, shares, share)):
        low, high = span(blocks, chunks, n // panels)
        part, to = chunks * panels * size, min(filters, high * BLOCK)
        store_weights(tile, sums, n * size, parts, part, low * BLOCK, to, n % panels * panel, job, out, watch[share])


@kernel
def winograd_weight_share_2x2(grad, x, sums, out, scratch, watch, job, places, out_places, parts, shares, share):
    correlate_share(2, grad, x, sums, out, scratch, watch, job, places, out_places, parts, shares, share)


@kernel
def winograd_weight_share_4x4(grad, x, sums, out, scratch, watch, job, places, out_places, parts, shares, share):
    correlate_share(4, grad, x, sums, out, scratch, watch, job, places, out_places, parts, shares, share)


@kernel
def winograd_weight_result_2x2(sums, out, watch, job, parts, shares, share):
    result_share(2, sums, out, watch, job, parts, shares, share)


@kernel
def winograd_weight_result_4x4(sums, out, watch, job, parts, shares, share):
    result_share(4, sums, out, watch, job, parts, shares, share)


_KERNELS = {
    2: (winograd_weight_share_2x2, winograd_weight_result_2x2),
    4: (winograd_weight_share_4x4, winograd_weight_result_4x4),
}


def weight_grad(grad_output, input, padding=(0, 0), tile=None):
    """The adjoint of `winograd.forward` in the weight: an array (F, C, 3, 3); tile and NotImplemented as there."""
    pairs = padding_pairs(padding)
    if unsupported(grad_output, input):
        return NotImplemented
    channels, filters, images = input.shape[-3], grad_output.shape[-3], math.prod(input.shape[:-3])
    out_sizes = grad_output.shape[-2:]
    if tile is None:
        tile = best_tile(images, channels, filters, out_sizes, input.itemsize, weight_grad=True) or 2
    planes = (tile + 2) ** 2
    tiles_h, tiles_w = (-(-n // tile) for n in out_sizes)
    lines, dtype = images * tiles_h, input.dtype
    lanes = REGISTER_BYTES // dtype.itemsize
    panel, blocks = VECTORS * lanes, -(-filters // BLOCK)
    sums_bytes = planes * channels * filters * dtype.itemsize
    most = min(_PARTS, _PART_BYTES // sums_bytes, lines * tiles_w // _PART_TILES)
    parts = 1 << max(0, most.bit_length() - 1)
    room = planes * (channels + filters) * dtype.itemsize
    group = group_size(lines, tiles_w, room, sums_bytes, blocks, parts, 6.0)
    groups = -(-lines // group)
    parts = min(parts, groups)
    shares = share_count(lines * tiles_w * planes * channels * filters, _SERIAL_BELOW)
    by_filters = min(blocks, shares // math.gcd(parts, shares))
    shares = min(shares, parts * by_filters)
    chunks = min(blocks, by_filters * -(-blocks // (by_filters * CHUNK)))
    sums_plane = -(-blocks // chunks) * BLOCK * panel + lanes
    tiles, v_row, w_row = group * tiles_w, odd(channels, lanes), odd(-(-blocks // by_filters) * BLOCK + BLOCK, lanes)
    v_plane, w_plane = tiles * v_row + lanes, tiles * w_row + lanes
    job = Job(
        images, channels, filters, *input.shape[-2:], *out_sizes, *(a for a, _ in pairs), tiles_h, tiles_w, group, v_row, v_plane,
        w_row, w_plane, sums_plane, by_filters, chunks,
    )  # fmt: skip
    numbers, deep = np.array(job, np.int64), min(group, tiles_h)
    rows = max(
        turned_size(tile, 2, deep, tiles_w, input.shape[-1], lanes), turned_size(tile, 0, deep, tiles_w, out_sizes[1], lanes)
    )  # fmt: skip
    scratch = empty((shares, planes * (v_plane + w_plane) + rows), dtype)
    places_of_sums = shares if groups == 1 else parts * chunks * -(-channels // panel)
    sums, out = empty((places_of_sums * planes * sums_plane,), dtype), empty((filters, channels, 3, 3), dtype)
    kernel, result_kernel = _KERNELS[tile]
    result_shares = 1 if parts == 1 else share_count(parts * planes * channels * filters, _SERIAL_BELOW)
    watch = np.zeros((max(shares, result_shares), lanes), dtype)
    run_shares(
        kernel, shares, plain(grad_output), plain(input), sums, out.reshape(-1), scratch, watch, numbers,
        places(*input.shape[-2:], tile * tiles_w + 2, lanes), places(*out_sizes, tile * tiles_w, lanes), parts, shares,
    )  # fmt: skip
    if parts > 1:
        run_shares(result_kernel, result_shares, sums, out.reshape(-1), watch, numbers, parts, result_shares)
    return NotImplemented if choose(has_nan, watch) else out
