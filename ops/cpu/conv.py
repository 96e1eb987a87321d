"""Convolution kernels: forward, gradient in the input, gradient in the weight. The one seam through which all convolutions go.

Every kernel works on flat rows. An image is copied once into a zero-padded grid (de-interleaved by the stride), in which
all the inputs that one kernel tap meets lie at a constant distance from the outputs: out[p] += weight[k] * grid[offset[k] + p] for
one long range of p, which vectorises whatever the stride, dilation and number of axes are. The few p that fall into the
padding are computed and dropped. The gradient in the input is the same computation on the other operand, once for every
remainder of the stride.

Large 3x3 convolutions in steps of 1 go to `winograd`, which needs fewer multiplications.

Tiling: up to 6 output channels by 4 vectors of positions in registers (`tiles`), over all taps at once; for the weight's
gradient 6 output channels by 4 taps, over all positions of as many images as fit into half the L2 cache. Work is shared
out by images, then groups, then channels; threads never write to the same place, and private weight gradients are added at
the end.
"""

from __future__ import annotations

import math

import numpy as np

from tinygrad_cv.kernels import threads
from tinygrad_cv.kernels.jit import kernel, prange
from tinygrad_cv.kernels.memory import empty
from tinygrad_cv.kernels.shares import plain, run_shares, share_count, span

from ..sliding import convolve_weight_grad, padding_pairs
from . import winograd, winograd_weight
from .conv_grid import Grid, input_grad_grids, source_grid, spreading_order, three
from .tiles import (
    LANES_SLACK,
    REGISTER_BYTES,
    ROWS,
    TAPS,
    VECTORS,
    add_row,
    copy_row,
    copy_rows,
    dot_tile,
    routine,
    stay_apart,
    tap_tile,
    zero_row,
)

CHUNK = 512  # positions whose sums are kept together, 12 KB for 6 channels
LONG_CHUNK = 4096  # positions of one pass of `correlate_share`
CACHE = 1 << 19  # bytes of operands that one pass may hold, half an L2 cache
_SERIAL_BELOW = 200_000  # multiplications: fewer run on the calling thread


# ---- pieces of the kernels ------------------------------------------------------------------------------------------------


@routine
def fill_plane(x, begin, row, step, grid, at, first_h, stop_h, first_w, stop_w, grid_h, grid_w):
    """One plane of the grid: elements (first_h ... stop_h - 1, first_w ... stop_w - 1) from x[begin], `row` apart along rows and
    `step` along columns, zeros around."""
    stay_apart()
    rows, columns = stop_h - first_h, stop_w - first_w
    if rows == 0 or columns == 0:
        zero_row(grid, at, grid_h * grid_w)
        return
    if rows < grid_h:
        zero_row(grid, at, first_h * grid_w)
        zero_row(grid, at + stop_h * grid_w, (grid_h - stop_h) * grid_w)
    to = at + first_h * grid_w
    if columns < grid_w:
        for i in range(rows):
            for j in range(first_w):
                grid[to + i * grid_w + j] = 0
            for j in range(stop_w, grid_w):
                grid[to + i * grid_w + j] = 0
    if step == 1:
        copy_rows(x, begin, row, grid, to + first_w, grid_w, rows, columns)
    else:
        for i in range(rows):
            for j in range(columns):
                grid[to + first_w + i * grid_w + j] = x[begin + i * row + j * step]


@routine
def fill_grid(x, start, channels, layout, grid):
    """Copies `channels` images from x[start:] into the padded, de-interleaved grid."""
    stay_apart()
    depth, height, width = layout[0], layout[1], layout[2]
    step_d, step_h, step_w = layout[3], layout[4], layout[5]
    grid_d, grid_h, grid_w = layout[12], layout[13], layout[14]
    bounds_w, at = 15 + 2 * layout[10], 0
    for c in range(channels):
        for phase_d in range(layout[9]):
            for phase_h in range(layout[10]):
                first_h, stop_h = layout[15 + 2 * phase_h], layout[16 + 2 * phase_h]
                h = first_h * step_h + phase_h - layout[7]
                for phase_w in range(layout[11]):
                    first_w, stop_w = layout[bounds_w + 2 * phase_w], layout[bounds_w + 2 * phase_w + 1]
                    w = first_w * step_w + phase_w - layout[8]
                    for q_d in range(grid_d):
                        d = q_d * step_d + phase_d - layout[6]
                        if 0 <= d < depth:
                            begin = start + ((c * depth + d) * height + h) * width + w
                            row = width * step_h
                            fill_plane(x, begin, row, step_w, grid, at, first_h, stop_h, first_w, stop_w, grid_h, grid_w)
                        else:
                            zero_row(grid, at, grid_h * grid_w)
                        at += grid_h * grid_w


@routine
def run_taps(block, source, start, offsets, first, count, weights, weights_at, initial, sums, n):
    """The sums of `block` output channels over n positions from source[start:], all taps, in tiles of about equal width."""
    stay_apart()
    lanes = REGISTER_BYTES // source.itemsize
    vectors = (n + lanes - 1) // lanes
    tiles = (vectors + VECTORS - 1) // VECTORS
    for t in range(tiles):
        v = vectors * t // tiles
        wide, at = vectors * (t + 1) // tiles - v, v * lanes
        if block == 6:
            tap_tile(6, wide, source, start + at, offsets, first, count, weights, weights_at, initial, sums, at, CHUNK)
        elif block == 4:
            tap_tile(4, wide, source, start + at, offsets, first, count, weights, weights_at, initial, sums, at, CHUNK)
        else:
            tap_tile(1, wide, source, start + at, offsets, first, count, weights, weights_at, initial, sums, at, CHUNK)


@routine
def store_rows(
    sums, at, y, base, begin, n, out_h, out_w, job, grid_h, grid_w, size_d, size_h, size_w, start_d, start_h, start_w
):
    """Writes the sums of flat grid positions [begin, begin + n) to the output channel at y[base:], without the padding's
    share."""
    stay_apart()
    if grid_w == out_w and job[14] == 1 and job[15] == 1 and (size_d == 1 or (grid_h == out_h and job[13] == 1)):
        copy_row(sums, at, y, base + start_d * out_h * out_w + begin, n)  # nothing to leave out
        return
    row = begin // grid_w
    q_d, q_h = row // grid_h, row % grid_h
    edge = row * grid_w
    while edge < begin + n:
        low, high = max(begin, edge), min(begin + n, edge + size_w)
        if q_h < size_h and low < high:
            line = (q_d * job[13] + start_d) * out_h + q_h * job[14] + start_h
            to = base + line * out_w + (low - edge) * job[15] + start_w
            if job[15] == 1:
                copy_row(sums, at + low - begin, y, to, high - low)
            else:
                for i in range(high - low):
                    y[to + i * job[15]] = sums[at + low - begin + i]
        edge += grid_w
        q_h += 1
        if q_h == grid_h:
            q_d, q_h = q_d + 1, 0


@routine
def run_dots(block, images, n, lines, at, line, image, source, start, source_image, offsets, k, out, out_at, stride):
    """Adds the products of `block` lines with 4 taps over n positions of `images` images to out."""
    stay_apart()
    lanes = REGISTER_BYTES // source.itemsize
    v = (n + lanes - 1) // lanes
    if block == 6:
        dot_tile(6, images, v, lines, at, line, image, source, start, source_image, offsets, k, out, out_at, stride)
    elif block == 4:
        dot_tile(4, images, v, lines, at, line, image, source, start, source_image, offsets, k, out, out_at, stride)
    else:
        dot_tile(1, images, v, lines, at, line, image, source, start, source_image, offsets, k, out, out_at, stride)


@routine
def fill_line(g, source, lines, to, depth, height, width, grid_h, grid_w):
    """Copies one channel of an output gradient to its grid positions; those between stay zero."""
    stay_apart()
    for d in range(depth):
        begin, at = source + d * height * width, to + d * grid_h * grid_w
        if grid_w == width:
            copy_row(g, begin, lines, at, height * width)
        else:
            for h in range(height):
                copy_row(g, begin + h * width, lines, at + h * grid_w, width)


# ---- the kernels. `job` holds their numbers: see `_job` -------------------------------------------------------------------


@kernel
def pack_weights(weight, groups, rows, block, strides, phases, taps, packed):
    """packed[group][phase][block of rows][tap][row] from weight[group, row, channel, tap], whose element strides are given."""
    blocks = (rows + block - 1) // block
    for job in prange(groups * blocks):
        g, b = job // blocks, job % blocks
        for f in range(phases.shape[0]):
            first, count = phases[f, 0], phases[f, 1]
            at = g * taps.shape[0] * blocks * block + first * blocks * block + b * count * block
            for k in range(count):
                base = g * strides[0] + taps[first + k, 0] * strides[2] + taps[first + k, 1]
                for r in range(block):
                    row = b * block + r
                    packed[at + k * block + r] = weight[base + row * strides[1]] if row < rows else 0


@kernel
def convolve_share(x, packed, bias, y, job, layout, phases, offsets, share):
    """y[image, group, row] = bias + the taps of every phase. Jobs are (image, group, part of the rows), split evenly over
    `shares`."""
    images, groups, channels, rows, block = job[0], job[1], job[2], job[3], job[4]
    by_image, by_rows, copy, channel = job[5], job[6], job[8], job[9]
    depth, height, width = job[10], job[11], job[12]
    shares = by_image * by_rows
    blocks = (rows + block - 1) // block
    jobs = images * groups * by_rows
    area_in, area_out = layout[0] * layout[1] * layout[2], depth * height * width
    grid_h, grid_w = layout[13], layout[14]
    per_group = offsets.size * blocks * block
    scratch = np.empty(channels * channel + LANES_SLACK, x.dtype)
    sums = np.empty(block * CHUNK, x.dtype)
    initial = np.zeros(block, x.dtype)
    for task in range(*span(jobs, shares, share)):
        part, plane = task % by_rows, task // by_rows
        g = plane % groups
        origin, source = plane * channels * area_in, x
        if copy or origin + channels * area_in + LANES_SLACK > x.size:
            fill_grid(x, origin, channels, layout, scratch)
            origin, source = 0, scratch
        for f in range(phases.shape[0]):
            first, count, length = phases[f, 0], phases[f, 1], phases[f, 8]
            for b in range(blocks * part // by_rows, blocks * (part + 1) // by_rows):
                at = g * per_group + (first * blocks + b * count) * block
                held = min(block, rows - b * block)
                if bias.size:
                    for r in range(held):
                        initial[r] = bias[g * rows + b * block + r]
                for start in range(0, length, CHUNK):
                    n = min(CHUNK, length - start)
                    run_taps(block, source, origin + start, offsets, first, count, packed, at, initial, sums, n)
                    for r in range(held):
                        base = (plane * rows + b * block + r) * area_out
                        store_rows(
                            sums, r * CHUNK, y, base, start, n, height, width, job, grid_h, grid_w,
                            phases[f, 2], phases[f, 3], phases[f, 4], phases[f, 5], phases[f, 6], phases[f, 7],
                        )  # fmt: skip


@kernel
def spread_share(g, packed, x, job, layout, phases, offsets, share):
    """The gradient in the input at stride 1, by spreading: every tap's share of g, (image, group, filter), is added where
    it came from.

    `layout` and `offsets` are those of the forward pass, for `rows` input channels; blocks hold channels of one tap. Done
    where g is much smaller than x, so that gathering would mostly meet zeros.
    """
    images, groups, channels, rows, block = job[0], job[1], job[2], job[3], job[4]
    by_image, by_rows, copy, channel = job[5], job[6], job[8], job[9]
    depth, height, width = job[10], job[11], job[12]
    shares = by_image * by_rows
    blocks = (rows + block - 1) // block
    taps = offsets.size // rows
    area_in, area_out = layout[0] * layout[1] * layout[2], depth * height * width
    length, grid_h, grid_w = phases[0, 8], layout[13], layout[14]
    lanes = REGISTER_BYTES // g.itemsize
    line = (length + lanes - 1) // lanes * lanes
    filters, jobs = channels, images * groups
    lines = np.zeros(filters * line + LANES_SLACK, g.dtype)
    places = np.empty(filters, np.int64)
    for f in range(filters):
        places[f] = f * line
    sums = np.empty(block * CHUNK, g.dtype)
    initial = np.zeros(block, g.dtype)
    scratch = np.empty(rows * channel if copy else 1, g.dtype)
    for plane in range(*span(jobs, shares, share)):
        for f in range(filters):
            fill_line(g, (plane * filters + f) * area_out, lines, f * line, depth, height, width, grid_h, grid_w)
        target, origin = (scratch, 0) if copy else (x, plane * rows * area_in)
        zero_row(target, origin, rows * channel)
        for t in range(taps):
            for b in range(blocks):
                at = ((plane % groups * taps + t) * blocks + b) * filters * block
                for start in range(0, length, CHUNK):
                    n = min(CHUNK, length - start)
                    run_taps(block, lines, start, places, 0, filters, packed, at, initial, sums, n)
                    for r in range(min(block, rows - b * block)):
                        place = origin + offsets[(b * block + r) * taps + t] + start
                        add_row(sums, r * CHUNK, target, place, n)
        if copy:
            for c in range(rows):
                for d in range(layout[0]):
                    for h in range(layout[1]):
                        begin = c * channel + ((d + layout[6]) * grid_h + h + layout[7]) * grid_w + layout[8]
                        end = (plane * rows + c) * area_in + (d * layout[1] + h) * layout[2]
                        copy_row(scratch, begin, x, end, layout[2])


@kernel
def correlate_share(grad_output, x, private, job, layout, phases, offsets, share):
    """Weight gradients: every output row's gradient times every tap. A share is (part of the images, part of the row
    blocks)."""
    images, groups, channels, rows, block = job[0], job[1], job[2], job[3], job[4]
    by_image, by_rows, together, copy, channel = job[5], job[6], job[7], job[8], job[9]
    depth, height, width = job[10], job[11], job[12]
    blocks = (rows + block - 1) // block
    area_in, area_out = layout[0] * layout[1] * layout[2], depth * height * width
    taps, length = offsets.size, phases[0, 8]
    lanes = REGISTER_BYTES // x.itemsize
    line = (length + lanes - 1) // lanes * lanes
    i, j = share // by_rows, share % by_rows
    low, high = blocks * j // by_rows, blocks * (j + 1) // by_rows
    line_image = (high - low) * block * line
    lines = np.zeros(together * line_image, x.dtype)
    scratch = np.zeros(together * channels * channel + LANES_SLACK, x.dtype)
    last = images * (i + 1) // by_image
    for image in range(images * i // by_image, last, together):
        held = min(together, last - image)
        for g in range(groups):
            origin, source, source_image = (image * groups + g) * channels * area_in, x, groups * channels * area_in
            if copy or origin + (held - 1) * source_image + channels * area_in + LANES_SLACK > x.size:
                for m in range(held):
                    fill_grid(x, origin + m * source_image, channels, layout, scratch[m * channels * channel :])
                origin, source, source_image = 0, scratch, channels * channel
            for m in range(held):
                for row in range(low * block, min(rows, high * block)):
                    begin = (((image + m) * groups + g) * rows + row) * area_out
                    at = m * line_image + (row - low * block) * line
                    fill_line(grad_output, begin, lines, at, depth, height, width, layout[13], layout[14])
            for start in range(0, length, LONG_CHUNK):
                n = min(LONG_CHUNK, length - start)
                for b in range(low, high):
                    at, to = (b - low) * block * line + start, ((i * groups + g) * blocks + b) * block * taps
                    for k in range(0, taps, TAPS):
                        run_dots(
                            block, held, n, lines, at, line, line_image, source, origin + start, source_image, offsets, k,
                            private, to + k, taps,
                        )  # fmt: skip


# ---- the seam -------------------------------------------------------------------------------------------------------------


def _by_winograd(dtype, weight_shape: tuple[int, ...], stride, dilation, groups: int) -> bool:
    """Whether `winograd` does it: 3x3 kernels in steps of 1. float64 stays direct: it is what other results are checked with."""
    return dtype == np.float32 and weight_shape[2:] == (3, 3) and stride == dilation == (1, 1, 1) and groups == 1


def _block(rows: int) -> int:
    """How many rows a tile takes: the most, unless fewer waste less on the last block."""
    return min((r for r in ROWS if r >= min(rows, 4)), key=lambda r: (-(-rows // r) * r, -r))


def _job(images, groups, channels, rows, block, by_image, by_rows, together, grid: Grid, sizes, strides) -> np.ndarray:
    """The numbers of a kernel call: one array, because every argument of a kernel costs compile time.

    channels are read and rows written for each group, `block` rows at a time; by_image and by_rows: how the work is split;
    together: images of one pass; then, from the grid, whether to copy and the size of a channel; the spatial sizes (3) and
    strides (3) of the output.
    """
    numbers = (images, groups, channels, rows, block, by_image, by_rows, together, grid.copy, grid.channel, *sizes, *strides)
    return np.array(numbers, np.int64)


def _rows_kernel(operand, weight_view, strides, bias, y, images, groups, channels, rows, grid: Grid, out_sizes, out_strides):
    """Packs the weights and runs `convolve_share`."""
    block = _block(rows)
    blocks = -(-rows // block)
    work = images * groups * rows * grid.offsets.size * math.prod(out_sizes) // math.prod(out_strides)
    shares = share_count(work, _SERIAL_BELOW)
    pack = pack_weights if weight_view.size > 1 << 16 else pack_weights.serial
    packed = np.empty(groups * blocks * block * grid.offsets.size, y.dtype)
    pack(weight_view, groups, rows, block, strides, grid.phases, grid.taps, packed)
    by_rows = min(blocks, -(-shares // (images * groups)))
    job = _job(images, groups, channels, rows, block, -(-shares // by_rows), by_rows, 1, grid, out_sizes, out_strides)
    run_shares(
        convolve_share, int(job[5] * job[6]), operand, packed, bias, y.reshape(-1), job, grid.layout, grid.phases, grid.offsets
    )
    return y


def conv_forward(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """The convolution (see `tinygrad_cv.conv2d`) of float32 or float64 arrays; NotImplemented for others and empty ones."""
    if winograd.unsupported(input, weight, bias):
        return NotImplemented
    rank, lead = weight.ndim - 2, input.shape[: 1 - weight.ndim]
    before = [p for p, _ in padding_pairs(padding)]
    sizes, kernel_size = three(input.shape[-rank:], 1), three(weight.shape[2:], 1)
    totals = three([a + b for a, b in padding_pairs(padding)], 0)
    stride, dilation = three(stride, 1), three(dilation, 1)
    out = tuple(
        (n + p - d * (k - 1) - 1) // s + 1 for n, p, d, k, s in zip(sizes, totals, dilation, kernel_size, stride, strict=True)
    )
    rows, channels = weight.shape[0] // groups, weight.shape[1]
    if _by_winograd(input.dtype, weight.shape, stride, dilation, groups):
        if winograd.worth(math.prod(lead), channels, rows, out[1:]):
            y = winograd.forward(input, weight, bias, padding)
            if y is not NotImplemented:
                return y
    grid = source_grid(
        rows, channels, sizes, out, kernel_size, stride, three(before, 0), dilation, REGISTER_BYTES // input.itemsize
    )
    y = empty((*lead, weight.shape[0], *out[3 - rank :]), input.dtype)
    taps = math.prod(kernel_size)
    strides = np.array([rows * channels * taps, channels * taps, taps], np.int64)
    flat_bias = np.empty(0, input.dtype) if bias is None else plain(bias)
    images = math.prod(lead)
    return _rows_kernel(
        plain(input), plain(weight), strides, flat_bias, y, images, groups,
        channels, rows, grid, out, (1, 1, 1),
    )  # fmt: skip


def _input_grad(grad_output, weight, bias, input_size, stride, padding, dilation, groups):
    rank, lead = weight.ndim - 2, grad_output.shape[: 1 - weight.ndim]
    before = three([p for p, _ in padding_pairs(padding)], 0)
    sizes, kernel_size, out = three(input_size, 1), three(weight.shape[2:], 1), three(grad_output.shape[-rank:], 1)
    stride, dilation = three(stride, 1), three(dilation, 1)
    filters, rows = weight.shape[0] // groups, weight.shape[1]
    if _by_winograd(weight.dtype, weight.shape, stride, dilation, groups):
        if winograd.worth(math.prod(lead), filters, rows, input_size):
            x = winograd.input_grad(grad_output, weight, input_size, padding)
            if x is not NotImplemented:
                return x if bias is None else np.add(x, bias.reshape(-1, *(1,) * rank), out=x)
    lanes = REGISTER_BYTES // grad_output.itemsize
    grid, spreading = input_grad_grids(filters, rows, sizes, out, kernel_size, stride, before, dilation, lanes)
    x = empty((*lead, rows * groups, *input_size), grad_output.dtype)
    taps = math.prod(kernel_size)
    strides = np.array([filters * rows * taps, taps, rows * taps], np.int64)
    flat_bias = np.empty(0, x.dtype) if bias is None else plain(bias)
    flat_grad, flat_weight = plain(grad_output), plain(weight)
    images = math.prod(lead)
    if spreading is not None and images * groups >= threads.get_num_threads():
        _spread(flat_grad, flat_weight, strides, x, images, groups, filters, rows, spreading, out)
        if bias is not None:
            x += bias.reshape(-1, *(1,) * rank)
        return x
    return _rows_kernel(
        flat_grad, flat_weight, strides, flat_bias, x, images, groups, filters, rows, grid, sizes, stride
    )  # fmt: skip


def _spread(flat_grad, flat_weight, strides, x, images, groups, filters, rows, forward: Grid, out) -> None:
    """Packs the weights tap by tap and runs `spread_share`."""
    taps, block = forward.offsets.size // rows, _block(rows)
    shares = share_count(images * groups * rows * filters * taps * math.prod(out), _SERIAL_BELOW)
    phases, order = spreading_order(filters, taps)
    packed = np.empty(groups * taps * filters * -(-rows // block) * block, x.dtype)
    pack_weights.serial(flat_weight, groups, rows, block, strides, phases, order, packed)
    job = _job(images, groups, filters, rows, block, shares, 1, 1, forward, out, (1, 1, 1))
    run_shares(spread_share, shares, flat_grad, packed, x.reshape(-1), job, forward.layout, forward.phases, forward.offsets)


def conv_input_grad(grad_output, weight, input_size, stride=1, padding=0, dilation=1, groups=1):
    """The adjoint of `conv_forward` in the input: an array with spatial sizes `input_size`."""
    if winograd.unsupported(grad_output, weight) or not np.isfinite(weight).all():
        return NotImplemented
    return _input_grad(grad_output, weight, None, input_size, stride, padding, dilation, groups)


def conv_transpose(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """The transposed convolution (see `tinygrad_cv.conv_transpose2d`): `conv_input_grad` with a bias."""
    if winograd.unsupported(input, weight, bias) or not np.isfinite(weight).all():
        return NotImplemented
    each = zip(input.shape[2 - weight.ndim :], stride, padding, output_padding, dilation, weight.shape[2:], strict=True)
    sizes = tuple((n - 1) * s - 2 * p + d * (k - 1) + extra + 1 for n, s, p, extra, d, k in each)
    return _input_grad(input, weight, bias, sizes, stride, padding, dilation, groups)


def conv_weight_grad(grad_output, input, kernel_size, stride=1, padding=0, dilation=1, groups=1):
    """The adjoint of `conv_forward` in the weight: an array (filters, channels / groups, *kernel_size)."""
    if winograd.unsupported(grad_output, input):
        return NotImplemented
    rank = len(kernel_size)
    lead = input.shape[: -rank - 1]
    before = three([p for p, _ in padding_pairs(padding)], 0)
    sizes, kernel, out = three(input.shape[-rank:], 1), three(kernel_size, 1), three(grad_output.shape[-rank:], 1)
    rows, channels = grad_output.shape[-rank - 1] // groups, input.shape[-rank - 1] // groups
    if _by_winograd(input.dtype, (rows, channels, *kernel_size), three(stride, 1), three(dilation, 1), groups):
        if winograd.worth(math.prod(lead), channels, rows, out[1:], weight_grad=True):
            weight_grad = winograd_weight.weight_grad(grad_output, input, padding)
            if weight_grad is not NotImplemented:
                return weight_grad
    lanes = REGISTER_BYTES // input.itemsize
    grid = source_grid(rows, channels, sizes, out, kernel, three(stride, 1), before, three(dilation, 1), lanes)
    images, taps, block = math.prod(lead), grid.offsets.size, _block(rows)
    blocks = -(-rows // block)
    shares = share_count(images * groups * rows * taps * math.prod(out), _SERIAL_BELOW)
    by_image = min(images, shares)
    by_rows = min(blocks, -(-shares // by_image))
    offsets = grid.padded
    held = input.itemsize * (channels * grid.channel + -(-blocks // by_rows) * block * int(grid.phases[0, 8]))
    together = max(1, min(-(-images // by_image), CACHE // held))
    private = np.zeros(by_image * groups * blocks * block * offsets.size, input.dtype)
    job = _job(images, groups, channels, rows, block, by_image, by_rows, together, grid, out, (1, 1, 1))
    run_shares(
        correlate_share, by_image * by_rows, plain(grad_output), plain(input), private, job, grid.layout,
        grid.phases, offsets,
    )  # fmt: skip
    total = private if by_image == 1 else private.reshape(by_image, -1).sum(axis=0)
    if not np.isfinite(total).all():  # the padding's zeros would have turned an infinite input into NaN
        with np.errstate(all="ignore"):
            return convolve_weight_grad(grad_output, input, kernel_size, stride, padding, dilation, groups)
    total = total.reshape(groups, blocks * block, offsets.size)[:, :rows, :taps]
    weight_grad = np.empty((groups * rows, channels, *kernel_size), input.dtype)
    weight_grad.reshape(total.shape)[...] = total
    return weight_grad
