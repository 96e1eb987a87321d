"""The gradient of a convolution in its weight, directly.

It is a matrix product too: the output's gradient (filters, positions) times what each position meets (positions, taps). The input that
a strip of the output sees is turned, so that channels follow each other: [line][column][tap d][channel]. The taps along one line of a
position's window then lie in one row of consecutive elements, which begins where the position's column does, and
`conv_tiles.conv_panel` multiplies them with the output's gradient where that lies. Nothing is wasted on few channels, since vectors run
over taps and channels alike; where a line of taps still leaves much of its last vector empty, lines are copied once for every tap along
the height, [line of the output][column][tap d][tap h][channel], and all taps lie in one row (`folded`).

Work is shared out by groups, chunks of channels and parts of the images, each with sums of its own, which depend on shapes only and are
added at the end in one order; then by filters. So results do not depend on the number of threads.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from tinygrad_cv.kernels.jit import kernel
from tinygrad_cv.kernels.memory import empty
from tinygrad_cv.kernels.shares import call_share, plain, run_shares, share_count, span
from tinygrad_cv.kernels.vector import REGISTER_BYTES, address

from .conv_copies import turn_block
from .conv_tiles import ADDING, panel_address
from .routines import routine, stay_apart, zero_row

COPY_BYTES = 384 << 10  # of the turned copies that one product reads: they stay in the L2 cache
CHUNK_TAPS = 640  # taps, over all channels of a chunk, that one product yields
_ADDED = 4  # multiplications that adding a sum to another counts as
PARTS = 4  # into which the work is cut at least, so that threads find enough


class Job(NamedTuple):
    """The numbers of a call, which the kernel gets as one array."""

    images: int
    groups: int
    channels: int  # of a group
    rows: int  # filters of a group
    depth: int  # of the input
    height: int
    width: int
    out_depth: int
    out_height: int
    out_width: int
    step_d: int
    step_h: int
    before_d: int
    before_h: int
    before_w: int
    dilation_d: int
    dilation_h: int
    taps_d: int
    taps_h: int
    taps_w: int
    chunks: int  # of channels
    chunk: int  # channels of one
    parts: int  # of the images
    by_rows: int  # parts of the filters
    together: int  # images of one product
    strip_rows: int
    strip_columns: int
    column_step: int  # from a column of the copy to the next, in the input
    apart: int  # runs of columns that the copy keeps apart: those whose taps follow each other
    run: int  # columns of such a run
    position_step: int  # columns from one output to the next, all runs counted
    folded: int  # taps along the height that lie in one row of the copy: all or 1
    line_step: int  # from a line of the copy to the next, in the input
    lines: int  # of the copy, for a strip
    tap_lines: int  # from a tap along the height to the next
    panel: int = 0


@routine
def turn_strip(x, origin, job, places, d, first_row, first_column, lines, held, copy, to):
    """Copies `lines` lines of what one strip meets in `held` channels, from x[origin:], turned."""
    stay_apart()
    depth, height, width = job[4], job[5], job[6]
    taps_d, folded, chunk = job[17], job[31], job[21]
    step, apart, run = job[27], job[28], job[29]
    rows, lanes = taps_d * folded * chunk, REGISTER_BYTES // x.itemsize
    slots = apart * run
    start = first_column * job[30] * step - job[14]
    for line in range(lines):
        at = 0
        for i in range(taps_d):
            z = d * job[10] + i * job[15] - job[12]
            for j in range(folded):
                h = first_row * job[11] + line * job[32] + j * job[16] - job[13]
                seen = 0 <= z and z < depth and 0 <= h and h < height
                for c in range(chunk):
                    places[at] = origin + ((c * depth + z) * height + h) * width if seen and c < held else -1
                    at += 1
        base = to + line * slots * rows
        if step * apart <= 2:
            for first in range(0, rows, lanes):
                for part in range(apart):
                    for column in range(0, run, lanes):  # what goes beyond a run is overwritten by the next
                        shift = start + (column * apart + part) * step
                        low, high = max(0, -(shift // (step * apart))), (width - 1 - shift) // (step * apart) + 1
                        to_block = base + (part * run + column) * rows + first
                        turn_block(
                            x, places, first, min(lanes, rows - first), shift, step * apart, low, high, copy, to_block, rows
                        )
        else:
            for column in range(slots):
                w, slot = start + column * step, column % apart * run + column // apart
                for r in range(rows):
                    copy[base + slot * rows + r] = x[places[r] + w] if places[r] >= 0 and 0 <= w and w < width else 0


@kernel
def weight_share(grad_output, x, private, scratch, places, job, offsets, shares, share):
    """A share of the sums: tasks are (part of the images, group, chunk of channels, part of the filters)."""
    images, groups, channels, rows = job[0], job[1], job[2], job[3]
    out_depth, out_height, out_width = job[7], job[8], job[9]
    chunks, chunk, parts, by_rows, together = job[20], job[21], job[22], job[23], job[24]
    strip_rows, strip_columns = job[25], job[26]
    taps = job[17] * job[31] * chunk
    line_copy, width = job[28] * job[29] * taps, job[19] * taps
    image_copy, by_line = job[33] * line_copy, job[18] // job[31]
    lanes_row = by_line * width
    area, out_area = job[4] * job[5] * job[6], out_depth * out_height * out_width
    copy, mine = scratch[share], places[share]
    kind = x.dtype.type(0)
    for task in range(*span(parts * groups * chunks * by_rows, shares, share)):
        by_row, wide = task % by_rows, task // by_rows
        first, stop = span((rows + 5) // 6, by_rows, by_row)
        first, stop = first * 6, min(rows, stop * 6)
        target = (wide * rows + first) * lanes_row
        zero_row(private, target, (stop - first) * lanes_row)
        begin_channel, g, part = wide % chunks * chunk, wide // chunks % groups, wide // chunks // groups
        held = min(chunk, channels - begin_channel)
        low, high = span(images, parts, part)
        for image in range(low, high, together):
            count = min(together, high - image)
            for d in range(out_depth):
                for row in range(0, out_height, strip_rows):
                    for column in range(0, out_width, strip_columns):
                        lines, columns = min(strip_rows, out_height - row), min(strip_columns, out_width - column)
                        copied = job[33] - (strip_rows - lines) * (job[11] // job[32])
                        for m in range(count):
                            origin = (((image + m) * groups + g) * channels + begin_channel) * area
                            turn_strip(x, origin, job, mine, d, row, column, copied, held, copy, m * image_copy)
                        source = ((image * groups + g) * rows + first) * out_area + (d * out_height + row) * out_width + column
                        for tap in range(by_line):
                            call_share(
                                job[35], np.int64(ADDING),
                                (
                                    kind, address(copy, tap * job[34] * line_copy), address(offsets, 0),
                                    np.int64((lines - 1) * strip_columns + columns), count, image_copy, width,
                                    address(grad_output, source), out_area, groups * rows * out_area, np.int64(stop - first),
                                    address(private, target + tap * width), lanes_row, np.int64(0), np.int64(0),
                                ),
                            )  # fmt: skip


@kernel
def gather_sums(private, weight_grad, job, shares, share):
    """A share of the filters: adds up what the parts of the images gave and puts the taps into their order.

    private: (parts, groups, chunks, filters, lines of taps, tap w, tap d, tap h of a line, channel of a chunk), the first part used up.
    """
    groups, channels, rows, chunks, chunk, parts = job[1], job[2], job[3], job[20], job[21], job[22]
    taps_d, taps_h, taps_w, folded = job[17], job[18], job[19], job[31]
    count = taps_d * taps_h * taps_w
    size, part_size = count * chunk, groups * chunks * rows * count * chunk
    for filter in range(*span(groups * rows, shares, share)):
        g, row = filter // rows, filter % rows
        for m in range(chunks):
            begin = ((g * chunks + m) * rows + row) * size
            for part in range(1, parts):
                more = begin + part * part_size
                for i in range(size):
                    private[begin + i] += private[more + i]
            held = min(chunk, channels - m * chunk)
            for d in range(taps_d):
                for h in range(taps_h):
                    for w in range(taps_w):
                        source = begin + (((h // folded * taps_w + w) * taps_d + d) * folded + h % folded) * chunk
                        to = ((filter * channels + m * chunk) * taps_d + d) * taps_h * taps_w + h * taps_w + w
                        for c in range(held):
                            weight_grad[to + c * count] = private[source + c]


@lru_cache(maxsize=512)
def plan(images, groups, channels, rows, sizes, out, kernel_size, stride, before, dilation, shares, itemsize):
    """(Job, offsets of positions in a strip's copy)."""
    taps_d, taps_h, taps_w = kernel_size
    lanes = REGISTER_BYTES // itemsize
    chunks = -(-channels // max(lanes, CHUNK_TAPS // math.prod(kernel_size) // lanes * lanes))
    chunk = -(-channels // chunks)
    line = taps_d * taps_w * chunk  # taps of one line of the window
    folded = taps_h if -(-line * taps_h // lanes) * 1.2 < -(-line // lanes) * taps_h else 1
    taps = taps_d * folded * chunk
    line_step = stride[1] if folded == taps_h else math.gcd(stride[1], dilation[1])
    tap_lines = 0 if folded == taps_h else dilation[1] // line_step
    column_step = math.gcd(stride[2], dilation[2] if taps_w > 1 else 0)
    position_step = stride[2] // column_step
    apart = dilation[2] // column_step if taps_w > 1 else 1

    def run(columns: int) -> int:
        return -(-((columns - 1) * position_step + (taps_w - 1) * apart + 1) // apart)

    columns = out[2]
    if apart * run(columns) * taps * itemsize > 2 * COPY_BYTES:
        columns = min(columns, max(64, COPY_BYTES // (taps * itemsize * position_step) // 64 * 64))
    line_bytes = apart * run(columns) * taps * itemsize
    line_factor, reach = stride[1] // line_step, tap_lines * (taps_h - 1) + 1
    fitting = max(1, (COPY_BYTES // line_bytes - reach) // line_factor + 1)
    strip_rows = min(out[1], fitting) if columns == out[2] else 1
    strip_rows = -(-out[1] // -(-out[1] // strip_rows))
    lines = (strip_rows - 1) * line_factor + reach
    row_bytes = groups * rows * channels * math.prod(kernel_size) * itemsize
    parts = min(images, 16 if row_bytes <= 1 << 16 else -(-PARTS // (chunks * groups)))
    together = min(-(-images // parts), max(1, COPY_BYTES // (lines * line_bytes)))
    by_rows = min(-(-rows // 6), -(-shares // (parts * groups * chunks)))
    job = Job(
        images, groups, channels, rows, *sizes, *out, *stride[:2], *before, *dilation[:2], *kernel_size, chunks, chunk, parts, by_rows,
        together, strip_rows, columns, column_step, apart, run(columns), position_step,
        folded, line_step, lines, tap_lines,
    )  # fmt: skip
    first, column = np.ix_(np.arange(strip_rows) * line_factor, np.arange(columns) * position_step)
    slot = column % apart * job.run + column // apart
    return job, ((first * apart * job.run + slot) * taps).reshape(-1).astype(np.int64)


def direct_weight_grad(
    grad_output, input, images: int, groups: int, sizes, out, kernel_size, stride, before, dilation, serial_below: int
) -> np.ndarray:
    """(groups * filters, channels, *kernel_size), all of three spatial axes, for arrays of one dtype, float32 or float64."""
    dtype, area = input.dtype, math.prod(sizes)
    if kernel_size == stride == (1, 1, 1) and sizes == out and not any(before):
        sizes = out = (1, 1, area)  # one long line
    rows, channels = grad_output.size // (images * groups * math.prod(out)), input.size // (images * groups * area)
    shares = share_count(grad_output.size * channels * math.prod(kernel_size), serial_below)
    job, offsets = plan(
        images, groups, channels, rows, sizes, out, kernel_size, stride, before, dilation, shares, dtype.itemsize
    )
    job = job._replace(panel=panel_address(dtype))
    wide = job.parts * groups * job.chunks
    shares = min(shares, wide * job.by_rows)
    taps = job.taps_d * job.folded * job.chunk
    lanes = REGISTER_BYTES // dtype.itemsize
    scratch = empty((shares, (job.together * job.lines * job.apart * job.run + lanes) * taps + lanes), dtype)
    places = np.full((shares, taps + lanes), -1)
    private = empty((job.parts * groups * job.chunks * rows * job.taps_h * job.taps_w * job.taps_d * job.chunk,), dtype)
    numbers = np.array(job, np.int64)
    run_shares(
        weight_share, shares, plain(grad_output), plain(input), private, scratch, places, numbers, offsets, shares,
    )  # fmt: skip
    weight_grad = empty((groups * rows, channels, *kernel_size), dtype)
    shares = min(groups * rows, share_count(_ADDED * private.size, serial_below))
    run_shares(gather_sums, shares, private, weight_grad.reshape(-1), numbers, shares)
    return weight_grad
