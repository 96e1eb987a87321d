"""The gradient of a convolution of many small images in its weight: vectors run over images, as in `conv_images`.

The gradient of one weight is a dot product, over all positions and images, of one channel of the output's gradient with what the
tap meets. Both are turned, so that the same element of many images lies side by side, the input with the zeros around it. A tile
takes a few filters times a few (channel, tap), as many dot products at once as registers hold, and adds up their lanes at the end. So
vectors are full whatever the number of channels and taps.

Work is shared out by blocks of images, groups and parts of the lines, each with sums of its own, which depend on shapes only and are
added in one order: results do not depend on the number of threads.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from tinygrad_cv.kernels.jit import kernel
from tinygrad_cv.kernels.memory import empty
from tinygrad_cv.kernels.shares import run_shares, share_count, span
from tinygrad_cv.kernels.vector import REGISTER_BYTES, VECTORS, Writer, address, constant

from .conv_images import MOST_BYTES, TOGETHER, Window
from .routines import zero_row
from .winograd_tiles import turn_in

TILES = ((6, 4), (4, 6)) if VECTORS == 4 else ((3, 4), (4, 3))  # filters and taps of the two tiles
MOST_TAPS = max(taps for _, taps in TILES)
PARTS = 4  # into which the work is cut at least, so that threads find enough
_TURN = 5.0  # what turning a vector costs, in multiplications of vectors
_TILE = 300.0  # what the sums of a tile cost at the end
_COPY = 6.0  # what copying a vector costs in `conv_weight`
_WORTH = 0.9  # of the cost there, below which this is chosen


class Job(NamedTuple):
    """The numbers of a call, which the kernel gets as one array."""

    images: int
    groups: int
    channels: int
    rows: int
    height: int
    width: int
    out_height: int
    out_width: int
    step_h: int
    step_w: int
    before_h: int
    reach: int  # lines from the first that an output line meets to the one after the last
    padded_width: int
    padded: int  # elements of the turned input: positions, zeros around included, and some that nobody reads
    parts: int  # of the lines
    taps: int  # over all channels
    tile: int  # which of TILES


@intrinsic(prefer_literal=True)
def _dot_tile(typing_context, tile, kind, g, g_step, held, x, x_step, x_line, offsets, taps, lines, columns, sums, sums_row):
    """sums[r * sums_row + t] += the sum over i < lines, j < columns and the lanes of TOGETHER vectors of

    g[(i * columns + j) * g_step + r * TOGETHER vectors] * x[i * x_line + j * x_step + offsets[t]]

    for r < held and t < taps, at most those of TILES[tile]; as many offsets as the tile has taps are read. All but `kind`, a number of the
    element type, are integers.
    """
    if not isinstance(tile, types.IntegerLiteral):
        return None
    (height, width), whole = TILES[tile.literal_value], types.int64

    def codegen(context, builder, signature, args):
        _, _, g, g_step, held, x, x_step, x_line, offsets, taps, lines, columns, sums, sums_row = args
        writer = Writer(context, builder, kind)
        g, x, sums = (builder.inttoptr(v, writer.element.as_pointer()) for v in (g, x, sums))
        offsets = builder.inttoptr(offsets, ir.IntType(64).as_pointer())
        block = constant(TOGETHER * writer.lanes)

        def below(index: int, count):
            return builder.icmp_signed("<", constant(index), count)

        totals = [[cgutils.alloca_once(builder, writer.vector) for _ in range(width)] for _ in range(height)]
        for line in totals:
            for variable in line:
                builder.store(writer.zero, variable)
        across = [builder.select(below(r, held), builder.mul(block, constant(r)), constant(0)) for r in range(height)]
        met = [builder.load(writer.at(offsets, t)) for t in range(width)]
        with cgutils.for_range(builder, lines) as down:
            from_g = writer.at(g, builder.mul(builder.mul(down.index, columns), g_step))
            from_x = writer.at(x, builder.mul(down.index, x_line))
            with cgutils.for_range(builder, columns) as along:
                g_at = writer.at(from_g, builder.mul(along.index, g_step))
                x_at = writer.at(from_x, builder.mul(along.index, x_step))
                for v in range(TOGETHER):
                    seen = [writer.load(writer.at(x_at, m, v * writer.lanes)) for m in met]
                    for r in range(height):
                        value = writer.load(writer.at(g_at, across[r], v * writer.lanes))
                        for t in range(width):
                            writer.fma(value, seen[t], totals[r][t])
        for r in range(height):
            for t in range(width):
                with builder.if_then(builder.and_(below(r, held), below(t, taps))):
                    place = writer.at(sums, builder.mul(sums_row, constant(r)), t)
                    total = writer.total(builder.load(totals[r][t]))
                    builder.store(builder.fadd(builder.load(place), total), place)
        return context.get_dummy_value()

    return types.void(tile, kind, *(whole,) * 12), codegen


@kernel
def image_weight_share(grad_output, x, private, scratch, job, offsets, places, shares, share):
    """A share of the sums: tasks are (block of images, group, part of the lines); private: (block, part, group, row, tap)."""
    images, groups, channels, rows, height, width = job[0], job[1], job[2], job[3], job[4], job[5]
    out_height, out_width, step_h, step_w, before_h = job[6], job[7], job[8], job[9], job[10]
    reach, padded_width, padded, parts, taps = job[11], job[12], job[13], job[14], job[15]
    lanes = REGISTER_BYTES // x.itemsize
    block, area, out_area = TOGETHER * lanes, height * width, out_height * out_width
    x_pitch, g_pitch = channels * block + lanes, rows * block + lanes
    kind, turned = x.dtype.type(0), scratch[share]
    grad = turned[padded:]
    high_tile, wide = TILES[job[16]]
    zero_row(turned, 0, padded)
    for task in range(*span(images // block * groups * parts, shares, share)):
        g, begin = task // parts % groups, task // parts // groups * block
        first, stop = span(out_height, parts, task % parts)
        low = max(0, first * step_h - before_h) * width
        high = min(height, (stop - 1) * step_h - before_h + reach) * width
        for c in range(channels):
            for v in range(0, block, lanes):
                at = ((begin + v) * groups + g) * channels * area + c * area
                for p in range(low, high, lanes):
                    turn_in(x, at + p, groups * channels * area, lanes, high - p, places, p, turned, c * block + v)
        for r in range(rows):
            for v in range(0, block, lanes):
                at = ((begin + v) * groups + g) * rows * out_area + r * out_area
                for p in range(first * out_width, stop * out_width, lanes):
                    to = (p - first * out_width) * g_pitch + r * block + v
                    left = stop * out_width - p
                    turn_in(grad_output, at + p, groups * rows * out_area, lanes, left, places, area + lanes, grad, to)
        own = ((begin // block * parts + task % parts) * groups + g) * rows * taps
        zero_row(private, own, rows * taps)
        source, to = address(turned, first * step_h * padded_width * x_pitch), address(private, own)
        x_step, x_line, size = step_w * x_pitch, step_h * padded_width * x_pitch, x.itemsize
        for t in range(0, taps, wide):
            met, some = address(offsets, t), min(wide, taps - t)
            for r in range(0, rows, high_tile):
                from_g, more, at = address(grad, r * block), min(high_tile, rows - r), to + (r * taps + t) * size
                if job[16] == 0:
                    _dot_tile(
                        0, kind, from_g, g_pitch, more, source, x_step, x_line, met, some, stop - first, out_width, at, taps
                    )  # fmt: skip
                else:
                    _dot_tile(
                        1, kind, from_g, g_pitch, more, source, x_step, x_line, met, some, stop - first, out_width, at, taps
                    )  # fmt: skip


@kernel
def sum_parts(private, total, parts, shares, share):
    """A share of total = the sum of the parts of `private`, one after the other."""
    low, high = span(total.size, shares, share)
    for i in range(low, high):
        total[i] = private[i]
    for part in range(1, parts):
        for i in range(low, high):
            total[i] += private[part * total.size + i]


def _parts(blocks: int, window: Window) -> int:
    """Into how many parts to cut the lines of the output, for so many blocks of images."""
    return min(window.out[0], -(-PARTS // max(1, blocks)))


def _tile(rows: int, taps: int) -> tuple[int, int]:
    """The tile with which fewer do, and how many."""
    counts = [-(-rows // high) * -(-taps // wide) for high, wide in TILES]
    return counts.index(min(counts)), min(counts)


@lru_cache(maxsize=512)
def worth(images: int, channels: int, rows: int, window: Window, itemsize: int) -> bool:
    """Whether this is the faster way, by an estimate from the shape alone."""
    lanes, taps = REGISTER_BYTES // itemsize, channels * math.prod(window.taps)
    area, out_area = math.prod(window.sizes), math.prod(window.out)
    block = TOGETHER * lanes
    parts = _parts(images // block, window)
    if images % block or (channels * area + rows * -(-out_area // parts)) * block * itemsize > MOST_BYTES:
        return False
    _, tiles = _tile(rows, taps)
    products = TOGETHER * math.prod(TILES[0]) * tiles * out_area
    here = images // block * (products + _TURN * TOGETHER * (channels * area + rows * out_area) + _TILE * tiles * parts)
    return here < _WORTH * images * out_area * -(-taps // lanes) * (rows + _COPY)


@lru_cache(maxsize=512)
def _planned(dtype, images: int, groups: int, channels: int, rows: int, window: Window):
    """The job, where (channel, tap) lie in the turned input, where elements do, and elements of scratch memory of a share."""
    lanes, block = REGISTER_BYTES // dtype.itemsize, TOGETHER * REGISTER_BYTES // dtype.itemsize
    (height, width), (taps_h, taps_w), (before_h, before_w) = window.sizes, window.taps, window.before
    pitch = channels * block + lanes
    reach_h, reach_w = (d * (k - 1) + 1 for d, k in zip(window.dilation, window.taps, strict=True))
    deep, wide = (
        max(p + n, (o - 1) * s + r)
        for p, n, o, s, r in zip(window.before, window.sizes, window.out, window.step, (reach_h, reach_w), strict=True)
    )
    parts = _parts(images // block, window)
    positions = -(-window.out[0] // parts) * window.out[1]  # of a part
    padded, taps = (deep * wide + lanes) * pitch, channels * taps_h * taps_w
    job = Job(
        images,
        groups,
        channels,
        rows,
        height,
        width,
        *window.out,
        *window.step,
        before_h,
        reach_h,
        wide,
        padded,
        parts,
        taps,
        _tile(rows, taps)[0],
    )
    tap_h, tap_w = np.arange(taps_h) * window.dilation[0] * wide, np.arange(taps_w) * window.dilation[1]
    c, i, j = np.ix_(np.arange(channels) * block, tap_h * pitch, tap_w * pitch)
    offsets = np.concatenate([(c + i + j).reshape(-1), np.zeros(MOST_TAPS, np.int64)])
    row, column = np.divmod(np.arange(height * width), width)
    inside = (row + before_h) * wide + column + before_w
    more = np.arange(lanes)
    places = np.concatenate([inside * pitch, (deep * wide + more) * pitch, more * (rows * block + lanes)])
    return np.array(job, np.int64), offsets, places, padded + (positions + lanes) * (rows * block + lanes)


def weight_grad(grad_output, x, images: int, groups: int, window: Window, serial_below: int) -> np.ndarray:
    """The gradient, (groups * rows, channels, *taps), from flat arrays."""
    channels, rows = (a.size // (images * groups * math.prod(n)) for a, n in ((x, window.sizes), (grad_output, window.out)))
    job, offsets, places, room = _planned(x.dtype, images, groups, channels, rows, window)
    taps, parts = int(job[15]), int(job[14])
    size = groups * rows * taps
    tasks = images // (TOGETHER * REGISTER_BYTES // x.itemsize) * groups * parts
    shares = min(tasks, share_count(grad_output.size * taps, serial_below))
    private, total = empty((tasks // groups * size,), x.dtype), empty((groups * rows, channels, *window.taps), x.dtype)
    run_shares(
        image_weight_share, shares, grad_output, x, private, empty((shares, room), x.dtype), job, offsets, places, shares
    )  # fmt: skip
    run_shares(sum_parts, 1, private, total.reshape(-1), tasks // groups, 1)
    return total
