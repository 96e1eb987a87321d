"""Convolution kernels: forward, gradient in the input, gradient in the weight. The one seam through which all convolutions go.

Every kernel works on flat rows. An image is copied once into a zero-padded grid (de-interleaved by the stride), in which all the
inputs that one kernel tap meets lie at a constant distance from the outputs: out[p] += weight[k] * grid[offset[k] + p] for one long
range of p, which vectorises whatever the stride, dilation and number of axes are. The few p that fall into the padding are computed
and dropped. The gradient in the input is the same computation on the other operand, once for every remainder of the stride.

Tiling: 4 output channels times 4 taps at a time, over chunks of 512 positions (the sums, 8 KB, stay in L1). Work is shared out by
images, then groups, then channels; threads never write to the same place, and private weight gradients are added at the end.
"""

from __future__ import annotations

import itertools
import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from tinygrad_cv.kernels import threads
from tinygrad_cv.kernels.jit import REDUCTION, helper, kernel, prange

from ..sliding import padding_pairs

CHUNK = 512
_SERIAL_BELOW = 200_000  # multiplications: fewer run on the calling thread


class Grid(NamedTuple):
    """How an operand is laid out for the kernels, and where its taps lie. All arrays are int64.

    layout: D, H, W, step, padding before, phases and grid sizes, three each; copy: whether the operand must be copied at all.
    phases: for each remainder of the output's stride: first tap, taps, sizes (3), first output (3), length of the flat range.
    offsets: of the taps, for one input channel after the other; taps: which kernel tap each is; channel: size of one grid channel.
    """

    layout: np.ndarray
    copy: bool
    channel: int
    phases: np.ndarray
    offsets: np.ndarray
    taps: np.ndarray


def _three(values, fill: int) -> tuple[int, ...]:
    return (fill,) * (3 - len(values)) + tuple(values)


def _grid(sizes, steps, before, phase_counts, grid_sizes, output_phases, channels: int) -> Grid:
    """Assembles a Grid. output_phases: (sizes, starts, taps) with taps a list of (kernel tap, phase, position), all per axis."""
    copy = any(p != 1 for p in phase_counts) or tuple(grid_sizes) != tuple(sizes) or any(before)
    area = math.prod(grid_sizes)
    channel = math.prod(phase_counts) * area
    rows, offsets, taps = [], [], []
    for out, start, found in output_phases:
        length = ((out[0] - 1) * grid_sizes[1] + out[1] - 1) * grid_sizes[2] + out[2]
        rows.append((len(offsets), len(found) * channels, *out, *start, length))
        flat = [np.ravel_multi_index(phase, phase_counts) * area + np.ravel_multi_index(at, grid_sizes) for _, phase, at in found]
        for c in range(channels):
            offsets += [c * channel + int(f) for f in flat]
            taps += [(c, tap) for tap, _, _ in found]
    layout = np.array([*sizes, *steps, *before, *phase_counts, *grid_sizes], np.int64)
    return Grid(
        layout, copy, channel, np.array(rows, np.int64).reshape(-1, 9), np.array(offsets, np.int64),
        np.array(taps, np.int64).reshape(-1, 2),
    )  # fmt: skip


@lru_cache(maxsize=512)
def forward_grid(channels: int, sizes, out, kernel_size, stride, before, dilation) -> Grid:
    """The input of a convolution: padded, and de-interleaved by the stride, so that each tap meets consecutive elements."""
    phases = tuple(min(s, d * (k - 1) + 1) for s, d, k in zip(stride, dilation, kernel_size, strict=True))
    grid = tuple(o + d * (k - 1) // s for o, d, k, s in zip(out, dilation, kernel_size, stride, strict=True))
    found = []
    for index, tap in enumerate(itertools.product(*map(range, kernel_size))):
        reach = [t * d for t, d in zip(tap, dilation, strict=True)]
        where = [divmod(r, s) for r, s in zip(reach, stride, strict=True)]
        found.append((index, [remainder for _, remainder in where], [quotient for quotient, _ in where]))
    return _grid(sizes, stride, before, phases, grid, [(out, (0, 0, 0), found)], channels)


@lru_cache(maxsize=512)
def backward_grid(channels: int, sizes, out, kernel_size, stride, before, dilation) -> Grid:
    """The output's gradient, padded so that each input position, by its remainder modulo the stride, finds its taps at one distance.

    Input i = q * stride + a receives from output q + e by the taps with a + before - tap * dilation = e * stride.
    """
    axes, margins, grid = [], [], []
    for n, o, k, s, p, d in zip(sizes, out, kernel_size, stride, before, dilation, strict=True):
        phases = []
        for a in range(min(s, n)):
            taps = [(t, (a + p - t * d) // s) for t in range(k) if (a + p - t * d) % s == 0]
            phases.append((a, -(-(n - a) // s), taps))
        reached = [(e, e + count - 1) for _, count, taps in phases for _, e in taps]
        margin = max([0, *(-low for low, _ in reached)])
        axes.append(phases)
        margins.append(margin)
        grid.append(margin + max([o, *(high + 1 for _, high in reached)], default=o))
    output_phases = []
    for combination in itertools.product(*axes):
        found = []
        for chosen in itertools.product(*(taps for _, _, taps in combination)):
            index = int(np.ravel_multi_index([t for t, _ in chosen], kernel_size))
            found.append((index, (0, 0, 0), [e + m for (_, e), m in zip(chosen, margins, strict=True)]))
        output_phases.append((tuple(count for _, count, _ in combination), tuple(a for a, _, _ in combination), found))
    return _grid(out, (1, 1, 1), tuple(margins), (1, 1, 1), tuple(grid), output_phases, channels)


# ---- pieces of the kernels ------------------------------------------------------------------------------------------------


@helper
def fill_grid(x, start, channels, layout, grid):
    """Copies `channels` images from x[start:] into the padded, de-interleaved grid."""
    depth, height, width = layout[0], layout[1], layout[2]
    step_d, step_h, step_w = layout[3], layout[4], layout[5]
    grid_d, grid_h, grid_w = layout[12], layout[13], layout[14]
    at = 0
    for c in range(channels):
        for phase_d in range(layout[9]):
            for phase_h in range(layout[10]):
                for phase_w in range(layout[11]):
                    shift = phase_w - layout[8]
                    first = min(grid_w, max(0, (-shift + step_w - 1) // step_w))
                    stop = max(first, min(grid_w, (width - 1 - shift) // step_w + 1))
                    for q_d in range(grid_d):
                        d = q_d * step_d + phase_d - layout[6]
                        for q_h in range(grid_h):
                            h = q_h * step_h + phase_h - layout[7]
                            row = grid[at : at + grid_w]
                            at += grid_w
                            if d < 0 or d >= depth or h < 0 or h >= height:
                                row[:] = 0
                                continue
                            begin = start + ((c * depth + d) * height + h) * width + first * step_w + shift
                            row[:first] = 0
                            row[stop:] = 0
                            inner = row[first:stop]
                            if step_w == 1:
                                source = x[begin : begin + stop - first]
                                for i in range(stop - first):
                                    inner[i] = source[i]
                            else:
                                for i in range(stop - first):
                                    inner[i] = x[begin + i * step_w]


@helper
def taps_4x4(sums, grid, o0, o1, o2, o3, w, n):
    """Adds 4 taps to the sums of 4 output channels. w: 16 weights, those of a tap together."""
    a0, a1, a2, a3 = w[0], w[1], w[2], w[3]
    b0, b1, b2, b3 = w[4], w[5], w[6], w[7]
    c0, c1, c2, c3 = w[8], w[9], w[10], w[11]
    d0, d1, d2, d3 = w[12], w[13], w[14], w[15]
    g0, g1, g2, g3 = grid[o0 : o0 + n], grid[o1 : o1 + n], grid[o2 : o2 + n], grid[o3 : o3 + n]
    for i in range(n):
        x0, x1, x2, x3 = g0[i], g1[i], g2[i], g3[i]
        sums[i] += a0 * x0 + b0 * x1 + c0 * x2 + d0 * x3
        sums[CHUNK + i] += a1 * x0 + b1 * x1 + c1 * x2 + d1 * x3
        sums[2 * CHUNK + i] += a2 * x0 + b2 * x1 + c2 * x2 + d2 * x3
        sums[3 * CHUNK + i] += a3 * x0 + b3 * x1 + c3 * x2 + d3 * x3


@helper
def taps_4x1(sums, grid, o0, w, n):
    """Adds 1 tap to the sums of 4 output channels."""
    a0, a1, a2, a3 = w[0], w[1], w[2], w[3]
    g0 = grid[o0 : o0 + n]
    for i in range(n):
        x0 = g0[i]
        sums[i] += a0 * x0
        sums[CHUNK + i] += a1 * x0
        sums[2 * CHUNK + i] += a2 * x0
        sums[3 * CHUNK + i] += a3 * x0


@helper
def taps_1x4(sums, grid, o0, o1, o2, o3, w, n):
    """Adds 4 taps to the sums of 1 output channel."""
    a, b, c, d = w[0], w[1], w[2], w[3]
    g0, g1, g2, g3 = grid[o0 : o0 + n], grid[o1 : o1 + n], grid[o2 : o2 + n], grid[o3 : o3 + n]
    for i in range(n):
        sums[i] += a * g0[i] + b * g1[i] + c * g2[i] + d * g3[i]


@helper
def taps_1x1(sums, grid, o0, w, n):
    """Adds 1 tap to the sums of 1 output channel."""
    a, g0 = w[0], grid[o0 : o0 + n]
    for i in range(n):
        sums[i] += a * g0[i]


@helper
def store_rows(sums, y, base, begin, n, out_h, out_w, strides, grid_h, grid_w, size_h, size_w, start):
    """Writes the chunk [begin, begin + n) of flat grid positions to the output channel at y[base:], without the padding's share."""
    for row in range(begin // grid_w, (begin + n - 1) // grid_w + 1):
        q_d, q_h = row // grid_h, row % grid_h
        low, high = max(begin, row * grid_w), min(begin + n, row * grid_w + size_w)
        if q_h < size_h and low < high:
            line = (q_d * strides[0] + start[0]) * out_h + q_h * strides[1] + start[1]
            to = base + line * out_w + (low - row * grid_w) * strides[2] + start[2]
            if strides[2] == 1:
                target, source = y[to : to + high - low], sums[low - begin : high - begin]
                for i in range(high - low):
                    target[i] = source[i]
            else:
                for i in range(high - low):
                    y[to + i * strides[2]] = sums[low - begin + i]


@helper(fastmath=REDUCTION)
def dots_4x4(out, at, stride, g, g_stride, grid, o0, o1, o2, o3, begin, n):
    """Adds the 16 products of 4 rows of g with 4 taps of the grid to out[at:], one row for each row of g."""
    g0, g1 = g[begin : begin + n], g[g_stride + begin : g_stride + begin + n]
    g2, g3 = g[2 * g_stride + begin : 2 * g_stride + begin + n], g[3 * g_stride + begin : 3 * g_stride + begin + n]
    o0, o1, o2, o3 = o0 + begin, o1 + begin, o2 + begin, o3 + begin
    t0, t1, t2, t3 = grid[o0 : o0 + n], grid[o1 : o1 + n], grid[o2 : o2 + n], grid[o3 : o3 + n]
    zero = g.dtype.type(0)
    a0, a1, a2, a3 = zero, zero, zero, zero
    b0, b1, b2, b3 = zero, zero, zero, zero
    c0, c1, c2, c3 = zero, zero, zero, zero
    d0, d1, d2, d3 = zero, zero, zero, zero
    for i in range(n):
        p, q, r, s = g0[i], g1[i], g2[i], g3[i]
        x0, x1, x2, x3 = t0[i], t1[i], t2[i], t3[i]
        a0 += p * x0
        a1 += p * x1
        a2 += p * x2
        a3 += p * x3
        b0 += q * x0
        b1 += q * x1
        b2 += q * x2
        b3 += q * x3
        c0 += r * x0
        c1 += r * x1
        c2 += r * x2
        c3 += r * x3
        d0 += s * x0
        d1 += s * x1
        d2 += s * x2
        d3 += s * x3
    add_four(out, at, a0, a1, a2, a3)
    add_four(out, at + stride, b0, b1, b2, b3)
    add_four(out, at + 2 * stride, c0, c1, c2, c3)
    add_four(out, at + 3 * stride, d0, d1, d2, d3)


@helper
def add_four(out, at, v0, v1, v2, v3):
    """Adds four numbers to out[at : at + 4]."""
    out[at] += v0
    out[at + 1] += v1
    out[at + 2] += v2
    out[at + 3] += v3


@helper(fastmath=REDUCTION)
def dots_1x4(out, at, g, grid, o0, o1, o2, o3, begin, n):
    """Adds the products of one row of g with 4 taps of the grid to out[at : at + 4]."""
    g0 = g[begin : begin + n]
    o0, o1, o2, o3 = o0 + begin, o1 + begin, o2 + begin, o3 + begin
    t0, t1, t2, t3 = grid[o0 : o0 + n], grid[o1 : o1 + n], grid[o2 : o2 + n], grid[o3 : o3 + n]
    zero = g.dtype.type(0)
    a0, a1, a2, a3 = zero, zero, zero, zero
    for i in range(n):
        p = g0[i]
        a0 += p * t0[i]
        a1 += p * t1[i]
        a2 += p * t2[i]
        a3 += p * t3[i]
    add_four(out, at, a0, a1, a2, a3)


# ---- the kernels ----------------------------------------------------------------------------------------------------------


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


@kernel(fastmath={"contract"})
def convolve_rows(
    x, packed, bias, y, images, groups, channels, rows, block, parts, shares, layout, copy, channel, phases, offsets, out_sizes, strides
):
    """y[image, group, row] = bias + the taps of every phase. Jobs are (image, group, part of the rows), split evenly over `shares`."""
    blocks = (rows + block - 1) // block
    jobs = images * groups * parts
    area_in, area_out = layout[0] * layout[1] * layout[2], out_sizes[0] * out_sizes[1] * out_sizes[2]
    grid_h, grid_w = layout[13], layout[14]
    per_group = offsets.size * blocks * block
    for share in prange(shares):
        scratch = np.empty(channels * channel if copy else 1, x.dtype)
        sums = np.empty(4 * CHUNK, x.dtype)
        for job in range(jobs * share // shares, jobs * (share + 1) // shares):
            part, plane = job % parts, job // parts
            g = plane % groups
            begin = plane * channels * area_in
            if copy:
                fill_grid(x, begin, channels, layout, scratch)
                grid = scratch
            else:
                grid = x[begin : begin + channels * area_in]
            for f in range(phases.shape[0]):
                first, count, length = phases[f, 0], phases[f, 1], phases[f, 8]
                for b in range(blocks * part // parts, blocks * (part + 1) // parts):
                    weights = packed[g * per_group + (first * blocks + b * count) * block :]
                    for start in range(0, length, CHUNK):
                        n = min(CHUNK, length - start)
                        for r in range(block):
                            row = b * block + r
                            sums[r * CHUNK : r * CHUNK + n] = bias[g * rows + row] if row < rows and bias.size else 0
                        here = grid[start:]
                        whole = count - count % 4
                        if block == 4:
                            for k in range(0, whole, 4):
                                o = offsets[first + k : first + k + 4]
                                taps_4x4(sums, here, o[0], o[1], o[2], o[3], weights[4 * k : 4 * k + 16], n)
                            for k in range(whole, count):
                                taps_4x1(sums, here, offsets[first + k], weights[4 * k : 4 * k + 4], n)
                        else:
                            for k in range(0, whole, 4):
                                o = offsets[first + k : first + k + 4]
                                taps_1x4(sums, here, o[0], o[1], o[2], o[3], weights[k : k + 4], n)
                            for k in range(whole, count):
                                taps_1x1(sums, here, offsets[first + k], weights[k : k + 1], n)
                        for r in range(min(block, rows - b * block)):
                            base = (plane * rows + b * block + r) * area_out
                            store_rows(
                                sums[r * CHUNK : r * CHUNK + n], y, base, start, n, out_sizes[1], out_sizes[2], strides, grid_h,
                                grid_w, phases[f, 3], phases[f, 4], phases[f, 5:8],
                            )  # fmt: skip


@kernel(fastmath={"contract"})
def correlate_rows(
    grad_output, x, private, images, groups, channels, rows, block, by_image, by_rows, layout, copy, channel, phases, offsets, out_sizes
):
    """Weight gradients: every output row's gradient times every tap. A share is (part of the images, part of the row blocks)."""
    blocks = (rows + block - 1) // block
    area_in, area_out = layout[0] * layout[1] * layout[2], out_sizes[0] * out_sizes[1] * out_sizes[2]
    grid_h, grid_w, length = layout[13], layout[14], phases[0, 8]
    taps = offsets.size
    plain = out_sizes[1] == grid_h and out_sizes[2] == grid_w
    for share in prange(by_image * by_rows):
        i, j = share // by_rows, share % by_rows
        low, high = blocks * j // by_rows, blocks * (j + 1) // by_rows
        scratch = np.empty(channels * channel if copy else 1, x.dtype)
        padded = np.zeros(block * (high - low) * length, x.dtype)
        out = private[i]
        for image in range(images * i // by_image, images * (i + 1) // by_image):
            for g in range(groups):
                plane = image * groups + g
                begin = plane * channels * area_in
                if copy:
                    fill_grid(x, begin, channels, layout, scratch)
                    grid = scratch
                else:
                    grid = x[begin : begin + channels * area_in]
                for row in range(low * block, min(rows, high * block)):
                    line = (row - low * block) * length
                    source = (plane * rows + row) * area_out
                    if plain:
                        padded[line : line + length] = grad_output[source : source + length]
                    else:
                        for d in range(out_sizes[0]):
                            for h in range(out_sizes[1]):
                                to = line + (d * grid_h + h) * grid_w
                                begin = source + (d * out_sizes[1] + h) * out_sizes[2]
                                target, found = padded[to : to + out_sizes[2]], grad_output[begin : begin + out_sizes[2]]
                                for w in range(out_sizes[2]):
                                    target[w] = found[w]
                for start in range(0, length, 2 * CHUNK):
                    n = min(2 * CHUNK, length - start)
                    for b in range(low, high):
                        at = (g * blocks + b) * block * taps
                        lines = padded[(b - low) * block * length :]
                        for k in range(0, taps, 4):
                            o0, o1, o2, o3 = offsets[k], offsets[k + 1], offsets[k + 2], offsets[k + 3]
                            if block == 4:
                                dots_4x4(out, at + k, taps, lines, length, grid, o0, o1, o2, o3, start, n)
                            else:
                                dots_1x4(out, at + k, lines, grid, o0, o1, o2, o3, start, n)


# ---- the seam -------------------------------------------------------------------------------------------------------------


def _unsupported(*arrays) -> bool:
    return any(a is not None and (a.dtype.kind != "f" or a.dtype.itemsize < 4 or not a.size) for a in arrays)


def _shares(work: int) -> int:
    return 1 if work < _SERIAL_BELOW else threads.get_num_threads()


def _rows_kernel(operand, weight_view, strides, bias, y, images, groups, channels, rows, grid: Grid, out_sizes, out_strides):
    """Packs the weights and runs `convolve_rows`, in parallel where the work is worth it."""
    block = 1 if rows == 1 else 4
    blocks = -(-rows // block)
    work = images * groups * rows * grid.offsets.size * math.prod(out_sizes) // math.prod(out_strides)
    shares = _shares(work)
    run = convolve_rows if shares > 1 else convolve_rows.serial
    pack = pack_weights if weight_view.size > 1 << 16 else pack_weights.serial
    packed = np.empty(groups * blocks * block * grid.offsets.size, y.dtype)
    pack(weight_view, groups, rows, block, strides, grid.phases, grid.taps, packed)
    parts = min(blocks, -(-shares // (images * groups)))
    run(
        operand, packed, bias, y.reshape(-1), images, groups, channels, rows, block, parts, shares, grid.layout, grid.copy,
        grid.channel, grid.phases, grid.offsets, np.array(out_sizes, np.int64), np.array(out_strides, np.int64),
    )  # fmt: skip
    return y


def conv_forward(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """The convolution (see `tinygrad_cv.conv2d`) of float32 or float64 arrays; NotImplemented for others and empty ones."""
    if _unsupported(input, weight, bias):
        return NotImplemented
    rank, lead = weight.ndim - 2, input.shape[: 1 - weight.ndim]
    before = [p for p, _ in padding_pairs(padding)]
    sizes, kernel_size = _three(input.shape[-rank:], 1), _three(weight.shape[2:], 1)
    totals = _three([a + b for a, b in padding_pairs(padding)], 0)
    stride, dilation = _three(stride, 1), _three(dilation, 1)
    out = tuple((n + p - d * (k - 1) - 1) // s + 1 for n, p, d, k, s in zip(sizes, totals, dilation, kernel_size, stride, strict=True))
    rows, channels = weight.shape[0] // groups, weight.shape[1]
    grid = forward_grid(channels, sizes, out, kernel_size, stride, _three(before, 0), dilation)
    y = np.empty((*lead, weight.shape[0], *out[3 - rank :]), input.dtype)
    taps = math.prod(kernel_size)
    strides = np.array([rows * channels * taps, channels * taps, taps], np.int64)
    flat_bias = np.empty(0, input.dtype) if bias is None else np.ascontiguousarray(bias)
    images = math.prod(lead)
    return _rows_kernel(
        np.ascontiguousarray(input).reshape(-1), np.ascontiguousarray(weight).reshape(-1), strides, flat_bias, y, images, groups,
        channels, rows, grid, out, (1, 1, 1),
    )  # fmt: skip


def _input_grad(grad_output, weight, bias, input_size, stride, padding, dilation, groups):
    rank, lead = weight.ndim - 2, grad_output.shape[: 1 - weight.ndim]
    before = _three([p for p, _ in padding_pairs(padding)], 0)
    sizes, kernel_size, out = _three(input_size, 1), _three(weight.shape[2:], 1), _three(grad_output.shape[-rank:], 1)
    stride, dilation = _three(stride, 1), _three(dilation, 1)
    filters, rows = weight.shape[0] // groups, weight.shape[1]
    grid = backward_grid(filters, sizes, out, kernel_size, stride, before, dilation)
    x = np.empty((*lead, rows * groups, *input_size), grad_output.dtype)
    taps = math.prod(kernel_size)
    strides = np.array([filters * rows * taps, taps, rows * taps], np.int64)
    flat_bias = np.empty(0, x.dtype) if bias is None else np.ascontiguousarray(bias)
    return _rows_kernel(
        np.ascontiguousarray(grad_output).reshape(-1), np.ascontiguousarray(weight).reshape(-1), strides, flat_bias, x,
        math.prod(lead), groups, filters, rows, grid, sizes, stride,
    )  # fmt: skip


def conv_input_grad(grad_output, weight, input_size, stride=1, padding=0, dilation=1, groups=1):
    """The adjoint of `conv_forward` in the input: an array with spatial sizes `input_size`."""
    if _unsupported(grad_output, weight):
        return NotImplemented
    return _input_grad(grad_output, weight, None, input_size, stride, padding, dilation, groups)


def conv_transpose(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """The transposed convolution (see `tinygrad_cv.conv_transpose2d`): `conv_input_grad` with a bias."""
    if _unsupported(input, weight, bias):
        return NotImplemented
    each = zip(input.shape[2 - weight.ndim :], stride, padding, output_padding, dilation, weight.shape[2:], strict=True)
    sizes = tuple((n - 1) * s - 2 * p + d * (k - 1) + extra + 1 for n, s, p, extra, d, k in each)
    return _input_grad(input, weight, bias, sizes, stride, padding, dilation, groups)


def conv_weight_grad(grad_output, input, kernel_size, stride=1, padding=0, dilation=1, groups=1):
    """The adjoint of `conv_forward` in the weight: an array (filters, channels / groups, *kernel_size)."""
    if _unsupported(grad_output, input):
        return NotImplemented
    rank = len(kernel_size)
    lead = input.shape[: -rank - 1]
    before = _three([p for p, _ in padding_pairs(padding)], 0)
    sizes, kernel, out = _three(input.shape[-rank:], 1), _three(kernel_size, 1), _three(grad_output.shape[-rank:], 1)
    rows, channels = grad_output.shape[-rank - 1] // groups, input.shape[-rank - 1] // groups
    grid = forward_grid(channels, sizes, out, kernel, _three(stride, 1), before, _three(dilation, 1))
    images, taps, block = math.prod(lead), grid.offsets.size, 1 if rows == 1 else 4
    blocks = -(-rows // block)
    shares = _shares(images * groups * rows * taps * math.prod(out))
    by_image = min(images, shares)
    by_rows = min(blocks, -(-shares // by_image))
    offsets = np.pad(grid.offsets, (0, -taps % 4), mode="edge")
    private = np.zeros((by_image, groups * blocks * block * offsets.size), input.dtype)
    run = correlate_rows if shares > 1 else correlate_rows.serial
    run(
        np.ascontiguousarray(grad_output).reshape(-1), np.ascontiguousarray(input).reshape(-1), private, images, groups, channels,
        rows, block, by_image, by_rows, grid.layout, grid.copy, grid.channel, grid.phases, offsets, np.array(out, np.int64),
    )  # fmt: skip
    total = private[0] if by_image == 1 else private.sum(axis=0)
    total = total.reshape(groups, blocks * block, offsets.size)[:, :rows, :taps]
    return np.ascontiguousarray(total).reshape(groups * rows, channels, *kernel_size)
