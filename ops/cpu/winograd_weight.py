"""The gradient in the weight of a Winograd convolution (see `winograd`), the adjoint of its forward pass:

    grad g = G^T [ sum over tiles (A grad Y A^T) * (B^T d B) ] G       (* element by element)

For each of the 16 elements this is a matrix product (filters, tiles) x (tiles, channels). Channels fill the vectors, so that the
transformed inputs are turned, block by block in registers, before they are multiplied.

Sums are cut into parts that depend on the shape alone, and added in one order at the end: any number of threads gives the same bits.
"""

from __future__ import annotations

import math

import numpy as np

from tinygrad_cv.kernels.jit import kernel
from tinygrad_cv.kernels.memory import empty
from tinygrad_cv.kernels.shares import plain, run_shares, share_count, span

from ..sliding import padding_pairs
from .gemm_tiles import outer_tile
from .tiles import REGISTER_BYTES, VECTORS, routine, stay_apart, transpose_block, zero_row
from .winograd import BLOCK, Job, group_size, odd, spread_inputs, unsupported
from .winograd_tiles import PLANES, gather_weights, spread_grad_columns, spread_grad_row

_PARTS = 8  # into which sums are cut at most
_PART_BYTES = 1 << 23  # of all parts together
_SERIAL_BELOW = 200_000  # multiplications: fewer run on the calling thread


@routine
def spread_grads(grad, first, stop, low, high, job, rows, w):
    """w[plane, filter - low, tile] = A y A^T for the tiles first ... stop - 1, counted through all images."""
    stay_apart()
    filters, height, width = job[2], job[5], job[6]
    tiles_h, tiles_w, line, plane = job[9], job[10], job[12], job[14]
    lanes = REGISTER_BYTES // grad.itemsize
    tiles = tiles_h * tiles_w
    at = 0
    while first < stop:
        image, t = first // tiles, first % tiles
        count = min(tiles - t, stop - first)
        top = t // tiles_w
        pairs = (t + count - 1) // tiles_w - top + 1
        distance = pairs * tiles_w + 2 * lanes
        for f in range(low, high):
            source = (image * filters + f) * height * width
            for start in range((tiles_w - 1) // lanes * lanes, -1, -lanes):  # what sticks out of a row is overwritten
                for r in range(2 * pairs):
                    h = 2 * top + r
                    to = r % 2 * distance + r // 2 * tiles_w + start
                    if h < height:
                        begin = source + h * width + 2 * start
                        spread_grad_row(grad, begin, width - 2 * start, height * width, rows, to, 2 * distance)
                    else:
                        for j in range(4):
                            zero_row(rows, to + 2 * j * distance, lanes)
            for k in range(0, count, lanes):
                spread_grad_columns(rows, t - top * tiles_w + k, distance, w, (f - low) * line + at + k, plane)
        first += count
        at += count


@routine
def multiply_turned(w, v, turned, tiles, blocks, job, sums, sums_at, adding):
    """sums[plane, filter, channel] = or += the sum over tiles of w[plane, filter, tile] v[plane, channel, tile]."""
    stay_apart()
    channels, line, plane, w_plane = job[1], job[12], job[13], job[14]
    row, sums_plane = job[15], job[16]
    lanes = REGISTER_BYTES // w.itemsize
    vectors = (channels + lanes - 1) // lanes
    for p in range(PLANES):
        for t in range(0, tiles, lanes):
            for c in range(vectors):
                transpose_block(v, p * plane + c * lanes * line + t, line, turned, t * row + c * lanes, row)
        for c in range(0, vectors, VECTORS):
            wide = min(VECTORS, vectors - c)
            for b in range(blocks):
                at, to = p * w_plane + b * BLOCK * line, sums_at + p * sums_plane + b * BLOCK * row + c * lanes
                outer_tile(6, wide, 0, w, at, line, 1, turned, c * lanes, row, sums, to, row, tiles, adding)


@kernel
def winograd_weight_share(grad, x, sums, scratch, job, parts, shares, share):
    """A share of sums[part, plane, filter, channel]: jobs are (part of the groups of tiles, part of the filters)."""
    images, filters, tiles_h, tiles_w = job[0], job[2], job[9], job[10]
    group, plane, w_plane, row = job[11], job[13], job[14], job[15]
    sums_plane, by_filters = job[16], job[17]
    tiles = images * tiles_h * tiles_w
    groups = (tiles + group - 1) // group
    blocks = (filters + BLOCK - 1) // BLOCK
    v = scratch[share]
    w = v[PLANES * plane :]
    turned = w[PLANES * w_plane :]
    rows = turned[group * row :]
    for task in range(*span(parts * by_filters, shares, share)):
        part, piece = task // by_filters, task % by_filters
        low, high = span(blocks, by_filters, piece)
        begin, end = span(groups, parts, part)
        for g in range(begin, end):
            first, stop = g * group, min(tiles, (g + 1) * group)
            spread_inputs(x, first, stop, job, rows, v)
            spread_grads(grad, first, stop, low * BLOCK, min(filters, high * BLOCK), job, rows, w)
            to = part * PLANES * sums_plane + low * BLOCK * row
            multiply_turned(w, v, turned, stop - first, high - low, job, sums, to, g > begin)


@kernel
def winograd_weight_result(sums, out, job, parts, shares, share):
    """out[filter, channel] = G^T u G, u the sum of all parts."""
    channels, filters, row, sums_plane = job[1], job[2], job[15], job[16]
    lanes = REGISTER_BYTES // sums.itemsize
    for f in range(*span(filters, shares, share)):
        for c in range(0, channels, lanes):
            to = (f * channels + c) * 9
            gather_weights(sums, f * row + c, sums_plane, parts, PLANES * sums_plane, out, to, min(lanes, channels - c))


def weight_grad(grad_output, input, padding=(0, 0)):
    """The adjoint of `winograd.forward` in the weight: an array (F, C, 3, 3); NotImplemented as there."""
    if unsupported(grad_output, input):
        return NotImplemented
    pairs = padding_pairs(padding)
    channels, filters, images = input.shape[-3], grad_output.shape[-3], math.prod(input.shape[:-3])
    out_sizes = grad_output.shape[-2:]
    tiles_h, tiles_w = (-(-n // 2) for n in out_sizes)
    tiles, dtype = images * tiles_h * tiles_w, input.dtype
    lanes = REGISTER_BYTES // dtype.itemsize
    blocks, row = -(-filters // BLOCK), odd(channels, lanes)
    sums_plane = blocks * BLOCK * row + lanes
    most = max(1, min(_PARTS, _PART_BYTES // (PLANES * sums_plane * dtype.itemsize)))
    group = group_size(tiles, channels, filters, most, dtype.itemsize, 1.0)
    groups = -(-tiles // group)
    parts = min(most, groups)
    shares = share_count(tiles * PLANES * channels * filters, _SERIAL_BELOW)
    by_filters = min(blocks, -(-shares // parts))
    shares = min(shares, parts * by_filters)
    line = odd(group + lanes, lanes)
    plane = -(-channels // lanes) * lanes * line + lanes
    w_plane = -(-blocks // by_filters) * BLOCK * line + lanes
    job = Job(
        images, channels, filters, *input.shape[-2:], *out_sizes, *(a for a, _ in pairs), tiles_h, tiles_w, group, line, plane,
        w_plane, row, sums_plane, by_filters,
    )  # fmt: skip
    numbers = np.array(job, np.int64)
    rows = 8 * ((group // tiles_w + 4) * tiles_w + 2 * lanes)
    scratch = empty((shares, PLANES * (plane + w_plane) + group * row + rows), dtype)
    sums = empty((parts * PLANES * sums_plane,), dtype)
    run_shares(winograd_weight_share, shares, plain(grad_output), plain(input), sums, scratch, numbers, parts, shares)
    out = empty((filters, channels, 3, 3), dtype)
    shares = share_count(parts * PLANES * sums_plane, _SERIAL_BELOW)
    run_shares(winograd_weight_result, shares, sums, out.reshape(-1), numbers, parts, shares)
    return out if np.isfinite(out).all() else NotImplemented
